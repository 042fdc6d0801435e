"""Benchmark runs as one HTML page that needs nothing else: tables, intervals, figures, every fact, settings."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from bluedit.benchmark.page import _comparison as comparison
from bluedit.benchmark.page import _sections as sections
from bluedit.benchmark.page._markup import COLUMNS
from bluedit.benchmark.page._sections import MAIN
from bluedit.benchmark.runs import Recipe, Run, damaged, read_run
from bluedit.errors import BenchmarkError
from bluedit.evaluate.metrics import METRICS
from bluedit.files import write_file

Told = TypeVar("Told")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def write_page(folders: Sequence[Path], out: Path) -> Path:
    """Write the page of some runs.

    Raises:
        BenchmarkError: a folder that cannot be read, or a place that cannot be written.
    """
    runs = [read_run(folder) for folder in folders]
    style, script = (
        resources.files("bluedit.benchmark.page").joinpath(name).read_text("utf-8") for name in ("page.css", "page.js")
    )
    links = "".join(f'<li><a href="#run-{i}">{html.escape(_told(run, _title))}</a></li>' for i, run in enumerate(runs))
    contents = f"<nav><ul>{links}</ul></nav>" if len(runs) > 1 else ""
    body = "".join(_told(run, lambda run, number=number: _section(number, run)) for number, run in enumerate(runs))
    data = json.dumps([_told(run, _explorer) for run in runs], ensure_ascii=False, separators=(",", ":"))
    data = data.replace("<", "\\u003c")  # neither </script> nor <!-- may stand in a script
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<script>addEventListener('error', (e) => { document.documentElement.dataset.error = e.message; });</script>"
        f"<title>bluedit benchmark</title><style>{style}</style></head><body>"
        f"<header><h1>bluedit benchmark</h1>{_INTRODUCTION}"
        f'{contents}</header><main>{body}</main><script type="application/json" id="data">{data}</script>'
        f"<script>{script}</script></body></html>"
    )
    try:
        write_file(out, page.encode())
    except OSError as error:
        raise BenchmarkError(f"cannot write {out}: {error.strerror or error}; choose another place") from error
    return out


_INTRODUCTION = (
    "<p>Each recipe wrote the same facts into the weights of a language model, batch after batch; then the model was "
    "asked. A name with <b>-blue</b> is the recipe of that name with BLUE (boundary layer update): only the first and "
    "the last of its layers are written, each with a target of its own. Each form of a recipe runs with its own numbers for the model.</p>"
)
_RESULTS = (
    "After the last batch. Shares in %; arrows tell which way is better, and the best of a column is marked. A number "
    "leads to the facts that fail it."
)


def _told(run: Run, part: Callable[[Run], Told]) -> Told:
    """A part of the page. Raises BenchmarkError where a file of the run holds something of another shape than bluedit writes."""
    try:
        return part(run)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise damaged(run.folder, f"{type(error).__name__}: {error}") from error


def _title(run: Run) -> str:
    config = run.config
    facts = f"{config['facts']:,} facts of {config['source']}" if config.get("source") else f"{config['facts']:,} facts"
    return f"{run.folder.resolve().name}: {config['model']}, {facts} in batches of {config['batch_size']}"


def _section(place: int, run: Run) -> str:
    names = run.names(COLUMNS)
    rest = [name for name in names if name not in MAIN]
    settings = html.escape(json.dumps(run.config, indent=1, ensure_ascii=False))
    return (
        f'<section id="run-{place}"><h2>{html.escape(_title(run))}</h2>{sections.headline(run)}'
        f"{sections.results(place, run, run.names(MAIN), 'Results', _RESULTS, speed=True)}"
        f"<details><summary>What the numbers mean</summary>{_definitions(names)}</details>{comparison.differences(run)}"
        f"{sections.forcing(run)}{sections.drawings(run)}{sections.hidden(run)}{sections.abilities(run)}"
        f"{sections.finetuned(run)}"
        f"{sections.results(place, run, rest, 'Further metrics', '')}<h3>Every fact</h3>"
        f'<div class="explorer" data-run="{place}"><noscript>This list needs JavaScript.</noscript></div>'
        f"<details><summary>Settings</summary><pre>{settings}</pre></details></section>"
    )


def _explorer(run: Run) -> dict[str, Any]:
    """What the page's script filters: metrics, facts, and for each recipe what is said and the scores, fact by fact."""
    names = [name for name in METRICS if any(name in fact for r in run.recipes for fact in r.facts[:1])]
    metrics = [
        {"name": name, "about": METRICS[name].definition, "digits": METRICS[name].unit.digits}
        | {"share": METRICS[name].is_share, "higherIsBetter": METRICS[name].higher_is_better}
        for name in names
    ]
    facts = [
        [f["fact"]["prompt"].replace("{}", f["fact"]["subject"]), f["fact"]["target"]] for f in run.recipes[0].facts
    ]
    return {"metrics": metrics, "facts": facts, "recipes": [_answers(r, names) for r in run.recipes]}


def _answers(recipe: Recipe, names: Sequence[str]) -> dict[str, Any]:
    scores = {name: [_short(value) for value in recipe.column(name)] for name in names}
    return {"name": recipe.name, "says": [f.get("says", "") for f in recipe.facts], "scores": scores}


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
        items.append(
            f"<dt>{html.escape(name.replace('_', ' '))}</dt>"
            f"<dd>{html.escape(metric.definition)} ({html.escape(metric.source)}; {forced})</dd>"
        )
    return f"<dl>{''.join(items)}</dl>"
