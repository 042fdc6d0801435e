"""`bluedit facts expand`: companion facts by rule, shown for approval."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from bluedit.cli.common import SOURCE, BadRecords, Format, Limit, Seed, Skip, count, read_source
from bluedit.cli.output import print_tables, say
from bluedit.errors import FactError
from bluedit.options import whole_number

_RULES = "inverse, alias, question, consequence"


def expand(
    source: Annotated[str, typer.Argument(help=SOURCE)],
    rule: Annotated[
        list[str] | None, typer.Option("--rule", help=f"Only this rule: {_RULES}. May be repeated.", metavar="RULE")
    ] = None,
    alias: Annotated[
        list[str] | None,
        typer.Option(
            "--alias",
            help="Another name of a subject, besides the bundled ones. May be repeated.",
            metavar="NAME=OTHER",
        ),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option("--keep", help="With --out: all, none, or numbers such as 1,3-5. Asked for if it is not given."),
    ] = None,
    only: Annotated[bool, typer.Option("--only", help="Write the companions without the facts.")] = False,
    format: Format = None,
    bad_records: BadRecords = "refuse",
    limit: Limit = None,
    skip: Skip = 0,
    seed: Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Write the facts and the chosen companions as JSONL."),
    ] = None,
) -> None:
    """Propose further facts that follow from those of a file: their inverse, aliases, question, and consequences.

    Nothing is taught: the companions are shown, and with --out those that you choose are written with the facts.
    """
    from bluedit.cli.tables import companions_table
    from bluedit.facts import companions_of, write_facts
    from bluedit.facts.conflicts import some_of

    facts = read_source(source, format, limit, skip, seed, bad_records)
    found = companions_of(facts, rule or None, _names(alias))
    for name, given in (("--keep", keep is not None), ("--only", only)):
        if given and out is None:
            raise FactError(f"{name} chooses what is written, so it needs --out FILE")
    chosen = None if keep is None else _chosen(keep, len(found.companions))
    print_tables(companions_table(found.companions, facts))
    if found.left_out:
        logging.getLogger(__name__).warning(
            "%s left out, because they contradict others:\n%s",
            count(len(found.left_out), "companion"),
            some_of(found.left_out),
        )
    if out:
        chosen = _asked(len(found.companions)) if chosen is None else chosen
        kept = [found.companions[i].fact for i in chosen]
        write_facts(out, kept if only else [*facts, *kept])
        given = "" if only else f" and {count(len(facts), 'fact')}"
        say(f"{count(len(kept), 'companion')}{given} written to {out}")


def _names(pairs: list[str] | None) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for pair in pairs or ():
        name, equals, other = (part.strip() for part in pair.partition("="))
        if not (name and equals and other):
            raise FactError(
                f"--alias {pair!r} is not of the form NAME=OTHER, e.g. --alias 'Robert Zimmerman=Bob Dylan'"
            )
        names.setdefault(name, []).append(other)
    return names


def _asked(found: int) -> list[int]:
    """The user's choice, from 0."""
    if not found:
        return []
    try:
        return _chosen(typer.prompt("Which of them? (all, none, or numbers such as 1,3-5)", default="none"), found)
    except typer.Abort:
        raise FactError("nothing was chosen, so nothing was written; give --keep all, none, or numbers") from None


def _chosen(keep: str, found: int) -> list[int]:
    """Numbers from 0 of the companions that `keep` names."""
    if keep.strip() in ("all", "none"):
        return list(range(found)) if keep.strip() == "all" else []
    chosen: set[int] = set()
    for part in keep.split(","):
        first, _, last = part.strip().partition("-")
        low, high = whole_number(first.strip()), whole_number((last or first).strip())
        if low is None or high is None:
            raise FactError(f"{keep!r} is neither all, none, nor numbers such as 1,3-5")
        if not 1 <= low <= high <= found:
            raise FactError(f"there is no companion {part.strip()}; they are numbered from 1 to {found}")
        chosen |= set(range(low - 1, high))
    return sorted(chosen)
