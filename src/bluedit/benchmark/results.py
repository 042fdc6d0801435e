"""A benchmark's table, as CSV and Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from bluedit.evaluate.metrics import METRICS
from bluedit.files import write_file
from bluedit.markdown import table


def write_table(rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """results.csv and results.md of a run: shares in percent. General ability is a table of its own in the second, columns in the first."""
    names = [name for name in (*METRICS, "score") if any(name in row for row in rows)]
    heads = ["recipe", "facts", *names, "perplexity", "s/edit", "reach by layer"]
    lines = [[*_cells(row, names)] for row in rows]
    lines += [
        [f"{row['recipe']}, first batch", "", *(_share(row["first_batch"].get(n), n) for n in names), "", "", ""]
        for row in _last_of_each(rows)
        if row["batches"] > 1
    ]
    tasks = list(next((row["abilities"] for row in rows if row["abilities"]), {}))
    scores = [(task, measure) for task in tasks for measure in ("accuracy", "f1")]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*heads, *(f"{task} {measure}" for task, measure in scores)])
    for line, row in zip_longest(lines, rows, fillvalue={}):
        found = row.get("abilities") or {}
        writer.writerow([*line, *(f"{100 * found[task][measure]:.1f}" if found else "" for task, measure in scores)])
    write_file(folder / "results.csv", text.getvalue().encode())
    write_file(folder / "results.md", (table(heads, lines) + _ability_table(rows)).encode())


def _ability_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Accuracy / F1 of each task in percent, for the recipes that were asked."""
    asked = [row for row in rows if row["abilities"]]
    if not asked:
        return ""
    tasks = list(asked[0]["abilities"])
    lines = [
        [
            row["recipe"],
            str(row["facts"]),
            *(f"{100 * r['accuracy']:.1f} / {100 * r['f1']:.1f}" for r in row["abilities"].values()),
        ]
        for row in asked
    ]
    return "\n" + table(["accuracy / F1", "facts", *tasks], lines)


def _cells(row: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    seconds = row["seconds_per_edit"]
    return [
        row["recipe"],
        str(row["facts"]),
        *(_share(row.get(name), name) for name in names),
        f"{row['perplexity']:.2f}",
        "" if seconds is None else f"{seconds:.2f}",
        " ".join(f"{layer}:{value:.2f}" for layer, value in row["reach"].items()),
    ]


def _share(value: float | None, name: str) -> str:
    return METRICS.get(name, METRICS["efficacy"]).shown(value)  # the score is a share too


def _last_of_each(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return list({row["recipe"]: row for row in rows}.values())
