"""Benchmark runs as one HTML page that needs nothing else: table, differences with intervals, curves, trade-off, every fact, settings."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from bluedit.errors import BenchmarkError
from bluedit.evaluate.metrics import METRICS
from bluedit.files import write_file
from bluedit.report import figures

_RESAMPLES = 2000


@dataclass(frozen=True)
class Recipe:
    """What a run's folder holds of one recipe."""

    name: str
    log: Sequence[Mapping[str, Any]]
    facts: Sequence[Mapping[str, Any]]

    @property
    def last(self) -> Mapping[str, float]:
        return self.log[-1]["all"]


@dataclass(frozen=True)
class Run:
    """A benchmark's folder, read."""

    folder: Path
    config: Mapping[str, Any]
    recipes: Sequence[Recipe]


def read_run(folder: Path) -> Run:
    """Read what is finished of a benchmark.

    Raises:
        BenchmarkError: not a run, nothing finished in it yet, or damaged.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise BenchmarkError(
            f"{folder} is no benchmark run: it holds no config.json; 'bluedit benchmark --out {folder}' makes one"
        )
    try:
        config = json.loads(file.read_text("utf-8"))
        recipes = [_read_recipe(place) for place in sorted(folder.iterdir()) if (place / "facts.json").is_file()]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BenchmarkError(
            f"the run {folder} is damaged ({type(error).__name__}: {error}); run the benchmark again"
        ) from error
    if not recipes:
        raise BenchmarkError(f"no recipe of {folder} is finished yet; let 'bluedit benchmark' come to its end first")
    order = {name: i for i, name in enumerate(config.get("order", ()))}  # as first asked for
    return Run(folder, config, sorted(recipes, key=lambda r: order.get(r.name, len(order))))


def _read_recipe(place: Path) -> Recipe:
    log = json.loads((place / "batches.json").read_text("utf-8"))
    facts = json.loads((place / "facts.json").read_text("utf-8"))
    return Recipe(log[-1]["recipe"], log, facts)


def write_page(folders: Sequence[Path], out: Path) -> Path:
    """Write the page of some runs.

    Raises:
        BenchmarkError: a folder that cannot be read, or a place that cannot be written.
    """
    runs = [read_run(folder) for folder in folders]
    style = resources.files("bluedit.report").joinpath("page.css").read_text("utf-8")
    script = resources.files("bluedit.report").joinpath("page.js").read_text("utf-8")
    body = "".join(_section(number, run) for number, run in enumerate(runs))
    data = json.dumps([_explorer(run) for run in runs], ensure_ascii=False).replace("</", "<\\/")
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>bluedit benchmark</title><style>{style}</style></head><body><h1>bluedit benchmark</h1>{body}"
        f'<script type="application/json" id="data">{data}</script><script>{script}</script></body></html>'
    )
    try:
        write_file(out, page.encode())
    except OSError as error:
        raise BenchmarkError(f"cannot write {out}: {error.strerror or error}; choose another place") from error
    return out


def _section(number: int, run: Run) -> str:
    config = run.config
    head = f"{config['model']}: {config['facts']} facts in batches of {config['batch_size']}"
    parts = [f"<section><h2>{html.escape(head)}</h2>", _table(run), _differences(run)]
    edited = [r for r in run.recipes if len(r.log) > 1]
    if edited:
        lines = {r.name: [entry["first"].get("strict") for entry in r.log if "first" in entry] for r in edited}
        parts.append(figures.lines("First batch: strict answers kept, after each batch", lines))
        drift = {r.name: [entry["all"].get("perplexity") for entry in r.log if "all" in entry] for r in edited}
        parts.append(figures.lines("Perplexity of ordinary text, after each batch", drift, percent=False))
    points = {r.name: (r.last["specificity"], r.last["generalisation"]) for r in run.recipes if "specificity" in r.last}
    if points:
        parts.append(figures.scatter("Trade-off", points, "specificity", "generalisation"))
    tasks = {r.name: {t: a["accuracy"] for t, a in r.log[-1].get("abilities", {}).items()} for r in run.recipes}
    if any(tasks.values()):
        parts.append(figures.bars("General ability: accuracy", {name: t for name, t in tasks.items() if t}))
    parts.append(
        f'<h3>Every fact</h3><div class="explorer" data-run="{number}"></div>'
        f"<details><summary>Settings</summary><pre>{html.escape(json.dumps(config, indent=1, ensure_ascii=False))}</pre></details>"
        f"<details><summary>What the numbers mean</summary>{_definitions(run)}</details></section>"
    )
    return "".join(parts)


def _names(run: Run) -> list[str]:
    return [name for name in (*METRICS, "score") if any(name in r.last for r in run.recipes)]


def _table(run: Run) -> str:
    names = [*_names(run), "perplexity"]
    edited = [r for r in run.recipes if r.name != "unedited"]
    best = {}
    for name in names:
        values = [r.last[name] for r in edited if r.last.get(name) == r.last.get(name) and r.last.get(name) is not None]
        lower = name == "perplexity" or (name in METRICS and METRICS[name].better == "lower")
        best[name] = (min if lower else max)(values) if values else None
    heads = "".join(f"<th>{html.escape(name.replace('_', ' '))}</th>" for name in ("recipe", *names, "s/edit"))
    rows = []
    for r in run.recipes:
        cells = []
        for name in names:
            value = r.last.get(name)
            mark = ' class="best"' if r in edited and value == best[name] and len(edited) > 1 else ""
            cells.append(f"<td{mark}>{_shown(value, name)}</td>")
        total, facts = sum(e["seconds"] for e in r.log), sum(e["facts"] for e in r.log)
        speed = f"{total / facts:.2f}" if total else ""
        rows.append(f"<tr><td>{html.escape(r.name)}</td>{''.join(cells)}<td>{speed}</td></tr>")
    return f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _differences(run: Run) -> str:
    """BLUE minus plain, per metric, with a 95 % interval over facts."""
    by_name = {r.name: r for r in run.recipes}
    pairs = [(by_name[f"{name}-blue"], r) for name, r in by_name.items() if f"{name}-blue" in by_name]
    if not pairs:
        return ""
    names = [name for name in _names(run) if name != "score"]
    rows = []
    for blue, plain in pairs:
        cells = []
        for name in names:
            low, mean, high = interval([f[name] for f in blue.facts], [f[name] for f in plain.facts])
            sure = "" if mean != mean or low <= 0 <= high else ' class="best"'
            cells.append(
                f"<td{sure}>{100 * mean:+.1f} <small>[{100 * low:+.1f}, {100 * high:+.1f}]</small></td>"
                if mean == mean
                else "<td></td>"
            )
        rows.append(f"<tr><td>{html.escape(plain.name)}</td>{''.join(cells)}</tr>")
    heads = "".join(f"<th>{html.escape(name.replace('_', ' '))}</th>" for name in ("BLUE minus plain", *names))
    return f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def interval(one: Sequence[float], other: Sequence[float]) -> tuple[float, float, float]:
    """(low, mean, high) of the mean difference over facts: 95 % by bootstrap with a fixed seed; NaN if nothing can be compared."""
    apart = torch.tensor(one, dtype=torch.float64) - torch.tensor(other, dtype=torch.float64)
    apart = apart[~apart.isnan()]
    if not len(apart):
        return float("nan"), float("nan"), float("nan")
    chosen = torch.randint(len(apart), (_RESAMPLES, len(apart)), generator=torch.Generator().manual_seed(0))
    means = apart[chosen].mean(dim=1).sort().values
    return float(means[int(0.025 * _RESAMPLES)]), float(apart.mean()), float(means[int(0.975 * _RESAMPLES) - 1])


def _shown(value: float | None, name: str) -> str:
    if value is None or value != value:
        return ""
    return f"{value:.2f}" if name in ("perplexity", "neighbour_kl") else f"{100 * value:.1f}"


def _explorer(run: Run) -> dict[str, Any]:
    """What the page's script filters: for each recipe and fact, what was asked, what is said, and the shares."""
    recipes = []
    for r in run.recipes:
        rows = [
            {
                "prompt": f["fact"]["prompt"].replace("{}", f["fact"]["subject"]),
                "target": f["fact"]["target"],
                "says": f.get("says", ""),
                "scores": {name: f[name] for name in METRICS if f.get(name) == f.get(name) and f.get(name) is not None},
            }
            for f in r.facts
        ]
        recipes.append({"name": r.name, "facts": rows})
    return {"metrics": [n for n in _names(run) if n != "score"], "recipes": recipes}


def _definitions(run: Run) -> str:
    items = []
    for name in _names(run):
        if name in METRICS:
            m = METRICS[name]
            forced = "teacher-forced" if m.teacher_forced else "not teacher-forced"
            items.append(
                f"<dt>{html.escape(name)}</dt><dd>{html.escape(m.definition)} ({html.escape(m.source)}; {forced})</dd>"
            )
    return f"<dl>{''.join(items)}<dt>score</dt><dd>harmonic mean of efficacy, generalisation and specificity</dd></dl>"
