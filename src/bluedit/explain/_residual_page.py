"""The page of an analysis: what was found, every figure with its help, the means behind them, and the settings."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bluedit.explain._residual_charts import charts_of
from bluedit.explain._residual_numbers import grouped
from bluedit.explain._residual_summary import mean, summary_of
from bluedit.explain._stages import Tables
from bluedit.explain.residual_data import COMPUTED, DISTRIBUTED
from bluedit.page import Chart, document, table, write_document

PAGE = "residuals.html"
_INTRODUCTION = (
    "<p>MEMIT and its relatives optimise one residual per fact at the last critical layer and distribute it: each layer gets a share. This page "
    "shows what each layer would have needed (<b>computed</b>: a residual optimised at that layer) against what it is given "
    "(<b>distributed</b>: its share of the last layer's), and what comes of it. The argument is BLUE's (arXiv 2502.03748). Every figure has a key: "
    "point at a name, or click it, to single it out and to see its numbers.</p>"
)
_SECTIONS = (
    ("Contribution", ("contribution",)),
    ("Writing a single layer", ("single-layer-",)),
    ("Direction and size", ("direction", "gap", "length")),
    ("Steps", ("steps",)),
    ("What arrives at the last layer", ("remaining", "passive")),
    ("Growth of the error, and its bounds", ("growth-",)),
    ("Facts that were not edited", ("shift", "similarity", "plane")),
)


@dataclass(frozen=True, eq=False)
class Findings:
    """What the page shows.

    Attributes:
        tables: rows by name.
        summary: what was found, a sentence each.
        notes: how it was found, a sentence each.
        charts: the figures.
    """

    tables: Tables
    summary: Sequence[str]
    notes: Sequence[str]
    charts: Sequence[Chart]

    @classmethod
    def of(cls, tables: Tables, notes: Sequence[str], descent: str) -> Findings:
        """Sentences and figures of the tables; `descent` is whose steps were counted."""
        return cls(tables, summary_of(tables), notes, charts_of(tables, descent))


def write_page(folder: Path, found: Findings, configuration: Mapping[str, Any]) -> Path:
    """Write the page into the analysis' folder.

    Raises:
        OSError: the folder cannot be written.
    """
    title = f"Residuals of {configuration['model']}"
    layers = "-".join(str(configuration["layers"][i]) for i in (0, -1))
    lead = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in (*found.summary, *found.notes))
    about = (
        f"<p>{_facts_counted(configuration['facts'])}, critical layers {layers}, recipe {html.escape(str(configuration['recipe']))}. "
        f"The same numbers fact by fact: results.json and the CSV files beside this page.</p>"
    )
    settings = {name: value for name, value in configuration.items() if name != "facts"}
    pretty = html.escape(json.dumps(settings, indent=1, ensure_ascii=False))
    main = (
        f"<section><h2>What was found</h2>{about}{lead}</section>{''.join(_sections(found.charts))}"
        f"<section><h2>Means</h2>{_means(found.tables)}</section>"
        f"<section><h2>Facts</h2>{_facts(configuration['facts'])}"
        f"<details><summary>Settings</summary><pre>{pretty}</pre></details></section>"
    )
    return write_document(folder / PAGE, document(title, _INTRODUCTION, main))


def _sections(charts: Sequence[Chart]) -> Iterator[str]:
    for title, starts in _SECTIONS:
        own = "".join(chart.html() for chart in charts if chart.id.startswith(starts))
        if own:
            yield f'<section><h2>{title}</h2><div class="charts">{own}</div></section>'


def _means(tables: Tables) -> str:
    """Means by layer, of everything that is measured by layer."""
    columns: list[tuple[str, dict[int, list[Any]], Callable[[Any], float], int]] = []

    def add(head: str, rows: Sequence[Any], value: Callable[[Any], float], digits: int = 2) -> None:
        if rows:
            columns.append((head, grouped(rows, lambda row: row.layer), value, digits))

    for kind in (COMPUTED, DISTRIBUTED):
        own = [row for row in tables.get("contributions", []) if row.residual == kind]
        add(f"contribution, {kind}", own, lambda row: row.gain)
    singles = grouped(tables.get("single_layer", []), lambda row: (row.metric, row.residual))
    for (metric, kind), own in singles.items():
        if metric in ("efficacy", "generalisation", "specificity", "strict"):
            add(f"{metric}, {kind}, %", own, lambda row: 100 * row.value, 1)
    add("cosine with last", tables.get("geometry", []), lambda row: row.cosine)
    add("|share| / |own|", tables.get("geometry", []), lambda row: row.share * row.last / row.own)
    add("|share - own| / |own|", tables.get("geometry", []), lambda row: row.share_gap / row.own)
    add("steps, unedited", tables.get("steps", []), lambda row: row.unedited, 1)
    add("steps, below written", tables.get("steps", []), lambda row: row.after, 1)
    add("passive cosine", tables.get("passive", []), lambda row: row.cosine)
    layers = sorted({layer for _, by_layer, _, _ in columns for layer in by_layer})
    rows = []
    for layer in layers:
        cells = [_cell(mean(by_layer.get(layer, []), value), digits) for _, by_layer, value, digits in columns]
        rows.append((str(layer), cells))
    return table("By layer", "", ["layer", *(html.escape(head) for head, *_ in columns)], rows) if rows else ""


def _cell(value: float, digits: int) -> str:
    return "<td></td>" if math.isnan(value) else f"<td>{value:.{digits}f}</td>"


def _facts(facts: Sequence[Mapping[str, Any]]) -> str:
    items = "".join(
        f"<li>{html.escape(str(fact['prompt']).replace('{}', str(fact['subject'])))} <b>{html.escape(str(fact['target']))}</b></li>"
        for fact in facts
    )
    return f'<details><summary>{len(facts):,} facts, numbered from 0</summary><ol start="0">{items}</ol></details>'


def _facts_counted(facts: Sequence[Mapping[str, Any]]) -> str:
    return f"{len(facts):,} fact{'' if len(facts) == 1 else 's'}"
