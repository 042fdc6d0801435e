"""Conflicts that the texts of facts show, without a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bluedit.evaluate.said import normal
from bluedit.explain._conflict_data import Conflict, Entry, Kind, Source

Group = list[Entry]


def text_conflicts(entries: Sequence[Entry]) -> Iterator[Conflict]:
    """Facts that repeat, contradict or overwrite an earlier one: at the same text, or in the same relation of the same subject."""
    by_text: dict[str, Entry] = {}
    by_relation: dict[tuple[str, str], Entry] = {}
    for entry in entries:
        earlier, why = None, ""
        for text in entry.fact.texts:
            if earlier is None and text in by_text:
                earlier, why = by_text[text], f"both answer {text!r}"
        if earlier is None and entry.relation:
            earlier = by_relation.get((entry.subject, entry.relation))
            why = f"both give the {entry.relation} of {entry.fact.subject!r}"
        if earlier is not None and (found := _between(earlier, entry, why)):
            yield found
        by_text |= dict.fromkeys(entry.fact.texts, entry)
        if entry.relation:
            by_relation[entry.subject, entry.relation] = entry


def _between(earlier: Entry, later: Entry, why: str) -> Conflict | None:
    """What two facts with the same question are to each other; None for a fact that a patch teaches again."""
    if normal(earlier.fact.target) == normal(later.fact.target):
        if earlier.is_written and later.is_written and earlier.source == later.source:
            return None
        given = "the edit is there already" if earlier.is_written else "the fact is given twice"
        given += "" if earlier.fact.text == later.fact.text else ", in other words"
        return Conflict.of(Kind.REPEATED, (earlier, later), given)
    targets = f"{why}, with {earlier.fact.target!r} and {later.fact.target!r}"
    kind = Kind.CONTRADICTION
    if earlier.is_written and (earlier.source, earlier.batch) != (later.source, later.batch):
        kind = Kind.REPLACED if later.is_written else Kind.OVERWRITTEN
    return Conflict.of(kind, (earlier, later), targets)


def subject_groups(entries: Sequence[Entry]) -> list[Group]:
    """Facts about one subject, where there are several that say different things."""
    groups: dict[str, Group] = {}
    for entry in entries:
        own = groups.setdefault(entry.subject, [])
        if all(entry.fact.text != other.fact.text for other in own):
            own.append(entry)
    return [group for group in groups.values() if len(group) > 1]


def reported_unsaid(source: Source) -> Iterator[Conflict]:
    """Edits of a patch that were not said when they were measured last, from its own reports."""
    if source.patch is None:
        return
    said: dict[tuple[str, str], bool] = {}
    for origin in source.patch.origins:
        for fact in (origin.report or {}).get("facts", ()):
            said[fact["prompt"], fact["target"]] = bool(fact["says_after"])
    latest = {fact.text: number for number, fact in enumerate(source.facts, 1)}
    for number, fact in enumerate(source.facts, 1):
        if latest[fact.text] == number and said.get((fact.text, fact.target)) is False:
            yield Conflict.of(
                Kind.UNSAID, [Entry(source.name, number, fact, 0)], "not said after the edit, as its report has it"
            )
