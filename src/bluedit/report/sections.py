"""The parts of a run's page: headline, tables, figures. Each is HTML, and empty where the run holds nothing for it."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import torch

from bluedit.evaluate.metrics import METRICS, Metric
from bluedit.report import figures
from bluedit.report.runs import NAN, Recipe, Run, known, number

_RESAMPLES = 2000
COLUMNS: Mapping[str, Metric] = {
    "score": Metric(
        "harmonic mean of efficacy, generalisation and specificity", "ROME, arXiv 2202.05262, section 3.3", True
    ),
    **METRICS,
    "perplexity": Metric(
        "exp of the mean negative log-probability per token of ordinary text",
        "locality beyond the benchmark",
        True,
        "lower",
        "",
    ),
}
MAIN = (
    *("score", "efficacy", "generalisation", "specificity", "strict", "strict_paraphrase", "strict_specificity"),
    *("accuracy", "rephrase_accuracy", "locality_answer", "generated", "perplexity", "passage_kl", "passage_same"),
)  # the rest stands in a second table
_HEADLINE = {
    "score": "score",
    "strict": "share of strict answers",
    "accuracy": "accuracy",
    "generated": "share of generated answers",
}  # the first that was measured
_KEPT = ("strict", "accuracy", "efficacy", "generated")
_TRAINED = (*(name for name in MAIN if not name.startswith(("strict_", "score"))), "locality_same")


def headline(run: Run) -> str:
    """The best recipe, what BLUE changes, and what is not finished, each in a sentence."""
    said = []
    name = next(iter(run.names(_HEADLINE)), "")
    ranked = sorted((r for r in run.edited if name and known(r.value(name))), key=lambda r: -r.value(name))
    if ranked:
        best = ranked[0]
        rest = [f"{_label(n)} {_shown(best.value(n), n)}" for n in MAIN[1:5] if n != name and known(best.value(n))]
        verb = "has the highest" if len(ranked) > 1 else "reaches a"
        text = f"<b>{html.escape(best.name)}</b> {verb} {_HEADLINE[name]} of {_shown(best.value(name), name)}"
        said.append(text + (f" ({', '.join(rest)})" if rest else ""))
        before, after = run.unedited("perplexity"), best.value("perplexity")
        if known(before, after):
            said[0] += f"; ordinary text's perplexity went from {before:.2f} to {_shown(after, 'perplexity')}"
    higher = [
        blue.value(name) > plain.value(name)
        for plain, blue in run.pairs()
        if known(blue.value(name), plain.value(name))
    ]
    if higher:
        said.append(f"BLUE raised the {_HEADLINE[name]} of {sum(higher)} of the {len(higher)} recipes run both ways")
    waiting = f"<p>Not finished yet: {html.escape(', '.join(run.unfinished))}.</p>" if run.unfinished else ""
    return (f'<p class="lead">{". ".join(said)}.</p>' if said else "") + waiting


def results(place: int, run: Run, names: Sequence[str], title: str, about: str, *, speed: bool = False) -> str:
    """Recipes by metrics, after the last batch."""
    if not names:
        return ""
    best = {}
    for name in names:
        values = [r.value(name) for r in run.edited if known(r.value(name))]
        way = {"lower": min, "higher": max}.get(COLUMNS[name].better)
        best[name] = way(values) if way and len(values) > 1 else NAN
    rows = []
    for r in run.recipes:
        cells = [_cell(place, run, r, name, best[name]) for name in names]
        total, facts = sum(e["seconds"] for e in r.log), sum(e["facts"] for e in r.log)
        cells += [f"<td>{total / facts:.2f}</td>" if total else "<td></td>"] if speed else []
        rows.append((html.escape(r.name), cells))
    return _table(title, about, ["recipe", *map(_head, names), *(["s/edit"] if speed else [])], rows)


def _cell(place: int, run: Run, recipe: Recipe, name: str, best: float) -> str:
    value = recipe.value(name)
    text = _shown(value, name)
    if name == "perplexity" and recipe.name != "unedited" and known(run.unedited(name), value):
        change = 100 * (value / run.unedited(name) - 1)
        text += f" <small>{_signed(change, 1 if abs(change) < 1000 else 0)} %</small>"
    elif text and COLUMNS[name].unit == "share" and any(name in fact for fact in recipe.facts):
        text = f'<a href="#run={place}&amp;recipe={quote(recipe.name)}&amp;failed={name}">{text}</a>'
    mark = ' class="best"' if recipe.name != "unedited" and value == best else ""
    return f"<td{mark}>{text}</td>"


def differences(run: Run) -> str:
    """With BLUE minus without, per metric, with a 95 % interval over facts."""
    pairs = run.pairs()
    rows = []
    for name in run.names(tuple(METRICS)) if pairs else ():
        cells = [_difference(name, interval(blue.column(name), plain.column(name))) for plain, blue in pairs]
        if any(cell != "<td></td>" for cell in cells):
            rows.append((_head(name), cells))
    heads = ["metric", *(html.escape(plain.name) for plain, _ in pairs)]
    about = (
        "Each recipe with BLUE minus the same without it, in percentage points for shares, with a 95 % interval over "
        'the facts (bootstrap). <span class="better">Better</span> and <span class="worse">worse</span> are marked '
        "where the interval leaves 0 out."
    )
    return _table("What BLUE changes", about, heads, rows) if rows else ""


def _difference(name: str, found: tuple[float, float, float]) -> str:
    low, mean, high = found
    metric = METRICS[name]
    if math.isnan(mean):
        return "<td></td>"
    scale, digits = {"share": (100, 1), "nats": (1, 3)}.get(metric.unit, (1, 2))
    better = metric.better and (mean > 0) == (metric.better == "higher")
    mark = "" if low <= 0 <= high or not metric.better else ' class="better"' if better else ' class="worse"'
    low, mean, high = (_signed(scale * v, digits) for v in (low, mean, high))
    return f"<td{mark}>{mean} <small>[{low}, {high}]</small></td>"


def interval(one: Sequence[float], other: Sequence[float]) -> tuple[float, float, float]:
    """(low, mean, high) of the mean difference over facts: 95 % by bootstrap with a fixed seed; NaN without values."""
    apart = torch.tensor(one, dtype=torch.float64) - torch.tensor(other, dtype=torch.float64)
    apart = apart[~apart.isnan()]
    if not len(apart):
        return NAN, NAN, NAN
    chosen = torch.randint(len(apart), (_RESAMPLES, len(apart)), generator=torch.Generator().manual_seed(0))
    means = apart[chosen].mean(dim=1).sort().values
    return float(means[int(0.025 * _RESAMPLES)]), float(apart.mean()), float(means[int(0.975 * _RESAMPLES) - 1])


def forcing(run: Run) -> str:
    """What scoring with the answer's own tokens adds to what the model says by itself."""
    said = run.names(("generated", "generated_chat"))
    rows = []
    for r in run.recipes:
        if known(r.value("strict")) and any(known(r.value(name)) for name in said):
            cells = [f"<td>{_shown(r.value('strict'), 'strict')}</td>"]
            for name in said:
                gap = r.value("strict") - r.value(name)
                cells.append(
                    f"<td>{_shown(r.value(name), name)}</td><td>{_signed(100 * gap, 1) if known(gap) else ''}</td>"
                )
            rows.append((html.escape(r.name), cells))
    about = (
        "Teacher forcing feeds the answer's own tokens to the model while it is scored, so a model may pass that would "
        'never say the answer by itself (<a href="https://arxiv.org/abs/2502.11177">arXiv 2502.11177</a>). '
        "Shares in %, gaps in percentage points."
    )
    heads = ["recipe", _head("strict"), *(head for name in said for head in (_head(name), "gap"))]
    return _table("Teacher-forced and generated", about, heads, rows) if rows else ""


