"""The commands that measure: `benchmark`, `report` and `metrics`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bluedit.cli.common import (
    SOURCE,
    Device,
    Dtype,
    Format,
    Limit,
    Model,
    Seed,
    Skip,
    bars,
    fail,
    read_source,
    settings_of,
)
from bluedit.evaluate.suites import SUITES
from bluedit.methods.presets import DEFAULT
from bluedit.progress import as_progress


def benchmark(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The benchmark's folder. An interrupted benchmark in it goes on.")
    ],
    facts: Annotated[str, typer.Option(help=SOURCE)] = "world:100",
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            "--recipe",
            "-r",
            help=f"NAME or NAME:option=value,option=value (layers as 4+8), or 'unedited'. May be repeated. Default: unedited and {DEFAULT}.",
        ),
    ] = None,
    model: Model = "smollm2",
    suite: Annotated[
        list[str] | None,
        typer.Option(help=f"What to measure: {', '.join(SUITES)}. May be repeated. Default: counterfact."),
    ] = None,
    format: Format = None,
    limit: Limit = None,
    skip: Skip = 0,
    seed: Seed = 0,
    batch_size: Annotated[int, typer.Option(help="Facts written at once.")] = 100,
    every: Annotated[int, typer.Option(help="Batches between measurements.")] = 1,
    passages: Annotated[
        Path | None,
        typer.Option(
            help="File of ordinary text for perplexity: JSONL with a 'text' field, or plain text. Default: bundled passages."
        ),
    ] = None,
    passage_tokens: Annotated[int, typer.Option(help="Tokens of --passages to measure on, at most.")] = 8000,
    corpus: Annotated[str, typer.Option(help="Text for key statistics, as for 'bluedit edit'.")] = "self",
    tokens: Annotated[int | None, typer.Option(help="Tokens of --corpus to use. Default: 10 x d_key.")] = None,
    ability: Annotated[
        list[str] | None,
        typer.Option(
            help="Measure general ability half-way and after the last batch: TASK=FILE (sst2, mrpc, cola, rte, nli, mmlu). May be repeated."
        ),
    ] = None,
    targets: Annotated[
        Path | None, typer.Option(help="Folder of optimised targets, shared with other benchmarks.")
    ] = None,
    then_finetune: Annotated[
        int,
        typer.Option(
            help="Afterwards fine-tune for this many steps on what --passages holds beyond --passage-tokens, and measure again."
        ),
    ] = 0,
    finetune_rate: Annotated[float, typer.Option(help="Learning rate of that fine-tuning.")] = 2e-5,
    dtype: Dtype = None,
    device: Device = "auto",
) -> None:
    """Compare recipes: write facts in sequential batches and measure along the way. Interrupted at any moment, it goes on where it was."""
    from bluedit.benchmark.entry import UNEDITED
    from bluedit.benchmark.plan import Benchmark
    from bluedit.benchmark.run import run_benchmark
    from bluedit.evaluate.data import Training
    from bluedit.model.loading import load
    from bluedit.text.corpus import passages_of

    wanted = Benchmark(
        facts=read_source(facts, format, limit, skip, seed),
        entries=recipe or (UNEDITED, DEFAULT),
        batch_size=batch_size,
        every=every,
        suites=suite or ("counterfact",),
        passages=passages_of(passages) if passages else None,
        passage_tokens=passage_tokens,
        corpus=corpus,
        tokens=tokens,
        targets=targets,
        source=Path(facts).name,
        abilities={task: Path(file) for task, file in settings_of(ability, "--ability").items()},
        then_finetune=Training(then_finetune, finetune_rate) if then_finetune else None,
    )
    wanted.check()
    lm = load(model, dtype=dtype, device=device, progress=as_progress(bars()))
    try:
        run_benchmark(lm, wanted, out, as_progress(bars()))
    except KeyboardInterrupt:
        fail("interrupted; finished batches stay. Run the same command again to go on", 130)
    typer.echo((out / "results.md").read_text("utf-8"), nl=False)


def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of benchmarks, finished or still running.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write the page to.")] = Path("report.html"),
) -> None:
    """Make one HTML page of some benchmarks: tables with intervals, curves, and every fact. The page needs no network."""
    from bluedit.benchmark.page import write_page

    typer.echo(f"Page written to {write_page(runs, out)}")


def metrics(markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False) -> None:
    """List the metrics: what each means, where it comes from, and whether it is teacher-forced."""
    from bluedit.cli import reference as methods
    from bluedit.cli.tables import metric_table

    if markdown:
        typer.echo(methods.metric_markdown(), nl=False)
    else:
        Console().print(metric_table())
