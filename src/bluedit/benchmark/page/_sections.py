"""The parts of the page on one benchmark: headline, tables, figures. Each is HTML, or empty if the benchmark has no data for it."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from bluedit.benchmark.front import front_charts, points_of
from bluedit.benchmark.page import _comparison as comparison
from bluedit.benchmark.page import _figures as figures
from bluedit.benchmark.page._markup import COLUMNS, head, label, shown
from bluedit.benchmark.reading import finite
from bluedit.benchmark.results import rows_of
from bluedit.evaluate.metrics import NUMBER
from bluedit.page import signed, table

if TYPE_CHECKING:
    from bluedit.benchmark.reading import BenchmarkRecord, EntryRecord
    from bluedit.evaluate.data import Ability, Training

MAIN = (
    *("generated", "generated_paraphrase", "generated_chat", "strict", "strict_paraphrase"),
    *("neighbour_kl", "neighbour_same", "subject_kl", "passage_kl", "passage_same", "chat_kl", "perplexity"),
    *("score", "efficacy", "generalisation", "specificity", "strict_specificity"),
    *("accuracy", "rephrase_accuracy", "locality_answer"),
)  # the columns of the first table; the others are in a second one
_HEADLINE = {
    "generated_unseen": "share of generated answers on unseen phrasings",
    "generated": "share of generated answers",
    "strict": "share of strict answers",
    "score": "score",
    "accuracy": "accuracy",
}  # entries are ranked by the first of these that was measured
_BESIDE = ("generated", "generated_chat", "neighbour_same", "efficacy", "specificity")  # named beside it
_TRADED = (
    ("specificity", "generalisation"),
    ("locality_same", "rephrase_accuracy"),
)  # the first pair that was measured
_KEPT = ("strict", "accuracy", "efficacy", "generated")  # the first that was measured
_FINETUNED = (*(name for name in MAIN if not name.startswith(("strict_", "score"))), "locality_same")


def headline(record: BenchmarkRecord) -> str:
    """The best entry, what BLUE changes, and what is not finished, a sentence each."""
    sentences = []
    name = next(iter(record.names(_HEADLINE)), "")
    ranked = sorted((e for e in record.edited if name and finite(e.value(name))), key=lambda e: -e.value(name))
    if ranked:
        best = ranked[0]
        others = [f"{label(n)} {shown(best.value(n), n)}" for n in _BESIDE if n != name and finite(best.value(n))]
        verb = "has the highest" if len(ranked) > 1 else "reaches a"
        text = f"<b>{html.escape(best.name)}</b> {verb} {_HEADLINE[name]} of {shown(best.value(name), name)}"
        text += f" ({', '.join(others)})" if others else ""
        before, after = record.unedited("perplexity"), best.value("perplexity")
        if finite(before, after):
            text += f"; the perplexity of ordinary text went from {before:.2f} to {shown(after, 'perplexity')}"
        sentences.append(text)
    if name and (count := comparison.raised(record, name)):
        sentences.append(f"With BLUE the {_HEADLINE[name]} was clearly higher in {count}")
    waiting = [name for name in record.unfinished if name not in record.failures]
    rest = f"<p>Not finished yet: {html.escape(', '.join(waiting))}.</p>" if waiting else ""
    rest += "".join(f"<p>Given up: {html.escape(f'{name}: {why}')}</p>" for name, why in record.failures.items())
    return (f'<p class="lead">{". ".join(sentences)}.</p>' if sentences else "") + rest


def results(
    place: int, record: BenchmarkRecord, names: Sequence[str], title: str, about: str, *, speed: bool = False
) -> str:
    """Entries by metrics, after the last batch."""
    if not names:
        return ""
    best = {}
    for name in names:
        values = {entry.value(name) for entry in record.edited if finite(entry.value(name))}
        best[name] = COLUMNS[name].best(values) if len(values) > 1 else math.nan  # if all are equal, none is best
    rows = []
    for entry in record.entries:
        cells = [_cell(place, record, entry, name, best[name]) for name in names]
        if speed:
            cells.append(f"<td>{entry.seconds_per_edit:.2f}</td>" if entry.edited else "<td></td>")
        rows.append((html.escape(entry.name), cells))
    return table(title, about, ["recipe", *map(head, names), *(["s/edit"] if speed else [])], rows)


def _cell(place: int, record: BenchmarkRecord, entry: EntryRecord, name: str, best: float) -> str:
    value, before = entry.value(name), record.unedited(name)
    text = shown(value, name)
    if COLUMNS[name].unit is NUMBER and entry.edited and finite(before, value) and before > 0:
        change = 100 * (value / before - 1)
        text += f" <small>{signed(change, 1 if abs(change) < 1000 else 0)} %</small>" if change < 1e6 else ""
    elif text and COLUMNS[name].is_share and any(name in fact.scores for fact in entry.facts):
        text = f'<a href="#run={place}&amp;recipe={quote(entry.name)}&amp;failed={name}">{text}</a>'
    mark = ' class="best"' if entry.edited and value == best else ""
    return f"<td{mark}>{text}</td>"


def forcing(record: BenchmarkRecord) -> str:
    """How far teacher forcing overstates what the model generates."""
    generated = record.names(("generated", "generated_chat"))
    rows = []
    for entry in record.entries:
        forced = entry.value("accuracy")
        if finite(forced) and any(finite(entry.value(name)) for name in generated):
            cells = [f"<td>{shown(entry.value(name), name)}</td>" for name in ("accuracy", "strict")]
            for name in generated:
                gap = forced - entry.value(name)
                cells.append(
                    f"<td>{shown(entry.value(name), name)}</td><td>{signed(100 * gap, 1) if finite(gap) else ''}</td>"
                )
            rows.append((html.escape(entry.name), cells))
    about = (
        "Teacher forcing feeds the answer's own tokens to the model while it is scored, so the share of right tokens "
        "(accuracy) counts tokens that the model would never reach by itself "
        '(<a href="https://arxiv.org/abs/2502.11177">arXiv 2502.11177</a>); the gap shows how many. Strict requires every token to be '
        "right, in which case greedy text starts with the answer. Shares in %, gaps in percentage points."
    )
    heads = ["recipe", head("accuracy"), head("strict"), *(cell for name in generated for cell in (head(name), "gap"))]
    return table("Teacher-forced and generated", about, heads, rows) if rows else ""


def drawings(record: BenchmarkRecord) -> str:
    """Figures of retention, perplexity, growth of the weights' change, and the trade-off."""
    look = figures.looks([entry.name for entry in record.entries])
    several = [entry for entry in record.edited if len(entry.log.batches) > 1]
    kept = next(iter(record.names(_KEPT)), "")
    first = {entry.name: entry.over_first(kept) for entry in several}
    each = {entry.name: [scores.get(kept) for scores in entry.last.by_batch] for entry in several}
    texts = {entry.name: entry.over_all("perplexity") for entry in several}
    before = record.unedited("perplexity")
    norms = {e.name: [max(batch.norms.values(), default=None) for batch in e.log.batches] for e in several}
    across, up = next((pair for pair in _TRADED if len(record.names(pair)) == 2), _TRADED[0])
    points = {entry.name: (entry.value(across), entry.value(up)) for entry in record.entries}
    drawn = [
        figures.lines("Retention: the first batch's facts after each batch", first, f"{label(kept)}, %", look=look),
        figures.lines("Retention: every batch's facts at the end", each, f"{label(kept)}, %", look=look),
        figures.lines("Ordinary text after each batch", texts, "perplexity", percent=False, look=look, base=before),
        figures.lines("Change of the layer that changed most", norms, "|W − W₀| / |W₀|, %", look=look),
        figures.scatter("Trade-off: top right is best", points, label(across), label(up), look),
    ]  # fmt: skip
    if not any(drawn):
        return ""
    return f'<h3>Figures</h3><div class="figures">{figures.legend(look)}<div class="grid">{"".join(drawn)}</div></div>'


