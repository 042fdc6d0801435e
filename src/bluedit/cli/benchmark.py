"""The commands that compare recipes: `benchmark` and `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bluedit.cli.common import (
    FACTS,
    METHOD,
    RESULT,
    SOURCE,
    BadRecords,
    Corpus,
    Device,
    Dtype,
    Format,
    Limit,
    Model,
    Precision,
    Seed,
    Skip,
    StatisticsDevice,
    Tokens,
    TokensPerStep,
    TrustRemoteCode,
    check_place,
    execution_of,
    load_model,
    numbers_of,
    read_source,
    settings_of,
)
from bluedit.cli.output import interrupted, progress, say
from bluedit.errors import BenchmarkError
from bluedit.evaluate.suites import SUITES
from bluedit.methods.presets import BENCHMARKED

MEASURED = "Measurements"


def benchmark(
    *,
    facts: Annotated[str, typer.Option(metavar="SOURCE", help=SOURCE, rich_help_panel=FACTS)] = "world:100",
    format: Format = None,
    bad_records: BadRecords = "refuse",
    limit: Limit = None,
    skip: Skip = 0,
    seed: Seed = 0,
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            "--recipe",
            "-r",
            metavar="RECIPE",
            help=f"NAME, NAME:option=value,option=value (layers as 4+8), 'unedited', or what people do instead of editing: in-context, retrieval, lora. May be repeated. Default: unedited and {BENCHMARKED}.",
            rich_help_panel=METHOD,
        ),
    ] = None,
    entries: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="A ready-made list of rows: honest (BLUE, memory alone, one layer alone, replay, fine-tuning, LoRA, in-context, retrieval). Rows of --recipe are added.",
            rich_help_panel=METHOD,
        ),
    ] = None,
    front: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHAT",
            help="Vary one number of each recipe, with the same targets, and draw what is said on unseen phrasings against the drift elsewhere: strength or lambda. May be repeated.",
            rich_help_panel=METHOD,
        ),
    ] = None,
    front_values: Annotated[
        str,
        typer.Option(
            metavar="N,N,...",
            help="Values for --front: shares of the update, or multiples of lambda. 1, the recipe as it is, is always among them.",
            rich_help_panel=METHOD,
        ),
    ] = "",
    batch_size: Annotated[
        int, typer.Option(metavar="N", help="Number of facts written at once.", rich_help_panel=METHOD)
    ] = 100,
    edit_size: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Number of facts in one edit, which writes them in batches of --batch-size and ends as bluedit edit does. Default: every batch is an edit.",
            rich_help_panel=METHOD,
        ),
    ] = None,
    suite: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help=f"What to measure: {', '.join(SUITES)}. May be repeated. Default: counterfact; with --entries also generation and locality; with --front these two alone.",
            rich_help_panel=MEASURED,
        ),
    ] = None,
    every: Annotated[
        int,
        typer.Option(
            metavar="N", help="Measure after every N batches, or edits with --edit-size.", rich_help_panel=MEASURED
        ),
    ] = 1,
    at: Annotated[
        str,
        typer.Option(
            metavar="N,N,...",
            help="Measure after these numbers of facts instead, e.g. 100,300,1000.",
            rich_help_panel=MEASURED,
        ),
    ] = "",
    passages: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Ordinary text to measure perplexity on: JSONL with a field 'text', or plain text. Default: bundled passages.",
            rich_help_panel=MEASURED,
        ),
    ] = None,
    passage_tokens: Annotated[
        int, typer.Option(metavar="N", help="Use at most N tokens of that text.", rich_help_panel=MEASURED)
    ] = 8000,
    ability: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TASK=FILE",
            help="Also measure general ability, half-way and after the last batch. TASK is sst2, mrpc, cola, rte, nli or mmlu; FILE has its items. May be repeated.",
            rich_help_panel=MEASURED,
        ),
    ] = None,
    then_finetune: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="At the end, fine-tune the edited model for N steps and measure again. The training text is what follows the first --passage-tokens of --passages.",
            rich_help_panel=MEASURED,
        ),
    ] = 0,
    finetune_rate: Annotated[
        float, typer.Option(metavar="RATE", help="Learning rate of that fine-tuning.", rich_help_panel=MEASURED)
    ] = 2e-5,
    model: Model = "smollm2",
    dtype: Dtype = None,
    device: Device = "auto",
    trust_remote_code: TrustRemoteCode = False,
    corpus: Corpus = "self",
    tokens: Tokens = None,
    precision: Precision = "auto",
    tokens_per_step: TokensPerStep = 0,
    statistics_device: StatisticsDevice = "",
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER",
            help="Folder for the benchmark. If it holds an interrupted benchmark, that benchmark continues.",
            rich_help_panel=RESULT,
        ),
    ],
    plots: Annotated[
        str,
        typer.Option(
            metavar="FORMAT,...",
            help="Write the charts of --front into the folder: png, svg or pdf. Needs matplotlib.",
            rich_help_panel=RESULT,
        ),
    ] = "",
    targets: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder for optimised targets, so that several benchmarks can share them. Default: inside the benchmark's folder.",
            rich_help_panel=RESULT,
        ),
    ] = None,
) -> None:
    """Compare recipes: write many facts and measure on the way.

    Each recipe writes the same facts, batch after batch. --entries honest adds what people do instead of editing. You can interrupt a
    benchmark at any time. The same command then continues after the last finished batch.
    """
    from bluedit.benchmark.front import front_charts, points_of
    from bluedit.benchmark.plan import Benchmark
    from bluedit.benchmark.run import run_benchmark
    from bluedit.evaluate.data import Training
    from bluedit.page.plots import formats_of, write_plots
    from bluedit.text.corpus import passages_of

    execution = execution_of(precision, tokens_per_step, statistics_device)
    formats = formats_of(plots)
    plan = Benchmark(
        facts=read_source(facts, format, limit, skip, seed, bad_records),
        entries=_rows(recipe, entries),
        batch_size=batch_size,
        edit_size=edit_size,
        every=every,
        at=numbers_of(at, int, "--at"),
        suites=suite or _suites(front, entries),
        front=front or (),
        front_values=numbers_of(front_values, float, "--front-values"),
        passages=passages_of(passages) if passages else None,
        passage_tokens=passage_tokens,
        corpus=corpus,
        tokens=tokens,
        targets=targets,
        source=Path(facts).name,
        abilities={task: Path(file) for task, file in settings_of(ability, "--ability").items()},
        then_finetune=Training(then_finetune, finetune_rate) if then_finetune else None,
    )
    plan.check()
    check_place(out / "results.md", BenchmarkError)
    lm = load_model(model, dtype, device, trust_remote_code)
    try:
        rows = run_benchmark(lm, plan, out, progress(), execution=execution)
    except KeyboardInterrupt:
        interrupted("finished batches are kept. Run the same command again to continue")
    write_plots(front_charts(points_of(rows)) if front else (), out, formats)
    say((out / "results.md").read_text("utf-8").rstrip("\n"))


def _rows(recipe: list[str] | None, entries: str | None) -> list[str]:
    from bluedit.benchmark.entry import entry_list

    named = entry_list(entries) if entries else () if recipe else entry_list("default")
    return list(dict.fromkeys([*named, *(recipe or ())]))


def _suites(front: list[str] | None, entries: str | None) -> tuple[str, ...]:
    from bluedit.benchmark.front import SUITES as NEEDED

    if front:
        return NEEDED
    return (*NEEDED, "counterfact") if entries else ("counterfact",)


def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of benchmarks, finished or still running.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="HTML file to write.")] = Path("report.html"),
) -> None:
    """Show benchmarks on one HTML page.

    The page has tables with confidence intervals, curves, and the results of every fact. It works offline.
    """
    from bluedit.benchmark.page import write_page

    say(f"Page written to {write_page(runs, out)}")
