"""What a guard measured and decided, in sentences, from the records of batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bluedit.editing.rules import Rule
from bluedit.facts.records import read_record

if TYPE_CHECKING:
    from bluedit.writing.batch import Batch

_SHOWN = 10  # facts that were left out


def guard_sentences(batches: Sequence[Batch]) -> list[str]:
    """What was decided on the batches of an edit, one sentence each; empty without a guard."""
    found: list[str] = []
    judged = [(number, batch.guard) for number, batch in enumerate(batches, 1) if batch.guard]
    for number, record in judged:
        if record.get("action"):
            which = "" if len(batches) == 1 else f" (batch {number} of {len(batches)})"
            found.append(f"Guard{which}: {_decision(record)}")
        if record.get("whole"):
            found.append(f"Guard (whole edit): {_figures(record['whole'])}.")
        found += [f"Guard: {note}." for note in record.get("notes", ())]
        found += _left_out(record)
    return found


def guard_summary(batches: Sequence[Batch]) -> str:
    """The same in a few words, for tables: "kept", "softened to 0.71, 2 left out"; empty without a guard."""
    records = [batch.guard for batch in batches if batch.guard]
    actions = [record["action"] for record in records if record.get("action")]
    words = {"softened": _shares(records), "divided": "divided", "warned": "kept with a warning"}
    parts = [word for action, word in words.items() if action in actions]
    if actions and not parts:
        parts = ["kept"]
    gone = sum(len(record.get("left_out", ())) for record in records)
    return ", ".join([*parts, *([f"{gone} left out"] if gone else [])])


def refusal_sentence(record: Mapping[str, Any]) -> str:
    """A refused edit, from the record of a GuardError."""
    return f"refused by the guard: {record.get('why', '')}"


def _shares(records: Sequence[Mapping[str, Any]]) -> str:
    shares = sorted({record["share"] for record in records if record.get("action") == "softened"})
    return "softened to " + ", ".join(f"{share:.2f}" for share in shares)


def _decision(record: Mapping[str, Any]) -> str:
    now = _figures(record["figures"])
    says = _DECISIONS.get(record["action"])
    return says(record, now) if says else f"{record['action']}. {now}."


_DECISIONS = {
    "kept": lambda _record, now: f"kept. {now}.",
    "divided": lambda _record, now: f"kept as part of a larger batch that broke a rule. {now}.",
    "warned": lambda record, now: f"kept although it breaks a rule: {record['why']}. {now}.",
    "softened": lambda record, now: (
        f"softened, {record['share']:.0%} of the change is written. The whole change broke a rule: {record['why']}. As written: {now}."
    ),
}


def _figures(figures: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(map(_figure, figures)) or "No rule was checked"


def _figure(one: Mapping[str, Any]) -> str:
    kind, value, limit = one["rule"], one["value"], one["limit"]
    cls: Any = Rule.choices.get(kind)
    if cls is None:  # a rule that is not known here
        return f"{kind} {value} (limit {limit})"
    rule = cls(limit=limit)
    return f"{rule.shown(value)} ({'at least' if rule.least else 'limit'} {rule.value(limit)})"


def _left_out(record: Mapping[str, Any]) -> Iterator[str]:
    gone = record.get("left_out", ())
    for one in gone[:_SHOWN]:
        fact = read_record(dict(one["fact"]))
        yield f"Left out: {fact.text} => {fact.target} ({one['why']})."
    if len(gone) > _SHOWN:
        yield f"Left out: {len(gone) - _SHOWN} more."
