"""The parts of an edit's report below the table of facts, for a terminal: which facts are said when they are asked for in other words, what
happened to ordinary answers, and why facts are not said. A report is read as JSON (`Report.as_dict`), also from patches of older versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from bluedit.evaluate.asked import FORMS
from bluedit.evaluate.tables import NONE, Column, Listing, Record, Records

SHOWN = 10  # facts that are not said
SHOWN_PROMPT_ONLY = 3
_LONGEST = 160  # characters of a text on show
_FORMS = {"plain": "as text to continue", "chat": "in chat"}


def report_parts(report: Mapping[str, Any], *, details: bool = False, shown: int = SHOWN) -> list[RenderableType]:
    """The parts below the table of facts, if the report has them.

    Args:
        details: every text that was generated, and all facts that are not said.
        shown: how many of those at most without `details`.
    """
    parts = [
        asked_table(report),
        asked_texts(report) if details else None,
        bystander_lines(report),
        worst_bystanders(report),
        missed_facts(report, None if details else shown),
        prompt_only_facts(report, None if details else SHOWN_PROMPT_ONLY),
    ]
    return [part for part in parts if part is not None]


def asked_table(report: Mapping[str, Any]) -> Listing | None:
    """How many facts are said, by how they are asked, and how many were before; None if they were not asked."""
    after, before = _said_by_form(report, "asked"), _said_by_form(report, "asked_before")
    if not after:
        return None
    more = [Column("before", True)] if before else []
    columns = (Column("asked"), *more, Column("said", True))
    rows = [(FORMS[form], *([before.get(form, NONE)] if before else []), found) for form, found in after.items()]
    return Listing("What the model says when asked", columns, rows)


def _said_by_form(report: Mapping[str, Any], name: str) -> dict[str, str]:
    replies = [reply for fact in report["facts"] for reply in fact.get(name) or ()]
    counts = {form: [reply["said"] for reply in replies if reply["form"] == form] for form in FORMS}
    return {form: f"{sum(said)} of {len(said)}" for form, said in counts.items() if said}


def asked_texts(report: Mapping[str, Any]) -> Records | None:
    """Every question and the generated text, fact by fact."""
    records = [
        Record(f"{fact['prompt']} => {fact['target']}", dict(_texts(fact)))
        for fact in report["facts"]
        if fact.get("asked")
    ]
    return Records("What the model says, word by word", records) if records else None


def _texts(fact: Mapping[str, Any]) -> Iterator[tuple[str, Text]]:
    if fact.get("text_before") is not None:
        yield "before", Text(_short(fact["text_before"]), "dim")
    seen: dict[str, int] = {}
    for reply in fact["asked"]:
        form = reply["form"]
        seen[form] = seen.get(form, 0) + 1
        name = form if seen[form] == 1 else f"{form} {seen[form]}"
        asked = "" if form == "prompt" else f"{_short(reply['prompt'])}\n"
        yield name, Text.assemble(asked, (_short(reply["text"]) or NONE, "green" if reply["said"] else "red"))


def bystander_lines(report: Mapping[str, Any]) -> Text | None:
    """What the edit did to answers to ordinary questions and to the perplexity of chat text; None if that was not measured."""
    lines = []
    if found := report.get("bystanders"):
        drift = "" if found["kl"] is None else f"; KL of the first token: {found['kl']:.2g} nats"
        lines.append(f"other answers unchanged: {_shares(found, 'same')}{drift}")
        if found.get("alike"):  # reports of earlier versions lack it
            lines.append(f"other answers that say the same: {_shares(found, 'alike')}")
    before, after = report.get("chat_perplexity_before"), report.get("chat_perplexity_after")
    if before and after:
        lines.append(f"perplexity of chat text: {before:.2f} → {after:.2f} ({after / before - 1:+.1%})")
    return Text("\n".join(lines)) if lines else None


def _shares(found: Mapping[str, Any], count: str) -> str:
    return ", ".join(f"{found[count][form]} of {asked} {_FORMS[form]}" for form, asked in found["asked"].items())


def worst_bystanders(report: Mapping[str, Any]) -> Records | None:
    """The ordinary questions whose answers changed most, with both texts; None if all stayed."""
    worst = [one for one in (report.get("bystanders") or {}).get("worst", ()) if not one["same"]]
    records = [
        Record(
            f"{one['prompt']} ({_FORMS[one['form']]})",
            {"before": _short(one["before"]) or NONE, "after": _short(one["after"]) or NONE},
        )
        for one in worst
    ]
    return Records("Ordinary answers that changed most", records) if records else None


def missed_facts(report: Mapping[str, Any], shown: int | None = SHOWN) -> Records | None:
    """Facts that are not said, each with a reason and what to try; None if all are said."""
    return _records("Not said", report.get("missed") or (), shown)


def prompt_only_facts(report: Mapping[str, Any], shown: int | None = SHOWN_PROMPT_ONLY) -> Records | None:
    """Facts that are said at their prompt and not when they are asked for; None if there are none."""
    return _records("Said at the prompt, but not when asked", report.get("prompt_only") or (), shown)


def _records(title: str, entries: Sequence[Mapping[str, Any]], shown: int | None) -> Records | None:
    records = [Record(f"{one['prompt']} => {one['target']}", dict(_reasons(one))) for one in entries[:shown]]
    more = [f"{len(entries) - len(records)} more"] if len(records) < len(entries) else []
    return Records(title, records, more) if records else None


def _reasons(one: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if one["form"] != "prompt":
        yield "asked", one["asked"] + (" (in chat)" if one["form"] == "chat" else "")
    yield "why", _sentence(one["reason"])
    yield "to try", one["advice"]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1].rstrip() + "…"
