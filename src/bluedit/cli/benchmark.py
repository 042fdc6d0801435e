"""The commands that measure: `benchmark` and `report`."""

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
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run; an interrupted run there goes on.")],
    facts: Annotated[str, typer.Option(help=SOURCE)] = "world:100",
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            "--recipe",
            "-r",
            help=f"NAME or NAME:option=value,option=value (layers as 4+8); 'unedited' too. May be repeated. Default: unedited and {DEFAULT}.",
        ),
    ] = None,
    model: Model = "smollm2",
    suite: Annotated[
        list[str] | None,
        typer.Option(help=f"Metrics: {', '.join(SUITES)}. May be repeated. Default: counterfact."),
    ] = None,
    format: Format = None,
    limit: Limit = None,
    skip: Skip = 0,
    seed: Seed = 0,
    batch_size: Annotated[int, typer.Option(help="Facts written at once.")] = 100,
    every: Annotated[int, typer.Option(help="Batches between measurements.")] = 1,
    passages: Annotated[
        Path | None,
        typer.Option(help="Ordinary text for perplexity: JSONL with a 'text' field, or text. Default: bundled."),
    ] = None,
    passage_tokens: Annotated[int, typer.Option(help="Tokens of it at most.")] = 8000,
    corpus: Annotated[str, typer.Option(help="Text for key statistics, as for edit.")] = "self",
    tokens: Annotated[int | None, typer.Option(help="Tokens of it. Default: 10 x d_key.")] = None,
    ability: Annotated[
        list[str] | None,
        typer.Option(
            help="General ability half-way and after the last batch: TASK=FILE (sst2, mrpc, cola, rte, nli, mmlu). May be repeated."
        ),
    ] = None,
    targets: Annotated[Path | None, typer.Option(help="Folder of optimised targets shared with other runs.")] = None,
    then_finetune: Annotated[
        int,
        typer.Option(
            help="Afterwards train on for so many steps, on what --passages holds beyond --passage-tokens, and measure again."
        ),
    ] = 0,
    finetune_rate: Annotated[float, typer.Option(help="Learning rate of that training.")] = 2e-5,
    dtype: Dtype = None,
    device: Device = "auto",
) -> None:
    """Recipes side by side: sequential batches, measured as they come. Killed at any moment it goes on where it was."""
    from bluedit.benchmark import UNEDITED, Benchmark, run_benchmark
    from bluedit.evaluate.training import Training
    from bluedit.model.loading import load
    from bluedit.text.corpus import passages_of

    wanted = Benchmark(
        facts=read_source(facts, format, limit, skip, seed),
        recipes=recipe or (UNEDITED, DEFAULT),
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
        fail("interrupted; finished batches stay, run the same again to go on", 130)
    typer.echo((out / "results.md").read_text("utf-8"), nl=False)


def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of benchmarks, finished or still running.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The page to write.")] = Path("report.html"),
) -> None:
    """Benchmarks as one HTML page: tables with intervals, curves, and every fact. It needs no network to look at."""
    from bluedit.benchmark.page import write_page

    typer.echo(f"Look at {write_page(runs, out)}")


def metrics(markdown: Annotated[bool, typer.Option("--markdown", help="As Markdown.")] = False) -> None:
    """What each metric means, where it comes from, and whether it is teacher-forced."""
    from bluedit.cli import reference as methods
    from bluedit.cli.tables import metric_table

    if markdown:
        typer.echo(methods.metric_markdown(), nl=False)
    else:
        Console().print(metric_table())
