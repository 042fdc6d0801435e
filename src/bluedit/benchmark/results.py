"""A benchmark's table: its rows, and how they are written as CSV and Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from bluedit.evaluate.metrics import METRICS, OF_A_MODEL, SCORE
from bluedit.files import write_file
from bluedit.markdown import table

if TYPE_CHECKING:
    from bluedit.benchmark.record import EntryLog, Scores
    from bluedit.evaluate.data import Ability

_SHOWN = {**METRICS, SCORE: OF_A_MODEL[SCORE], "perplexity": OF_A_MODEL["perplexity"]}
_MEASURES = ("accuracy", "f1")


@dataclass(frozen=True)
class Row:
    """One measurement of one entry.

    Attributes:
        entry: its name.
        facts, batches: so far; no batches for the unedited model.
        scores: the metrics over all facts so far, and on the ordinary passages.
        first_batch: the metrics over the facts of the first batch.
        abilities: general ability by task; empty if it was not measured.
        seconds_per_edit: mean so far; None for the unedited model.
        reach: mean so far, by layer.
    """

    entry: str
    facts: int
    batches: int
    scores: Scores
    first_batch: Scores
    abilities: Mapping[str, Ability]
    seconds_per_edit: float | None
    reach: Mapping[int, float]


def rows_of(logs: Iterable[EntryLog]) -> list[Row]:
    """The rows of some entries: one for each measurement."""
    return [
        _row(log, number) for log in logs for number, batch in enumerate(log.batches, 1) if batch.measured is not None
    ]


def _row(log: EntryLog, number: int) -> Row:
    """The row of an entry after its first `number` batches."""
    batches = log.batches[:number]
    measured = batches[-1].measured
    assert measured is not None
    facts = sum(batch.facts for batch in batches)
    reach: dict[int, list[float]] = {}
    for layer, value in (pair for batch in batches for pair in batch.reach):
        reach.setdefault(layer, []).append(value)
    return Row(
        entry=log.entry,
        facts=facts,
        batches=number if log.edited else 0,
        scores=measured.all,
        first_batch=measured.first,
        abilities=measured.abilities,
        seconds_per_edit=sum(batch.seconds for batch in batches) / facts if log.edited else None,
        reach={layer: sum(values) / len(values) for layer, values in sorted(reach.items())},
    )


def write_table(rows: Sequence[Row], folder: Path) -> None:
    """Write results.csv and results.md, shares in percent. General ability is in further columns of the CSV file and in a second table of the Markdown file.

    Raises:
        OSError: the folder cannot be written.
    """
    names = [name for name in (*METRICS, SCORE) if any(name in row.scores for row in rows)]
    heads = ["recipe", "facts", *names, "perplexity", "s/edit", "reach by layer"]
    lines = [_cells(row, names) for row in rows]
    lines += [
        [f"{row.entry}, first batch", "", *(_shown(row.first_batch, name) for name in names), "", "", ""]
        for row in {row.entry: row for row in rows}.values()
        if row.batches > 1
    ]
    tasks = list(dict.fromkeys(task for row in rows for task in row.abilities))
    columns = [(task, measure) for task in tasks for measure in _MEASURES]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*heads, *(f"{task} {measure}" for task, measure in columns)])
    for line, row in zip_longest(lines, rows):
        writer.writerow([*line, *(_ability(row, task, measure) for task, measure in columns)])
    write_file(folder / "results.csv", text.getvalue().encode())
    write_file(folder / "results.md", (table(heads, lines) + _ability_table(rows, tasks)).encode())


def _ability_table(rows: Sequence[Row], tasks: Sequence[str]) -> str:
    """Accuracy / F1 of each task in percent, for the rows that have it."""
    lines = [
        [
            row.entry,
            str(row.facts),
            *(" / ".join(_ability(row, task, measure) for measure in _MEASURES) for task in tasks),
        ]
        for row in rows
        if row.abilities
    ]
    return "\n" + table(["accuracy / F1", "facts", *tasks], lines) if lines else ""


def _cells(row: Row, names: Sequence[str]) -> list[str]:
    return [
        row.entry,
        str(row.facts),
        *(_shown(row.scores, name) for name in names),
        _shown(row.scores, "perplexity"),
        "" if row.seconds_per_edit is None else f"{row.seconds_per_edit:.2f}",
        " ".join(f"{layer}:{value:.2f}" for layer, value in row.reach.items()),
    ]


def _shown(scores: Scores, name: str) -> str:
    return _SHOWN[name].shown(scores.get(name))


def _ability(row: Row | None, task: str, measure: str) -> str:
    found = row.abilities.get(task) if row else None
    return f"{100 * getattr(found, measure):.1f}" if found else ""
