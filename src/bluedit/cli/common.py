"""What the commands share: options, reading facts and settings, and how to fail."""

from __future__ import annotations

import sys
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from bluedit.errors import FactError, RecipeError
from bluedit.facts import formats

Model = Annotated[
    str, typer.Option("--model", "-m", help="smollm2 (built in), a Hugging Face folder, a .gguf file, or a hub id.")
]
Dtype = Annotated[
    str | None, typer.Option(help="Weights' type: float32, float64, bfloat16, float16. Default: as stored.")
]
Device = Annotated[str, typer.Option(help="A torch device such as cpu or cuda:1.")]
Force = Annotated[bool, typer.Option("--force", help="Use the patch on other weights than it was made for.")]

SOURCE = "File of facts (JSONL, JSON, CSV, or a data set's own file; docs/facts.md), hf:DATASET, or world:N for N bundled ones."
Format = Annotated[
    str | None, typer.Option(help=f"The file's format, where it cannot be told: {', '.join(sorted(formats()))}.")
]
BadRecords = Annotated[
    str, typer.Option(help="What to do with records that cannot be used: refuse the file, or skip them with a warning.")
]
Limit = Annotated[int | None, typer.Option(help="Read this many records at most.")]
Skip = Annotated[int, typer.Option(help="Leave out this many records at the beginning.")]
Seed = Annotated[int, typer.Option(help="Of the choice of bundled facts.")]


def fail(message: str, code: int) -> NoReturn:
    """Say what went wrong and leave."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"bluedit: {message}", style="red", markup=False)
    sys.exit(code)


def bars() -> bool:
    """Whether somebody watches."""
    return sys.stderr.isatty()


def gather(
    fact: list[str] | None,
    source: str | None,
    format: str | None,
    limit: int | None,
    skip: int,
    seed: int,
    bad_records: str = "refuse",
) -> list[Any]:
    """The facts of --fact (a line, or a JSON object) and --facts together."""
    from bluedit.facts import fact_from_line

    found = [fact_from_line(line) for line in fact or ()]
    if source:
        found += read_source(source, format, limit, skip, seed, bad_records)
    if not found:
        raise FactError("no facts were given; use --fact 'The capital of {France} is => Rome' or --facts FILE")
    return found


def read_source(
    source: str, format: str | None, limit: int | None, skip: int, seed: int, bad_records: str = "refuse"
) -> list[Any]:
    """The facts of a file, or bundled ones ("world:20")."""
    from bluedit.facts import read_facts, world_facts
    from bluedit.facts.readers import check_bad_records, check_range

    kind, _, count = source.partition(":")
    if kind != "world":
        return read_facts(source, format=format, limit=limit, skip=skip, bad_records=bad_records)
    if count and not count.isdigit():
        raise FactError(f"{source!r} is no number of bundled facts; write for example world:20")
    check_range(limit, skip)
    check_bad_records(bad_records)
    asked = [number for number in (int(count) if count else None, limit) if number is not None]
    return world_facts(min(asked) + skip if asked else None, seed=seed)[skip:]


def settings_of(pairs: list[str] | None, option: str = "--set") -> dict[str, str]:
    """--set option=value, ... as a mapping."""
    settings = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals or not key.strip() or not value.strip():
            example = "preserve.lambda=500" if option == "--set" else "sst2=items.jsonl"
            raise RecipeError(f"{option} {pair!r} is not of the form option=value, e.g. {option} {example}")
        settings[key.strip()] = value.strip()
    return settings
