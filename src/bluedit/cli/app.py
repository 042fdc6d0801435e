"""The command line: each command reads its options, calls the library, prints tables."""

from __future__ import annotations

import logging
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from bluedit.cli.benchmark import benchmark, metrics, report
from bluedit.cli.common import (
    SOURCE,
    Device,
    Dtype,
    Force,
    Format,
    Limit,
    Model,
    Seed,
    Skip,
    bars,
    fail,
    gather,
    read_source,
    settings_of,
)
from bluedit.cli.harness import harness
from bluedit.errors import BluEditError, FactError, ModelError, out_of_memory
from bluedit.methods.presets import DEFAULT
from bluedit.progress import as_progress


class _Polite(TyperGroup):
    """Errors of any command are one sentence on standard error and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BluEditError as error:
            fail(str(error), error.exit_code)
        except KeyboardInterrupt:
            fail("interrupted; nothing was changed", 130)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            fail("not enough memory; use a smaller --batch-size, or --dtype bfloat16", ModelError.exit_code)


app = typer.Typer(
    name="bluedit",
    cls=_Polite,
    help="Edit facts in the weights of Hugging Face language models: locate-then-edit, with BLUE by default.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


app.command()(benchmark)
app.command()(report)
app.command()(metrics)
app.command()(harness)


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bluedit {version('bluedit')}")
        raise typer.Exit


@app.callback()
def setup(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say what is going on.")] = False,
    threads: Annotated[int | None, typer.Option(help="Processor threads to use.", min=1)] = None,
    _version: Annotated[
        bool, typer.Option("--version", help="Say which version this is.", callback=_tell_version, is_eager=True)
    ] = False,
) -> None:
    """Common to all commands."""
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(message)s", stream=sys.stderr)
    if threads:
        import torch

        torch.set_num_threads(threads)


@app.command()
def edit(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the patch.")],
    model: Model = "smollm2",
    fact: Annotated[
        list[str] | None,
        typer.Option("--fact", "-f", help="A fact: 'The capital of {France} is => Rome'. May be repeated."),
    ] = None,
    facts: Annotated[
        str | None,
        typer.Option(help=SOURCE),
    ] = None,
    format: Format = None,
    limit: Limit = None,
    skip: Skip = 0,
    seed: Seed = 0,
    recipe: Annotated[
        str, typer.Option("--recipe", "-r", help=f"A method; 'bluedit recipes' lists them. Default: {DEFAULT}.")
    ] = DEFAULT,
    batch_size: Annotated[int | None, typer.Option(help="Facts written at once. Default: all.")] = None,
    set: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            "-s",
            help="An option of the recipe: layers=4,8 or preserve.lambda=500. May be repeated; 'bluedit recipes --options' lists them.",
        ),
    ] = None,
    known: Annotated[
        str, typer.Option(help="Facts the model says already: refuse, skip, or edit them all the same.")
    ] = "refuse",
    patch: Annotated[Path | None, typer.Option(help="An earlier patch to build on; the new one contains it.")] = None,
    corpus: Annotated[
        str, typer.Option(help="Text for key statistics: self (sampled from the model), a file or folder, hf:DATASET.")
    ] = "self",
    tokens: Annotated[int | None, typer.Option(help="Tokens of it. Default: 10 x d_key.")] = None,
    dtype: Dtype = None,
    device: Device = "auto",
    report: Annotated[bool, typer.Option(help="Measure before and after.")] = True,
) -> None:
    """Make a model say something else, and keep the change as a patch. The model on disk is not touched."""
    from bluedit.editing.editor import Editor
    from bluedit.editing.patch import check_place
    from bluedit.methods.presets import preset

    console = Console()
    check_place(out)
    preset(recipe)
    wanted = gather(fact, facts, format, limit, skip, seed)
    editor = Editor.load(model, dtype=dtype, device=device, corpus=corpus, tokens=tokens, progress=bars())
    if patch:
        editor.apply(patch)
    done = editor.edit(wanted, recipe, batch_size=batch_size, settings=settings_of(set), known=known, report=report)
    editor.patch.save(out)
    _show_edit(console, done)
    console.print(f"Patch written to {out}. The model itself is unchanged; try:")
    name = f" --model {model}" if model != "smollm2" else ""
    console.print(
        f'  bluedit ask{name} --patch {out} "{done.facts[0].text}"', soft_wrap=True, highlight=False, markup=False
    )


@app.command()
def show(patch: Annotated[Path, typer.Argument(help="Folder of a patch.")]) -> None:
    """What a patch changes: facts, layers, norms, recipe, and the model it belongs to."""
    from bluedit.cli.tables import patch_tables
    from bluedit.editing.patch import Patch
    from bluedit.evaluate.tables import edit_table

    console = Console()
    loaded = Patch.load(patch)
    for part in patch_tables(loaded):
        console.print(part)
    for origin in loaded.origins:
        if origin.report:
            console.print(edit_table(origin.report))


@app.command()
def apply(
    patch: Annotated[Path, typer.Argument(help="Folder of a patch.")],
    save: Annotated[Path, typer.Option(help="New folder for the edited model.")],
    model: Model = "smollm2",
    force: Force = False,
    dtype: Dtype = None,
    device: Device = "auto",
) -> None:
    """Write a patch into a copy of the model and save it as an ordinary Hugging Face checkpoint."""
    from bluedit.editing.editor import Editor
    from bluedit.editing.patch import Patch
    from bluedit.export.checkpoint import check_free

    check_free(save)
    loaded = Patch.load(patch)
    editor = Editor.load(model, dtype=dtype, device=device, progress=bars())
    editor.apply(loaded, force=force)
    editor.save_model(save)
    Console().print(f"{len(loaded.facts)} facts written; edited model saved to {save}")


@app.command()
def ask(
    prompts: Annotated[list[str], typer.Argument(help="One or more prompts to continue.")],
    model: Model = "smollm2",
    patch: Annotated[Path | None, typer.Option(help="Also ask the model with this patch.")] = None,
    tokens: Annotated[int, typer.Option(help="Length of the continuation.", min=1)] = 20,
    force: Force = False,
    dtype: Dtype = None,
    device: Device = "auto",
) -> None:
    """What the model says: greedy continuation and most probable next tokens, with and without a patch side by side."""
    from bluedit.cli.tables import ask_table
    from bluedit.editing.editor import Editor
    from bluedit.editing.patch import Patch
    from bluedit.evaluate.generate import ask as ask_model

    if any(not prompt.strip() for prompt in prompts):
        raise FactError("a prompt is empty; write the text the model is to continue")
    loaded = Patch.load(patch) if patch else None
    editor = Editor.load(model, dtype=dtype, device=device, progress=bars())
    before, after = ask_model(editor.lm, prompts, tokens), None
    if loaded:
        editor.apply(loaded, force=force)
        after = ask_model(editor.lm, prompts, tokens)
    Console().print(ask_table(before, after))


@app.command()
def recipes(
    options: Annotated[bool, typer.Option("--options", help="List what --set can change.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Both tables as Markdown.")] = False,
) -> None:
    """The table of methods, with their papers."""
    from bluedit.cli import reference as methods
    from bluedit.cli.tables import option_table, recipe_table
    from bluedit.methods.presets import PRESETS

    if markdown:
        typer.echo(methods.markdown(), nl=False)
    else:
        Console().print(option_table() if options else recipe_table(PRESETS.values()))


@app.command()
def facts(
    source: Annotated[str, typer.Argument(help=SOURCE)],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write them as JSONL in bluedit's own format.")
    ] = None,
    format: Format = None,
    limit: Limit = None,
    skip: Skip = 0,
    seed: Seed = 0,
) -> None:
    """Check a file of facts, show it, or convert it; without a model."""
    from bluedit.cli.tables import facts_table
    from bluedit.facts import write_facts
    from bluedit.facts.fact import conflicts, some_of

    found = read_source(source, format, limit, skip, seed)
    if clashes := conflicts(found):
        logging.getLogger(__name__).warning(
            "%d facts repeat or contradict earlier ones; an edit refuses that, a benchmark lets the later one win:\n%s",
            len(clashes),
            some_of(clashes),
        )
    if out:
        write_facts(out, found)
    Console().print(f"{len(found)} facts written to {out}" if out else facts_table(found))


@app.command()
def fetch(model: Annotated[str, typer.Argument(help="As for --model.")] = "smollm2") -> None:
    """Load a model once, so that it is converted and cached, and say what bluedit sees in it."""
    from bluedit.methods.tunings import tuning_for
    from bluedit.model.loading import load

    lm = load(model, progress=as_progress(bars()))
    tuning = tuning_for(lm.model.config.get_text_config(), lm.d_key)
    Console().print(
        f"{model}: {type(lm.model).__name__}, {lm.anatomy.n_layers} layers, d_key {lm.d_key}, {lm.dtype}; "
        f"layers {list(tuning.set['layers'])} will be edited (tuning {tuning.name}: {tuning.source})"
    )


@app.command()
def demo(out: Annotated[Path, typer.Option(help="Folder for the patch.")] = Path("demo-patch")) -> None:
    """Edit twelve facts of a real model, show what changed, and undo it."""
    from bluedit.cli.demo import run

    run(out, Console(), bars())


def main() -> None:
    """Run the command; what goes wrong is said in `_Polite`."""
    app()


def _show_edit(console: Console, done: Any) -> None:
    from bluedit.evaluate.tables import edit_table

    if done.report:
        console.print(edit_table(done.report.as_dict()))
    else:
        console.print(done.summary())