def fronts(record: BenchmarkRecord) -> str:
    """What is said on unseen phrasings against what moved elsewhere, at each number of facts."""
    rows = rows_of(entry.log for entry in record.edited)
    drawn = "".join(chart.html() for chart in front_charts(points_of(rows)))
    if not drawn:
        return ""
    about = (
        "Up: the mean of the shares of paraphrases and of chat questions on which the model generates the new target. Right: the mean KL "
        "(unedited || edited) on ordinary passages, in ordinary chat answers and after neighbours. A line varies one number of a recipe, with "
        "the same targets; hollow marks are entries as they are."
    )
    return f"<h3>The front</h3><p>{about}</p>{drawn}"


def hidden(record: BenchmarkRecord) -> str:
    """Clouds of the hidden states of known facts."""
    drifts = {entry.name: entry.hidden for entry in record.edited if entry.hidden}
    drawn = figures.clouds(
        {name: (drift.before, drift.after, f"shift {drift.shift:.2f}") for name, drift in drifts.items()}
    )
    if not drawn:
        return ""
    one = next(iter(drifts.values()))
    axes = " and ".join(f"{100 * share:.0f} %" for share in one.explained if finite(share))
    about = (
        f"Hidden states after layer {one.layer} at the last token of prompts about other facts, "
        '<span class="key-before">before</span> and <span class="key-after">after</span> all edits, on the two principal '
        f"axes of the states before{f' ({axes} of their variance)' if axes else ''}. All plots share their axes. Shift: how "
        "far the mean moved (the line), divided by the spread before."
    )
    return f"<h3>Drift of hidden states</h3><p>{about}</p>{drawn}"


