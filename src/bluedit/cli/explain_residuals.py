"""`bluedit explain residuals`: what distributing a residual costs."""

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
    read_source,
    settings_of,
)
from bluedit.cli.output import interrupted, progress, say
from bluedit.errors import ExplainError
from bluedit.methods.presets import preset

MEASURED = "Measurements"


def residuals(
    *,
    facts: Annotated[str, typer.Option(metavar="SOURCE", help=SOURCE, rich_help_panel=FACTS)] = "world:200",
    format: Format = None,
    bad_records: BadRecords = "refuse",
    limit: Limit = None,
    skip: Skip = 0,
    seed: Seed = 0,
    known: Annotated[
        str,
        typer.Option(
            metavar="refuse|skip|edit",
            help="Facts that the model says already: refuse, leave these facts out, or use them too.",
            rich_help_panel=FACTS,
        ),
    ] = "refuse",
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe",
            "-r",
            metavar="NAME",
            help="The method to analyse. Over several batches, its form with memory is compared with the BLUE variant of that form.",
            rich_help_panel=METHOD,
        ),
    ] = "memit",
    layers: Annotated[
        str | None,
        typer.Option(
            metavar="A-B", help="The critical layers, e.g. 4-8 or 4,6,8. Default: the recipe's.", rich_help_panel=METHOD
        ),
    ] = None,
    set: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            "-s",
            metavar="OPTION=VALUE",
            help="Change an option of the recipe, e.g. preserve.lambda=500. May be repeated.",
            rich_help_panel=METHOD,
        ),
    ] = None,
    batches: Annotated[
        int,
        typer.Option(
            metavar="N", help="Number of batches that a sequence is split into.", rich_help_panel=MEASURED, min=1
        ),
    ] = 4,
    fluent: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="How many facts fluency is measured on after each single-layer edit. 0: none.",
            rich_help_panel=MEASURED,
            min=0,
        ),
    ] = 25,
    sample: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="How many facts are written by several schedules and in sequences (steps, what is left, shift).",
            rich_help_panel=MEASURED,
            min=1,
        ),
    ] = 50,
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
            help="Folder for the page and the numbers. If it holds an interrupted analysis, that one continues.",
            rich_help_panel=RESULT,
        ),
    ],
    plots: Annotated[
        str,
        typer.Option(
            metavar="FORMATS",
            help="Also write every figure as files, e.g. png,svg,pdf. Needs matplotlib.",
            rich_help_panel=RESULT,
        ),
    ] = "",
) -> None:
    """Show what each layer needs and what distribution gives it.

    For each fact and critical layer a residual is optimised at that layer and compared with its share of the last layer's: what it contributes,
    what writing it does, direction and size, steps, what arrives above, and how the error grows. The model is not modified.
    """
    from bluedit.page.plots import formats_of

    formats = formats_of(plots)
    chosen = layers_of(layers)
    settings = settings_of(set)
    preset(recipe).override(settings)
    execution = execution_of(precision, tokens_per_step, statistics_device)
    from bluedit.explain.residuals import explain_residuals

    found = read_source(facts, format, limit, skip, seed, bad_records)
    check_place(out / "residuals.html", ExplainError)
    lm = load_model(model, dtype, device, trust_remote_code)
    try:
        analysis = explain_residuals(
            lm,
            found,
            out,
            recipe=recipe,
            layers=chosen,
            settings=settings,
            batches=batches,
            fluent=fluent,
            sample=sample,
            known=known,
            plots=formats,
            corpus=corpus,
            tokens=tokens,
            execution=execution,
            progress=progress(),
        )
    except KeyboardInterrupt:
        interrupted("finished stages are kept. Run the same command again to continue")
    for sentence in (*analysis.summary, *analysis.notes):
        say(sentence)
    say(f"Page written to {analysis.page}")


def layers_of(text: str | None) -> list[int] | None:
    """ "4-8" or "4,6,8" as layer numbers. Raises ExplainError for anything else."""
    if text is None:
        return None
    first, dash, last = text.partition("-")
    try:
        if dash:
            found = list(range(int(first), int(last) + 1))
            if not found:
                raise ExplainError(f"--layers is {text!r}; write the lower layer first: {last.strip()}-{first.strip()}")
            return found
        return [int(part) for part in text.replace("+", ",").split(",")]
    except ValueError:
        raise ExplainError(
            f"--layers is {text!r}; write the first and the last layer, e.g. 4-8, or a list, e.g. 4,6,8"
        ) from None
