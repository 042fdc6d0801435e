"""The parts of a run's page: headline, tables, figures. Each is HTML, and empty where the run holds nothing for it."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from bluedit.benchmark.page import _comparison as comparison
from bluedit.benchmark.page import _figures as figures
from bluedit.benchmark.page._markup import COLUMNS, head, label, shown, signed, table
from bluedit.benchmark.runs import NAN, Recipe, Run, known, number

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
_TRADED = (("specificity", "generalisation"), ("locality_same", "rephrase_accuracy"))  # the first that was measured
_KEPT = ("strict", "accuracy", "efficacy", "generated")
_TRAINED = (*(name for name in MAIN if not name.startswith(("strict_", "score"))), "locality_same")


def headline(run: Run) -> str:
    """The best recipe, what BLUE changes, and what is not finished, each in a sentence."""
    said = []
    name = next(iter(run.names(_HEADLINE)), "")
    ranked = sorted((r for r in run.edited if name and known(r.value(name))), key=lambda r: -r.value(name))
    if ranked:
        best = ranked[0]
        rest = [f"{label(n)} {shown(best.value(n), n)}" for n in MAIN[1:5] if n != name and known(best.value(n))]
        verb = "has the highest" if len(ranked) > 1 else "reaches a"
        text = f"<b>{html.escape(best.name)}</b> {verb} {_HEADLINE[name]} of {shown(best.value(name), name)}"
        said.append(text + (f" ({', '.join(rest)})" if rest else ""))
        before, after = run.unedited("perplexity"), best.value("perplexity")
        if known(before, after):
            said[0] += f"; ordinary text's perplexity went from {before:.2f} to {shown(after, 'perplexity')}"
    if name and (counted := comparison.raised(run, name)):
        said.append(f"With BLUE the {_HEADLINE[name]} was clearly higher in {counted}")
    waiting = [name for name in run.unfinished if name not in run.failed]
    rest = f"<p>Not finished yet: {html.escape(', '.join(waiting))}.</p>" if waiting else ""
    rest += "".join(f"<p>Given up: {html.escape(f'{name}: {why}')}</p>" for name, why in run.failed.items())
    return (f'<p class="lead">{". ".join(said)}.</p>' if said else "") + rest


def results(place: int, run: Run, names: Sequence[str], title: str, about: str, *, speed: bool = False) -> str:
    """Recipes by metrics, after the last batch."""
    if not names:
        return ""
    best = {}
    for name in names:
        values = [r.value(name) for r in run.edited if known(r.value(name))]
        best[name] = COLUMNS[name].best(values) if len(set(values)) > 1 else NAN  # nothing is best where all are equal
    rows = []
    for r in run.recipes:
        cells = [_cell(place, run, r, name, best[name]) for name in names]
        total, facts = sum(e["seconds"] for e in r.log), sum(e["facts"] for e in r.log)
        cells += [f"<td>{total / facts:.2f}</td>" if total else "<td></td>"] if speed else []
        rows.append((html.escape(r.name), cells))
    return table(title, about, ["recipe", *map(head, names), *(["s/edit"] if speed else [])], rows)


def _cell(place: int, run: Run, recipe: Recipe, name: str, best: float) -> str:
    value = recipe.value(name)
    text = shown(value, name)
    if name == "perplexity" and recipe.name != "unedited" and known(run.unedited(name), value):
        change = 100 * (value / run.unedited(name) - 1)
        text += f" <small>{signed(change, 1 if abs(change) < 1000 else 0)} %</small>" if change < 1e6 else ""
    elif text and COLUMNS[name].is_share and any(name in fact for fact in recipe.facts):
        text = f'<a href="#run={place}&amp;recipe={quote(recipe.name)}&amp;failed={name}">{text}</a>'
    mark = ' class="best"' if recipe.name != "unedited" and value == best else ""
    return f"<td{mark}>{text}</td>"


def forcing(run: Run) -> str:
    """What scoring with the answer's own tokens adds to what the model says by itself."""
    said = run.names(("generated", "generated_chat"))
    rows = []
    for r in run.recipes:
        forced = r.value("accuracy")
        if known(forced) and any(known(r.value(name)) for name in said):
            cells = [f"<td>{shown(r.value(name), name)}</td>" for name in ("accuracy", "strict")]
            for name in said:
                gap = forced - r.value(name)
                cells.append(
                    f"<td>{shown(r.value(name), name)}</td><td>{signed(100 * gap, 1) if known(gap) else ''}</td>"
                )
            rows.append((html.escape(r.name), cells))
    about = (
        "Teacher forcing feeds the answer's own tokens to the model while it is scored, so the share of right tokens "
        "(accuracy) also counts those that the model would never come to by itself "
        '(<a href="https://arxiv.org/abs/2502.11177">arXiv 2502.11177</a>); the gap is what that adds. Strict asks for every token, '
        "which greedy text then begins with. Shares in %, gaps in percentage points."
    )
    heads = ["recipe", head("accuracy"), head("strict"), *(cell for name in said for cell in (head(name), "gap"))]
    return table("Teacher-forced and generated", about, heads, rows) if rows else ""


