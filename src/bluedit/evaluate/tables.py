"""The report of an edit as a table for a terminal, and as plain text."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

_SHOWN_FACTS = 30


def edit_table(report: Mapping[str, Any], *, shown: int = _SHOWN_FACTS) -> Table:
    """Fact by fact before and after, from a report as JSON (`Report.as_dict`). If there are more facts than `shown`, those that the model
    does not say come first."""
    table = Table(
        title="What changed",
        title_justify="left",
        caption=_caption(report, shown),
        caption_justify="left",
        pad_edge=False,
    )
    table.padding = (0, 1, 0, 0)
    facts = report["facts"]
    columns = [column for column in _COLUMNS if any(column.cell(fact).plain not in ("–", "") for fact in facts)]
    for column in columns:
        table.add_column(column.title, overflow="fold")
    chosen = facts if len(facts) <= shown else sorted(facts, key=lambda f: f["says_after"])[:shown]
    for fact in chosen:
        table.add_row(*(column.cell(fact) for column in columns))
    return table


@dataclass(frozen=True)
class _Column:
    """A column of the edit table; it is left out if all its cells are empty."""

    title: str
    cell: Callable[[Mapping[str, Any]], Text]


def _says(fact: Mapping[str, Any]) -> Text:
    return Text("yes", "green") if fact["says_after"] else Text("no", "red")


def _old(fact: Mapping[str, Any]) -> Text:
    if fact["p_old_before"] is None:
        return Text("–")
    return Text(f"{_p(fact['p_old_before'])} → {_p(fact['p_old_after'])}")


_COLUMNS = (
    _Column("prompt", lambda f: Text(f["prompt"])),
    _Column("first word", lambda f: Text(f"{f['first_before']} → {f['first_after']}")),
    _Column("new answer", lambda f: Text(f["target"])),
    _Column("p(new)", lambda f: Text(f"{_p(f['p_new_before'])} → {_p(f['p_new_after'])}")),
    _Column("p(old)", _old),
    _Column("said", _says),
    _Column("para", lambda f: Text(_of(f["paraphrases_after"], f["paraphrases"]))),
    _Column("kept", lambda f: Text(_of(f["neighbours_kept"], f["neighbours"]))),
)


def _caption(report: Mapping[str, Any], shown: int) -> str:
    facts = report["facts"]

    def total(name: str) -> int:
        return sum(fact[name] for fact in facts)

    totals = {
        "facts said": (total("says_after"), len(facts)),
        "paraphrases": (total("paraphrases_after"), total("paraphrases")),
        "neighbours kept": (total("neighbours_kept"), total("neighbours")),
    }
    parts = [f"{name} {a} of {b}" for name, (a, b) in totals.items() if b]
    before, after = report["perplexity_before"], report["perplexity_after"]
    parts.append(f"perplexity of ordinary text {before:.2f} → {after:.2f} ({after / before - 1:+.1%})")
    if len(facts) > shown:
        parts.append(f"{len(facts) - shown} facts not shown")
    return "; ".join(parts)


def _p(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if value >= 0.005 else f"{value:.0e}" if value > 0 else "0"


def _of(part: int, whole: int) -> str:
    return f"{part}/{whole}" if whole else "–"


def as_text(parts: Sequence[RenderableType], width: int = 120) -> str:
    """Renderables of the package rich as plain text."""
    text = io.StringIO()
    console = Console(file=text, width=width, no_color=True)
    for part in parts:
        console.print(part)
    return text.getvalue()
