"""`bluedit tune`: find layers and numbers for a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bluedit.cli.common import (
    FACTS,
    METHOD,
    RESULT,
    BadRecords,
    Corpus,
    Device,
    Dtype,
    Format,
    Limit,
    Precision,
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
from bluedit.methods.presets import DEFAULT, preset

EFFORT = "Effort"


def tune(
    model: Annotated[str, typer.Argument(help="smollm2 (built in), a Hugging Face folder, a .gguf file, or a hub id.")],
    *,
    minutes: Annotated[
        float,
        typer.Option(
            metavar="N",
            help="About how many minutes this call may take. The first trial and the final comparison always run.",
            rich_help_panel=EFFORT,
        ),
    ] = 15.0,
    trials: Annotated[
        int | None,
        typer.Option(metavar="N", help="Stop after N trials. Default: when the time is up.", rich_help_panel=EFFORT),
    ] = None,
    search: Annotated[
        int, typer.Option(metavar="N", help="How many facts each trial is scored on.", rich_help_panel=EFFORT)
    ] = 16,
    unseen: Annotated[
        int,
        typer.Option(
            metavar="N", help="How many further facts are used for the final comparison.", rich_help_panel=EFFORT
        ),
    ] = 24,
    traced: Annotated[
        int,
        typer.Option(metavar="N", help="How many known facts to trace. 0: no causal tracing.", rich_help_panel=EFFORT),
    ] = 6,
    probed: Annotated[int, typer.Option(metavar="N", help="Probe at most N layers.", rich_help_panel=EFFORT)] = 6,
    seed: Annotated[
        int,
        typer.Option(metavar="N", help="Seed of the search and of the choice of facts.", rich_help_panel=EFFORT),
    ] = 0,
    facts: Annotated[
        str,
        typer.Option(
            metavar="SOURCE",
            help="Facts to tune on: a file (see docs/facts.md), hf:DATASET, or world for bundled ones.",
            rich_help_panel=FACTS,
        ),
    ] = "world",
    format: Format = None,
    bad_records: BadRecords = "refuse",
    limit: Limit = None,
    skip: Skip = 0,
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe", "-r", metavar="NAME", help="The recipe whose options are tuned.", rich_help_panel=METHOD
        ),
    ] = DEFAULT,
    set: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            "-s",
            metavar="OPTION=VALUE",
            help="Change an option of the recipe before the search. May be repeated.",
            rich_help_panel=METHOD,
        ),
    ] = None,
    tuning: Annotated[
        str,
        typer.Option(
            metavar="FILE", help="Start from this tuning.toml instead of the bundled numbers.", rich_help_panel=METHOD
        ),
    ] = "bundled",
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
            help="Folder for tuning.toml, the page and the trials. If it holds an earlier search, that one continues.",
            rich_help_panel=RESULT,
        ),
    ],
    keep: Annotated[
        bool,
        typer.Option(
            help="If the result is better, keep it in your data folder, where later edits of this model find it.",
            rich_help_panel=RESULT,
        ),
    ] = True,
    plots: Annotated[
        str,
        typer.Option(
            metavar="FORMATS", help="Also write the figures as files, e.g. png,svg,pdf.", rich_help_panel=RESULT
        ),
    ] = "",
) -> None:
    """Find layers and numbers for a model.

    Layers are traced and probed, then settings are tried on the same facts, and the best one is compared with the present numbers on other
    facts. A better result is kept for later edits. The model is not modified.
    """
    from bluedit.page.plots import formats_of

    formats = formats_of(plots)
    settings = settings_of(set)
    preset(recipe).override(settings)
    execution = execution_of(precision, tokens_per_step, statistics_device)
    from bluedit.tuning.finding import Effort, find_tuning

    effort = Effort(minutes, trials, search, unseen, traced, probed, seed)
    given = None if facts == "world" else read_source(facts, format, limit, skip, seed, bad_records)
    check_place(out / "tuning.toml", ExplainError)
    lm = load_model(model, dtype, device, trust_remote_code)
    try:
        found = find_tuning(
            lm,
            out,
            facts=given,
            recipe=recipe,
            settings=settings,
            effort=effort,
            tuning=tuning,
            keep=keep,
            plots=formats,
            corpus=corpus,
            tokens=tokens,
            execution=execution,
            progress=progress(),
        )
    except KeyboardInterrupt:
        interrupted("finished trials are kept. Run the same command again to continue")
    for sentence in found.summary:
        say(sentence)
    say(f"Tuning written to {found.file}\nPage written to {found.page}")
    if found.kept:
        say(f"Kept for later edits of this model: {found.kept}")