def abilities(record: BenchmarkRecord) -> str:
    """Accuracy and F1 of each task, at every measurement of an entry."""
    measured = []
    for entry in record.entries:
        facts = 0
        for batch in entry.log.batches:
            facts += batch.facts
            if batch.measured and batch.measured.abilities:
                measured.append(
                    (f"{entry.name}, {facts:,} facts" if entry.edited else entry.name, batch.measured.abilities)
                )
        if entry.finetuned and entry.finetuned.abilities:
            measured.append((f"{entry.name}, fine-tuned afterwards", entry.finetuned.abilities))
    tasks = list(dict.fromkeys(task for _, found in measured for task in found))
    rows = []
    for name, found in measured:
        cells = [_ability_cell(found.get(task)) for task in tasks]
        rows.append((html.escape(name), [*cells, _mean_cell([found.get(task) for task in tasks])]))
    about = (
        "Accuracy in %, and below it F1 of each label weighted by its frequency, on tasks that have nothing to do with the edits, by the "
        "likelihoods of the label words. An F1 far below the accuracy means the same answer to nearly every item."
    )
    return table("General ability", about, ["recipe", *map(html.escape, tasks), "mean"], rows) if rows else ""


def _ability_cell(found: Ability | None) -> str:
    return _bar(found.accuracy, found.f1) if found else "<td></td>"


def _mean_cell(found: Sequence[Ability | None]) -> str:
    """The mean over all tasks; empty if one was not measured."""
    known = [one for one in found if one]
    if len(known) < len(found):
        return "<td></td>"
    return _bar(sum(one.accuracy for one in known) / len(known), sum(one.f1 for one in known) / len(known))


def _bar(accuracy: float, f1: float) -> str:
    return f'<td class="bar" style="--v:{100 * accuracy:.1f}%">{100 * accuracy:.1f} <small>{100 * f1:.1f}</small></td>'


def finetuned(record: BenchmarkRecord) -> str:
    """The metrics before and after a further fine-tuning."""
    found = {entry.name: entry.finetuned for entry in record.entries if entry.finetuned}
    names = [n for n in _FINETUNED if any(finite(f.before.get(n), f.after.get(n)) for f in found.values())]
    how = {name: _training(one.training) for name, one in found.items()}
    alike = len(set(how.values())) == 1
    rows = []
    for name, one in found.items():
        ends = [[shown(scores.get(n, math.nan), n) for scores in (one.before, one.after)] for n in names]
        about = "" if alike else f" <small>after {how[name]}</small>"
        rows.append((html.escape(name) + about, [f"<td>{' → '.join(pair) if all(pair) else ''}</td>" for pair in ends]))
    about = "Do the edits outlast further training, and does the model still train? Before → after "
    about += f"{next(iter(how.values()))}." if alike else "what each row names."
    return table("Fine-tuned afterwards", about, ["recipe", *map(head, names)], rows) if names else ""


def _training(training: Training) -> str:
    return f"{training.steps:,} steps, {training.tokens:,} tokens of ordinary text, learning rate {training.learning_rate:g}"