def drawings(run: Run) -> str:
    """Retention, perplexity, growth of the weights' change, and the trade-off."""
    look = figures.looks([r.name for r in run.recipes])
    several = [r for r in run.edited if len(r.log) > 1]
    kept = next(iter(run.names(_KEPT)), "")
    first = {r.name: r.course("first", kept) for r in several}
    each = {r.name: [part.get(kept) for part in r.log[-1].get("by_batch", ())] for r in several}
    texts = {r.name: r.course("all", "perplexity") for r in several}
    before = run.unedited("perplexity")
    norms = {r.name: [max(e["norms"].values()) if e.get("norms") else None for e in r.log] for r in several}
    across, up = next((pair for pair in _TRADED if len(run.names(pair)) == 2), _TRADED[0])
    points = {r.name: (r.value(across), r.value(up)) for r in run.recipes}
    drawn = [
        figures.lines("Retention: the first batch's facts after each batch", first, f"{label(kept)}, %", look=look),
        figures.lines("Retention: every batch's facts at the end", each, f"{label(kept)}, %", look=look),
        figures.lines("Ordinary text after each batch", texts, "perplexity", percent=False, look=look, base=before),
        figures.lines("Growth of the layer that moved most", norms, "|W − W₀| / |W₀|, %", look=look),
        figures.scatter("Trade-off: the best is at the top right", points, label(across), label(up), look),
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
    axes = " and ".join(f"{100 * share:.0f} %" for share in one.get("explained", ()) if known(share))
    about = (
        f"Hidden states after layer {html.escape(str(one['layer']))} at the last token of prompts about other facts, "
        '<span class="key-before">before</span> and <span class="key-after">after</span> all edits, on the two main '
        f"axes of the states before{f' ({axes} of their variance)' if axes else ''}; the same axes for all. Shift: how "
        "far the mean moved (the line), over the spread before."
    )
    return f"<h3>Drift of hidden states</h3><p>{about}</p>{drawn}"


def abilities(run: Run) -> str:
    """Accuracy and F1 of each task, for every time that a recipe was asked."""
    asked = []
    for r in run.recipes:
        facts = 0
        for entry in r.log:
            facts += entry["facts"]
            if entry.get("abilities"):
                asked.append((r.name if r.name == "unedited" else f"{r.name}, {facts:,} facts", entry["abilities"]))
        if r.finetuned and r.finetuned.get("abilities"):
            asked.append((f"{r.name}, fine-tuned afterwards", r.finetuned["abilities"]))
    tasks = list(dict.fromkeys(task for _, found in asked for task in found))
    rows = []
    for name, found in asked:
        pairs = [(number(found.get(task, {}).get("accuracy")), number(found.get(task, {}).get("f1"))) for task in tasks]
        pairs.append((sum(a for a, _ in pairs) / len(pairs), sum(f for _, f in pairs) / len(pairs)))
        rows.append((html.escape(name), [_ability(*pair) for pair in pairs]))
    about = (
        "Accuracy in %, and F1 of each label weighted by its frequency below it, on tasks that have nothing to do with the edits, by the "
        "likelihoods of the label words. An F1 far below the accuracy means the same answer to nearly every item."
    )
    return table("General ability", about, ["recipe", *map(html.escape, tasks), "mean"], rows) if rows else ""


def _ability(accuracy: float, f1: float) -> str:
    if not known(accuracy):
        return "<td></td>"
    below = f" <small>{100 * f1:.1f}</small>" if known(f1) else ""
    return f'<td class="bar" style="--v:{100 * accuracy:.1f}%">{100 * accuracy:.1f}{below}</td>'


def finetuned(run: Run) -> str:
    trained = {r.name: r.finetuned for r in run.recipes if r.finetuned}
    names = [
        n
        for n in _TRAINED
        if any(known(number(t["before"].get(n)), number(t["after"].get(n))) for t in trained.values())
    ]
    how = {name: _training(found) for name, found in trained.items()}
    alike = len(set(how.values())) == 1
    rows = []
    for name, found in trained.items():
        ends = [[shown(number(found[when].get(n)), n) for when in ("before", "after")] for n in names]
        about = "" if alike else f" <small>after {how[name]}</small>"
        rows.append((html.escape(name) + about, [f"<td>{' → '.join(pair) if all(pair) else ''}</td>" for pair in ends]))
    about = "Do the edits outlast training, and is the model still fit for it? Before → after "
    about += f"{next(iter(how.values()))}." if alike and how else "what each row names."
    return table("Fine-tuned afterwards", about, ["recipe", *map(head, names)], rows) if names else ""


def _training(found: Mapping[str, Any]) -> str:
    about = found.get("training", {}) | found
    parts = (
        (f"{about[key]:,} {text}" if key != "learning_rate" else f"{text} {about[key]:g}")
        for key, text in _HOW
        if key in about
    )
    return html.escape(", ".join(parts))


_HOW = (("steps", "steps"), ("tokens", "tokens of ordinary text"), ("learning_rate", "learning rate"))
