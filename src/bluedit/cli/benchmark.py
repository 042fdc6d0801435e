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
    bars,
    execution_of,
    load_model,
    read_source,
    settings_of,
)
from bluedit.cli.output import fail, say
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
            help=f"NAME, NAME:option=value,option=value (layers as 4+8), or 'unedited'. May be repeated. Default: unedited and {BENCHMARKED}.",
            rich_help_panel=METHOD,
        ),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(metavar="N", help="Number of facts written at once.", rich_help_panel=METHOD)
    ] = 100,
    suite: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help=f"What to measure: {', '.join(SUITES)}. May be repeated. Default: counterfact.",
            rich_help_panel=MEASURED,
        ),
    ] = None,
    every: Annotated[
        int, typer.Option(metavar="N", help="Measure after every N batches.", rich_help_panel=MEASURED)
    ] = 1,
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

    Each recipe writes the same facts, batch after batch. You can interrupt a benchmark at any time. The same command then continues after
    the last finished batch.
    """
    from bluedit.benchmark.entry import UNEDITED
    from bluedit.benchmark.plan import Benchmark
    from bluedit.benchmark.run import run_benchmark
    from bluedit.evaluate.data import Training
    from bluedit.progress import as_progress
    from bluedit.text.corpus import passages_of

    execution = execution_of(precision, tokens_per_step, statistics_device)
    plan = Benchmark(
        facts=read_source(facts, format, limit, skip, seed, bad_records),
        entries=recipe or (UNEDITED, BENCHMARKED),
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
    plan.check()
    lm = load_model(model, dtype, device, trust_remote_code)
    try:
        run_benchmark(lm, plan, out, as_progress(bars()), execution=execution)
    except KeyboardInterrupt:
        fail("interrupted; finished batches are kept. Run the same command again to continue", 130)
    say((out / "results.md").read_text("utf-8").rstrip("\n"))


def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of benchmarks, finished or still running.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="HTML file to write.")] = Path("report.html"),
) -> None:
    """Show benchmarks on one HTML page.

    The page has tables with confidence intervals, curves, and the results of every fact. It works offline.
    """
    from bluedit.benchmark.page import write_page

    say(f"Page written to {write_page(runs, out)}")
