"""Tables that fit the width of a terminal, and the report of an edit as such a table."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

NONE = "–"
SHOWN_FACTS = 30
MOST_DRIFT = 0.05  # a larger rise of perplexity is pointed out; a guard's default limit is the same
WIDTH = 80
_GAP = 2


@dataclass(frozen=True)
class Column:
    """A column of a `Listing`; numbers are aligned to the right and not wrapped."""

    title: str
    number: bool = False


@dataclass(frozen=True)
class Listing:
    """A table that fits the terminal. Cells wrap between words; a word is broken only if the longest words of all columns do not fit
    side by side. Cells are plain text: nothing in them is read as markup.

    Attributes:
        title: above the table; empty for none.
        columns: from left to right.
        rows: one cell per column, as text or as `Text` with a style.
        notes: lines below the table.
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str | Text]]
    notes: Sequence[str] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = [[_text(cell) for cell in row] for row in self.rows]
        heads = [Text(column.title) for column in self.columns]
        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, _GAP - 1, 0, 0))
        cells = [[head, *(row[i] for row in rows)] for i, head in enumerate(heads)]
        natural = [max(max(map(cell_len, cell.plain.split("\n"))) for cell in column) for column in cells]
        least = [_least(column, whole=self.columns[i].number) for i, column in enumerate(cells)]
        room = options.max_width - _GAP * (len(heads) - 1)
        for head, column, width in zip(heads, self.columns, fitted(natural, least, room), strict=True):
            table.add_column(head, width=width, overflow="fold", justify="right" if column.number else "left")
        for row in rows:
            table.add_row(*row)
        if self.title:
            yield Text(self.title, "bold")
        yield table
        yield from (Text(note) for note in self.notes)


def _least(cells: Sequence[Text], *, whole: bool) -> int:
    """Width of the longest word in a column or, if `whole`, of its longest cell below the title."""
    head, *rest = cells
    words = [
        *head.plain.split(),
        *([cell.plain for cell in rest] if whole else [w for c in rest for w in c.plain.split()]),
    ]
    return max(map(cell_len, words), default=0)


