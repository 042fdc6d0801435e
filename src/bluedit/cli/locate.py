"""`bluedit locate`: where a model keeps facts, and at which layers new ones are best written."""

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
    Precision,
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
from bluedit.cli.explain_residuals import layers_of
from bluedit.cli.output import interrupted, progress, say
from bluedit.errors import ExplainError
from bluedit.methods.presets import preset

TRACING, PROBING = "Causal tracing", "Layer probe"


def locate(
    model: Annotated[str, typer.Argument(help="smollm2 (built in), a Hugging Face folder, a .gguf file, or a hub id.")],
    *,
    facts: Annotated[
        str,
        typer.Option(
            metavar="SOURCE",
            help="True statements to trace: a file (also ROME's known_facts), hf:DATASET, or world for all bundled facts. Those that the model knows are used.",
            rich_help_panel=FACTS,
        ),
    ] = "world",
    probe: Annotated[
        str,
        typer.Option(
            metavar="SOURCE",
            help="New facts that the probe writes; by default bundled ones.",
            rich_help_panel=FACTS,
        ),
    ] = "world",
    format: Format = None,
    bad_records: BadRecords = "refuse",
    count: Annotated[
        int, typer.Option(metavar="N", help="How many known facts to trace. 0: no tracing.", rich_help_panel=TRACING)
    ] = 50,
    noise: Annotated[
        float,
        typer.Option(
            metavar="X",
            help="Noise on the subject, in standard deviations of its embeddings.",
            rich_help_panel=TRACING,
        ),
    ] = 3.0,
    samples: Annotated[int, typer.Option(metavar="N", help="Noise samples per fact.", rich_help_panel=TRACING)] = 5,
    window: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="How many neighbouring MLP or attention layers are restored at once. 0: a fifth of all layers.",
            rich_help_panel=TRACING,
        ),
    ] = 0,
    seed: Annotated[
        int,
        typer.Option(
            metavar="N", help="Seed of the noise and of the choice of bundled facts.", rich_help_panel=TRACING
        ),
    ] = 0,
    probe_count: Annotated[
        int, typer.Option(metavar="N", help="How many facts the probe writes. 0: no probe.", rich_help_panel=PROBING)
    ] = 32,
    layers: Annotated[
        str | None,
        typer.Option(metavar="A-B", help="Layers to probe, e.g. 2-12 or 4,8. Default: all.", rich_help_panel=PROBING),
    ] = None,
    every: Annotated[int, typer.Option(metavar="K", help="Probe every K-th layer.", rich_help_panel=PROBING)] = 1,
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe",
            "-r",
            metavar="NAME",
            help="The method whose objective and update the probe uses; it writes the prompt alone.",
            rich_help_panel=METHOD,
        ),
    ] = "memit-blue",
    set: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            "-s",
            metavar="OPTION=VALUE",
            help="Change an option of that recipe, e.g. objective.clamp=1. May be repeated.",
            rich_help_panel=METHOD,
        ),
    ] = None,
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
            help="Folder for the page and the numbers. If it holds an interrupted run, that one continues.",
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
    """Show where a model keeps facts, and which layers to edit.

    Causal tracing puts single activations back into a run with noise on the subject. The layer probe writes new facts into one layer at a
    time, and measures what is learned and what else changes. The model is not modified.
    """
    from bluedit.page.plots import formats_of

    formats = formats_of(plots)
    chosen, settings = layers_of(layers), settings_of(set)
    preset(recipe).override(settings)
    execution = execution_of(precision, tokens_per_step, statistics_device)
    from bluedit.explain.locating import Tracing
    from bluedit.explain.locating import locate as measure

    tracing = Tracing(count, noise, samples, window, seed)
    known, new = (
        None if source == "world" else read_source(source, format, None, 0, seed, bad_records)
        for source in (facts, probe)
    )
    check_place(out / "locate.html", ExplainError)
    lm = load_model(model, dtype, device, trust_remote_code)
    try:
        found = measure(
            lm,
            out,
            facts=known,
            tracing=tracing,
            probe=new,
            probe_count=probe_count,
            layers=chosen,
            every=every,
            recipe=recipe,
            settings=settings,
            plots=formats,
            corpus=corpus,
            tokens=tokens,
            execution=execution,
            progress=progress(),
        )
    except KeyboardInterrupt:
        interrupted("finished facts and layers are kept. Run the same command again to continue")
    for sentence in found.summary:
        say(sentence)
    say(f"Page written to {found.page}")
