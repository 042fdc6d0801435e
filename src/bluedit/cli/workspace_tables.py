"""The tables of a workspace for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.text import Text

from bluedit.evaluate.tables import NONE, Column, Listing
from bluedit.facts.subjects import same_subject_key

if TYPE_CHECKING:
    from bluedit.editing.workspace import WorkspaceEntry
    from bluedit.evaluate.health import FactHealth


def entry_table(
    entries: Sequence[WorkspaceEntry],
    tags: Mapping[str, int],
    events: Sequence[Any],
    health: Mapping[int, Sequence[FactHealth]] | None = None,
) -> RenderableType:
    """One line an entry; with `health`, whether its facts are still said and the mean margin."""
    if not entries:
        return Text("No entries yet.")
    more = (Column("still said", True), Column("margin", True)) if health is not None else ()
    guarded = any(one.guard for one in entries)
    columns = (
        *(Column("entry", True), Column("facts", True), Column("what"), Column("recipe"), Column("said", True)),
        *(*more, *((Column("guard"),) if guarded else ()), Column("state")),
    )
    rows = [_row(one, health, guarded=guarded) for one in entries]
    notes = [f"{name}: event {number} ({events[number - 1].time})" for name, number in tags.items()]
    if health is not None:
        notes.append("margin: mean lead of the answer over the best other token, as a difference of logits")
    return Listing("Entries", columns, rows, notes)


def _row(one: WorkspaceEntry, health: Mapping[int, Sequence[FactHealth]] | None, *, guarded: bool) -> list[str]:
    first = one.facts[0]
    what = f"{first.text} => {first.target}" + (f" and {len(one.facts) - 1} more" if len(one.facts) > 1 else "")
    said = NONE if one.said is None else f"{one.said} of {len(one.facts)}"
    row = [str(one.number), str(len(one.facts)), what, one.recipe, said]
    if health is not None:
        found = health.get(one.number, ())
        margin = f"{sum(fact.margin for fact in found) / len(found):+.2f}" if found else NONE
        row += [f"{sum(fact.said for fact in found)} of {len(found)}" if found else NONE, margin]
    return [*row, *([one.guard or NONE] if guarded else []), _state(one)]


def _state(one: WorkspaceEntry) -> str:
    if not one.standing:
        return "undone"
    if not one.replaced:
        return "stands"
    by = ", ".join(str(number) for number in sorted({number for _, number in one.replaced}))
    return f"superseded by {by}" if not one.current else f"stands; {len(one.replaced)} superseded by {by}"


def event_table(events: Sequence[Any]) -> RenderableType:
    """One line an event."""
    if not events:
        return Text("No events yet.")
    columns = (Column("event", True), Column("time"), Column("what"))
    return Listing("Events", columns, [(str(one.number), one.time, _what(one)) for one in events])


def _what(event: Any) -> str:
    written = ", ".join(str(one.entry) for one in event.add)
    about = event.about
    more = about.get("name") or about.get("point") or (f"entry {about['entry']}" if "entry" in about else "")
    more = more or (f"by the guard: {about['guard'].get('why')}" if "guard" in about else "")
    return " ".join(part for part in (event.kind, more, f"(entries written: {written})" if written else "") if part)


def entry_facts(entries: Sequence[WorkspaceEntry], subject: str) -> RenderableType:
    """The facts about a subject, with their entries."""
    rows = [
        (str(one.number), fact.text, fact.target, _state(one))
        for one in entries
        for fact in one.facts
        if same_subject_key(subject) in map(same_subject_key, fact.names)
    ]
    return Listing("", (Column("entry", True), Column("prompt"), Column("answer"), Column("state")), rows)


def diff_tables(found: Any) -> list[RenderableType]:
    """The entries that only one of two points has, and how much each layer differs."""
    rows = [
        (sign, str(one.number), fact.text, fact.target)
        for sign, entries in (("-", found.removed), ("+", found.added))
        for one in entries
        for fact in one.facts
    ]
    if not rows:
        return [Text("No difference.")]
    columns = (Column(""), Column("entry", True), Column("prompt"), Column("answer"))
    norms = [(str(layer), f"{norm:.3g}") for layer, norm in found.norms.items()]
    return [
        Listing("", columns, rows),
        Listing("", (Column("layer", True), Column("norm of the difference", True)), norms),
    ]