def drawings(run: Run) -> str:
    """Retention, perplexity, growth of the weights' change, and the trade-off."""
    look = figures.looks([r.name for r in run.recipes])
    several = [r for r in run.edited if len(r.log) > 1]
    kept = next(iter(run.names(_KEPT)), "")
    first = {r.name: r.course("first", kept) for r in several}
    texts = {r.name: r.course("all", "perplexity") for r in several}
    before = run.unedited("perplexity")
    norms = {r.name: [max(e["norms"].values()) if e.get("norms") else None for e in r.log] for r in several}
    points = {r.name: (r.value("specificity"), r.value("generalisation")) for r in run.recipes}
    drawn = [
        figures.lines("Retention: the first batch's facts after each batch", first, f"{_label(kept)}, %", look=look),
        figures.lines("Ordinary text after each batch", texts, "perplexity", percent=False, look=look, base=before),
        figures.lines("Growth of the layer that moved most", norms, "|W − W₀| / |W₀|, %", look=look),
        figures.scatter("Trade-off: the best is at the top right", points, "specificity", "generalisation", look),
    ]  # fmt: skip
    if not any(drawn):
        return ""
    return f'<h3>Figures</h3><div class="figures">{figures.legend(look)}<div class="grid">{"".join(drawn)}</div></div>'


