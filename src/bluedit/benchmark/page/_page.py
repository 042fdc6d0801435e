"""Benchmarks as one self-contained HTML page: tables, intervals, figures, every fact, settings."""

from __future__ import annotations

import dataclasses
import html
import json
import math
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bluedit.benchmark.page import _comparison as comparison
from bluedit.benchmark.page import _sections as sections
from bluedit.benchmark.page._markup import COLUMNS, label
from bluedit.benchmark.reading import read_benchmark
from bluedit.errors import BenchmarkError
from bluedit.evaluate.metrics import METRICS
from bluedit.page import document, write_document

if TYPE_CHECKING:
    from bluedit.benchmark.reading import BenchmarkRecord, EntryRecord

_INTRODUCTION = (
    "<p>Each recipe wrote the same facts into the weights of a language model, batch after batch; then the model was "
    "questioned. <b>in-context</b> and <b>retrieval</b> leave the weights alone, and <b>lora</b> trains adapters. A name ending in <b>-blue</b> is the recipe of that name with BLUE (boundary layer update), which writes only the first and "
    "the last of the layers, each with its own target. Each form of a recipe runs with the settings tuned for it.</p>"
)
_RESULTS = (
    "After the last batch. Shares in %. An arrow points towards the better values, and the best of each column is marked. Click a number "
    "to see the facts that failed."
)


def write_page(folders: Sequence[Path], out: Path) -> Path:
    """Write one page for several benchmarks.

    Raises:
        BenchmarkError: a folder that cannot be read, or a place that cannot be written.
    """
    records = [read_benchmark(folder) for folder in folders]
    script = resources.files("bluedit.benchmark.page").joinpath("page.js").read_text("utf-8")
    links = "".join(
        f'<li><a href="#run-{i}">{html.escape(_title(record))}</a></li>' for i, record in enumerate(records)
    )
    contents = f"<nav><ul>{links}</ul></nav>" if len(records) > 1 else ""
    body = "".join(_section(number, record) for number, record in enumerate(records))
    data = [_explorer(record) for record in records]
    page = document("bluedit benchmark", _INTRODUCTION + contents, body, data=data, scripts=[script])
    try:
        return write_document(out, page)
    except OSError as error:
        raise BenchmarkError(f"cannot write {out}: {error.strerror or error}; choose another place") from error


def _title(record: BenchmarkRecord) -> str:
    configuration = record.configuration
    facts = f"{configuration.facts:,} facts" + (f" of {configuration.source}" if configuration.source else "")
    name = record.folder.resolve().name
    return f"{name}: {configuration.model}, {facts} in batches of {configuration.batch_size}"


def _section(place: int, record: BenchmarkRecord) -> str:
    names = record.names(COLUMNS)
    rest = [name for name in names if name not in sections.MAIN]
    settings = html.escape(json.dumps(dataclasses.asdict(record.configuration), indent=1, ensure_ascii=False))
    return (
        f'<section id="run-{place}"><h2>{html.escape(_title(record))}</h2>{sections.headline(record)}'
        f"{sections.results(place, record, record.names(sections.MAIN), 'Results', _RESULTS, speed=True)}"
        f"<details><summary>What the numbers mean</summary>{_definitions(names)}</details>{comparison.differences(record)}"
        f"{sections.fronts(record)}{sections.forcing(record)}{sections.drawings(record)}{sections.hidden(record)}{sections.abilities(record)}"
        f"{sections.finetuned(record)}"
        f"{sections.results(place, record, rest, 'Further metrics', '')}<h3>Every fact</h3>"
        f'<div class="explorer" data-run="{place}"><noscript>This list needs JavaScript.</noscript></div>'
        f"<details><summary>Settings</summary><pre>{settings}</pre></details></section>"
    )


def _explorer(record: BenchmarkRecord) -> dict[str, Any]:
    """What the page's script filters: metrics, facts, and for each entry what the model says and the scores, fact by fact."""
    names = [name for name in METRICS if any(name in fact.scores for e in record.entries for fact in e.facts[:1])]
    metrics = [
        {
            "name": name,
            "about": METRICS[name].definition,
            "share": METRICS[name].is_share,
            "digits": METRICS[name].unit.digits,
            "higherIsBetter": METRICS[name].higher_is_better,
        }
        for name in names
    ]
    facts = [[fact.text, fact.target] for fact in record.entries[0].facts]
    return {"metrics": metrics, "facts": facts, "recipes": [_answers(entry, names) for entry in record.entries]}


def _answers(entry: EntryRecord, names: Sequence[str]) -> dict[str, Any]:
    scores = {name: [_short(value) for value in entry.column(name)] for name in names}
    return {"name": entry.name, "edited": entry.edited, "says": [fact.says for fact in entry.facts], "scores": scores}


def _short(value: float) -> float | None:
    """A score as the page's data holds it."""
    if not math.isfinite(value):
        return None
    return int(value) if value == int(value) else round(value, 4)


def _definitions(names: Sequence[str]) -> str:
    items = []
    for name in names:
        metric = COLUMNS[name]
        forced = "teacher-forced" if metric.teacher_forced else "not teacher-forced"
        about = f"{metric.definition} ({metric.source}; {forced})"
        items.append(f"<dt>{label(name)}</dt><dd>{html.escape(about)}</dd>")
    return f"<dl>{''.join(items)}</dl>"
