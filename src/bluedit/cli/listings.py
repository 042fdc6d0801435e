"""The commands that need no model: `facts`, `recipes` and `metrics`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from bluedit.cli.common import SOURCE, BadRecords, Format, Limit, Seed, Skip, count, read_source
from bluedit.cli.output import print_tables, say


def facts(
    source: Annotated[str, typer.Argument(help=SOURCE)],
    format: Format = None,
    bad_records: BadRecords = "refuse",
    limit: Limit = None,
    skip: Skip = 0,
    seed: Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="Write the facts to this file as JSONL, bluedit's own format."
        ),
    ] = None,
    details: Annotated[bool, typer.Option("--details", help="Show all fields of each fact.")] = False,
) -> None:
    """Check a file of facts, show it, or convert it.

    'bluedit facts expand FILE' proposes further facts that follow from them.
    """
    from bluedit.cli.tables import facts_table
    from bluedit.facts import write_facts
    from bluedit.facts.conflicts import conflicts, some_of

    found = read_source(source, format, limit, skip, seed, bad_records)
    if clashes := conflicts(found):
        logging.getLogger(__name__).warning(
            "%d facts repeat or contradict earlier ones; an edit refuses that, a benchmark lets the later one win:\n%s",
            len(clashes),
            some_of(clashes),
        )
    if out:
        write_facts(out, found)
        say(f"{count(len(found), 'fact')} written to {out}")
    else:
        print_tables(facts_table(found, details=details))


def recipes(
    parts: Annotated[bool, typer.Option("--parts", help="List the parts that a recipe can be composed of.")] = False,
    options: Annotated[bool, typer.Option("--options", help="List the options that --set can change.")] = False,
    details: Annotated[
        bool, typer.Option("--details", help="Show when to use each recipe, what it preserves, and its paper.")
    ] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print all of these tables as Markdown.")] = False,
) -> None:
    """List the editing methods, their parts or their options."""
    from bluedit.cli import reference
    from bluedit.cli.tables import option_table, part_table, recipe_table

    if markdown:
        say(reference.markdown().rstrip("\n"))
        return
    tables = [part_table()] * parts + [option_table()] * options
    print_tables(*(tables or [recipe_table(details=details)]))


def metrics(
    details: Annotated[
        bool, typer.Option("--details", help="Show units, sources, and what is teacher-forced.")
    ] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")] = False,
) -> None:
    """List the metrics of 'bluedit benchmark' and what they mean."""
    from bluedit.cli import reference
    from bluedit.cli.tables import metric_table

    if markdown:
        say(reference.metric_markdown().rstrip("\n"))
    else:
        print_tables(metric_table(details=details))