def hidden(run: Run) -> str:
    places = {r.name: r.hidden for r in run.edited if r.hidden}
    drawn = figures.clouds(
        {name: (h["before"], h["after"], f"shift {number(h['shift']):.2f}") for name, h in places.items()}
    )
    if not drawn:
        return ""
    one = next(iter(places.values()))
    axes = " and ".join(f"{100 * share:.0f} %" for share in one.get("explained", ()))
    about = (
        f"Hidden states after layer {one['layer']} at the last token of prompts about other facts, "
        '<span class="key-before">before</span> and <span class="key-after">after</span> all edits, on the two main '
        f"axes of the states before{f' ({axes} of their variance)' if axes else ''}; the same axes for all. Shift: how "
        "far the mean moved (the line), over the spread before."
    )
    return f"<h3>Drift of hidden states</h3><p>{about}</p>{drawn}"


def abilities(run: Run) -> str:
    asked = {r.name: r.log[-1]["abilities"] for r in run.recipes if r.log[-1].get("abilities")}
    tasks = list(dict.fromkeys(task for found in asked.values() for task in found))
    rows = []
    for name, found in asked.items():
        shares = [number(found.get(task, {}).get("accuracy")) for task in tasks]
        shares.append(sum(shares) / len(shares))
        rows.append(
            (
                html.escape(name),
                [
                    f'<td class="bar" style="--v:{100 * v:.1f}%">{100 * v:.1f}</td>' if known(v) else "<td></td>"
                    for v in shares
                ],
            )
        )
    about = "Accuracy in % on tasks that have nothing to do with the edits, by the likelihoods of the label words."
    return _table("General ability", about, ["recipe", *map(html.escape, tasks), "mean"], rows) if rows else ""


def finetuned(run: Run) -> str:
    trained = {r.name: r.finetuned for r in run.recipes if r.finetuned}
    names = [
        n
        for n in _TRAINED
        if any(known(number(t["before"].get(n)), number(t["after"].get(n))) for t in trained.values())
    ]
    how = dict.fromkeys(_training(found) for found in trained.values())
    rows = []
    for name, found in trained.items():
        ends = [[_shown(number(found[when].get(n)), n) for when in ("before", "after")] for n in names]
        rows.append((html.escape(name), [f"<td>{' → '.join(pair) if all(pair) else ''}</td>" for pair in ends]))
    about = f"Do the edits outlast training, and is the model still fit for it? Before → after {'; '.join(how)}."
    return _table("Fine-tuned afterwards", about, ["recipe", *map(_head, names)], rows) if names else ""


def _training(found: Mapping[str, Any]) -> str:
    about = found.get("training", {}) | found
    parts = (
        (f"{about[key]:,} {text}" if key != "learning_rate" else f"{text} {about[key]:g}")
        for key, text in _HOW
        if key in about
    )
    return html.escape(", ".join(parts))


_HOW = (("steps", "steps"), ("tokens", "tokens of ordinary text"), ("learning_rate", "learning rate"))


def _table(title: str, about: str, heads: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """A table under a heading; heads and cells are HTML, and the first column stays in sight."""
    top = "".join(f'<th scope="col">{head}</th>' for head in heads)
    body = "".join(f'<tr><th scope="row">{name}</th>{"".join(cells)}</tr>' for name, cells in rows)
    return (
        f"<h3>{title}</h3>{f'<p>{about}</p>' if about else ''}"
        f'<div class="wide" tabindex="0" role="group" aria-label="{title}">'
        f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _head(name: str) -> str:
    metric = COLUMNS[name]
    arrow = {"higher": "\N{NO-BREAK SPACE}↑", "lower": "\N{NO-BREAK SPACE}↓"}.get(metric.better, "")
    return f'<span title="{html.escape(metric.definition)}">{_label(name)}{arrow}</span>'


def _label(name: str) -> str:
    return html.escape(name.replace("_", " "))


def _shown(value: float, name: str) -> str:
    return f"{value:,.0f}" if name == "perplexity" and value >= 1000 else COLUMNS[name].shown(value)


def _signed(value: float, digits: int) -> str:
    return f"{round(value, digits) + 0.0:+,.{digits}f}".replace("-", "−")