def fitted(natural: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Widths of columns that together take at most `room`: the widest ones give way first, down to their longest words (`least`), and
    below those only if these do not fit side by side."""
    widths = [min(width, max(room, 1)) for width in natural]
    while sum(widths) > room:
        above = [i for i, width in enumerate(widths) if width > least[i]] or [i for i, w in enumerate(widths) if w > 1]
        if not above:
            break
        widths[max(above, key=lambda i: widths[i])] -= 1
    return widths


@dataclass(frozen=True)
class Record:
    """A line, and rows of (name, value) with its details below it."""

    head: str
    fields: Mapping[str, str | Text]


@dataclass(frozen=True)
class Records:
    """Records one below the other with all their details, for what has too many columns for a table.

    Attributes:
        title: above the first; empty for none.
        records: in order.
        notes: lines below the last.
    """

    title: str
    records: Sequence[Record]
    notes: Sequence[str] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.title:
            yield Text(self.title, "bold")
        width = max((cell_len(name) for record in self.records for name in record.fields), default=0)
        for i, record in enumerate(self.records):
            if i:
                yield Text()
            if record.head:
                yield Text(record.head)
            yield Padding(_pairs(record.fields, width), (0, 0, 0, 2 if record.head else 0))
        yield from (Text(note) for note in self.notes)


def _pairs(fields: Mapping[str, str | Text], width: int) -> Table:
    grid = Table.grid(padding=(0, _GAP, 0, 0))
    grid.add_column(width=width, style="dim", overflow="fold")
    grid.add_column(overflow="fold")
    for name, value in fields.items():
        grid.add_row(Text(name), _text(value))
    return grid


def _text(cell: str | Text) -> Text:
    return cell if isinstance(cell, Text) else Text(cell)


def as_text(parts: Sequence[RenderableType], width: int = WIDTH) -> str:
    """Renderables of the package rich as plain text."""
    text = io.StringIO()
    console = Console(file=text, width=width, no_color=True)
    for part in parts:
        console.print(part)
    return "\n".join(line.rstrip() for line in text.getvalue().split("\n"))


def edit_table(report: Mapping[str, Any], *, details: bool = False, shown: int = SHOWN_FACTS) -> RenderableType:
    """What an edit changed, fact by fact, from a report as JSON (`Report.as_dict`).

    Args:
        details: the probabilities, paraphrases and neighbours of each fact, instead of one line for each.
        shown: how many facts at most; if there are more, those that the model does not say come first.
    """
    facts = report["facts"]
    chosen = facts if len(facts) <= shown else sorted(facts, key=lambda f: f["says_after"])[:shown]
    more = [f"{len(facts) - shown} facts are not shown."] if len(facts) > shown else []
    if details:
        records = [Record(f"{f['prompt']} => {f['target']}", _details(f)) for f in chosen]
        return Group(Records("What changed", records), Text("\n".join([*more, *totals(report)])))
    columns = (Column("prompt"), Column("new answer"), Column("said"), Column("p(new)", number=True))
    rows = [(f["prompt"], f["target"], _said(f), _p(f["p_new_after"])) for f in chosen]
    return Listing("What changed", columns, rows, [*more, *totals(report)])


def totals(report: Mapping[str, Any]) -> list[str]:
    """The report in two lines, with a third one if ordinary text suffered."""
    facts = report["facts"]

    def count(name: str) -> int:
        return sum(fact[name] for fact in facts)

    counts: list[tuple[str, int, int]] = [
        ("facts said", count("says_after"), len(facts)),
        ("paraphrases said", count("paraphrases_after"), count("paraphrases")),
        ("neighbours kept", count("neighbours_kept"), count("neighbours")),
    ]
    before, after = report["perplexity_before"], report["perplexity_after"]
    drift = after / before - 1
    harmed = [
        f"That is a large rise (above {MOST_DRIFT:.0%}): the edit harms what the model does otherwise. Teach fewer facts, keep their vectors "
        "shorter (--set objective.clamp=..., smaller than it is), or let --guard default decide what is kept."
    ]
    return [
        "; ".join(f"{name}: {part} of {whole}" for name, part, whole in counts if whole),
        f"perplexity of ordinary text: {before:.2f} → {after:.2f} ({drift:+.1%})",
        *(harmed if drift > MOST_DRIFT else ()),
    ]


def _said(fact: Mapping[str, Any]) -> Text:
    """Whether the model says a fact and, if it does not, what it writes; without generated text the first token."""
    if fact["says_after"]:
        return Text("yes", "green")
    asked = fact.get("asked")
    text = _cut(asked[0]["text"] if asked else fact["first_after"])
    return Text(f"no: {text}" if text else "no", "red")


def _cut(text: str, most: int = 24) -> str:
    """A text on one line of at most `most` characters' width, cut between words where there are any."""
    line = " ".join(text.split())
    if cell_len(line) <= most:
        return line
    kept = set_cell_size(line, most - 1).rstrip()
    return (kept.rpartition(" ")[0] or kept) + "…"


_DETAILS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "said": lambda f: f"{_yes(f['says_before'])} → {_yes(f['says_after'])}",
    "first word": lambda f: f"{f['first_before']} → {f['first_after']}",
    "p(new answer)": lambda f: f"{_p(f['p_new_before'])} → {_p(f['p_new_after'])}",
    "p(old answer)": lambda f: (
        "" if f["p_old_before"] is None else f"{_p(f['p_old_before'])} → {_p(f['p_old_after'])}   ({f['old_target']})"
    ),
    "paraphrases said": lambda f: _of(f["paraphrases_before"], f["paraphrases_after"], f["paraphrases"]),
    "neighbours kept": lambda f: f"{f['neighbours_kept']} of {f['neighbours']}" if f["neighbours"] else "",
}


def _details(fact: Mapping[str, Any]) -> dict[str, str]:
    return {name: value for name, of in _DETAILS.items() if (value := of(fact))}


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _p(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value:.2f}" if value >= 0.005 else f"{value:.0e}" if value > 0 else "0"


def _of(before: int, after: int, whole: int) -> str:
    return f"{before} → {after} of {whole}" if whole else ""
