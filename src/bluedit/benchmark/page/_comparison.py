"""What BLUE changes: each recipe with BLUE minus the same recipe without, fact by fact, with intervals."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bluedit.benchmark.page._markup import COLUMNS, head
from bluedit.evaluate.metrics import METRICS, SCORE, SCORE_OF
from bluedit.page import signed, table

if TYPE_CHECKING:
    from bluedit.benchmark.reading import BenchmarkRecord, EntryRecord

_RESAMPLES = 2000
Interval = tuple[float, float, float]  # low, mean, high


def differences(record: BenchmarkRecord) -> str:
    """With BLUE minus without, by metric, with a 95 % interval over facts; and in which settings the two forms differ."""
    pairs = record.pairs()
    rows = []
    for name in record.names((SCORE, *METRICS)) if pairs else ():
        cells = [_difference(name, difference(name, plain, blue)) for plain, blue in pairs]
        if any(cell != "<td></td>" for cell in cells):
            rows.append((head(name), cells))
    if not rows:
        return ""
    heads = ["metric", *(f'<span class="name">{html.escape(plain.name)}</span>' for plain, _ in pairs)]
    about = (
        "Each recipe with BLUE minus the same recipe without it, in percentage points for shares, with a 95 % bootstrap interval "
        'over the facts. <span class="better">Better</span> and <span class="worse">worse</span> are marked '
        "where the interval excludes 0."
    )
    return table("What BLUE changes", about, heads, rows) + _settings(record, pairs)


def raised(record: BenchmarkRecord, name: str) -> str:
    """In how many recipes BLUE clearly raised a metric, as part of a sentence; empty without a pair."""
    found = [difference(name, plain, blue) for plain, blue in record.pairs()]
    found = [(low, high) for low, mean, high in found if not math.isnan(mean)]
    if not found:
        return ""
    higher, lower = sum(low > 0 for low, _ in found), sum(high < 0 for _, high in found)
    rest = len(found) - higher - lower
    also = [f"clearly lower in {lower}"] * bool(lower) + [f"within chance in {rest}"] * bool(rest)
    return f"{higher} of the {len(found)} recipes run both ways" + (f" ({', '.join(also)})" if also else "")


def difference(name: str, plain: EntryRecord, blue: EntryRecord) -> Interval:
    """(low, mean, high) of a metric with BLUE minus without."""
    if name != SCORE:  # the one metric that is not a mean over facts
        return interval(blue.column(name), plain.column(name))
    return score_interval(*([entry.column(part) for part in SCORE_OF] for entry in (blue, plain)))


def interval(one: Sequence[float], other: Sequence[float]) -> Interval:
    """(low, mean, high) of the mean difference over facts: a 95 % bootstrap interval with a fixed seed; NaN without values."""
    apart = np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64)
    apart = apart[~np.isnan(apart)]
    return _bootstrap(len(apart), lambda chosen: apart[chosen].mean(axis=-1))


def score_interval(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> Interval:
    """The same for the harmonic mean of three columns' means; each mean is over the facts that have a value."""
    values = np.asarray([one, other], dtype=np.float64)  # 2 x 3 x facts

    def apart(chosen: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):  # the score is 0 where one of the three means is 0
            score = 3 / (1 / _nanmean(values[:, :, chosen])).sum(axis=1)
        return score[0] - score[1]

    return _bootstrap(values.shape[-1], apart)


def _nanmean(values: np.ndarray) -> np.ndarray:
    """The mean over the last axis of what is not NaN; NaN where nothing is."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(axis=-1) / known.sum(axis=-1)


def _bootstrap(count: int, statistic: Callable[[np.ndarray], np.ndarray]) -> Interval:
    """`statistic` of all facts, between its 2.5 and 97.5 percentiles over facts drawn with replacement."""
    if not count:
        return math.nan, math.nan, math.nan
    chosen = np.random.default_rng(0).integers(count, size=(_RESAMPLES, count))
    drawn = statistic(chosen)
    drawn = np.sort(drawn[~np.isnan(drawn)])  # a draw may have none of the few facts with a value
    if not len(drawn):
        return math.nan, math.nan, math.nan
    return (
        float(drawn[int(0.025 * len(drawn))]),
        float(statistic(np.arange(count)[None])[0]),
        float(drawn[max(0, int(0.975 * len(drawn)) - 1)]),
    )


def _difference(name: str, found: Interval) -> str:
    low, mean, high = found
    metric = COLUMNS[name]
    if math.isnan(mean):
        return "<td></td>"
    better = (mean > 0) == metric.higher_is_better
    mark = "" if low <= 0 <= high else ' class="better"' if better else ' class="worse"'
    low, mean, high = (signed(metric.unit.scale * v, metric.unit.digits) for v in (low, mean, high))
    return f"<td{mark}>{mean} <small>[{low}, {high}]</small></td>"


def _settings(record: BenchmarkRecord, pairs: Sequence[tuple[EntryRecord, EntryRecord]]) -> str:
    """In which settings other than the schedule the two forms of a recipe differ."""
    items = []
    for plain, blue in pairs:
        apart = record.settings_apart(plain, blue)
        if apart:
            values = ", ".join(f"{path} {one} and {other}" for path, (one, other) in apart.items())
            items.append(f"<li>{html.escape(f'{plain.name} and {blue.name}: {values}')}</li>")
    if not items:
        return ""
    return (
        "<p>The two forms of these recipes also differ in settings tuned for each, so a difference need not be due to BLUE alone:</p>"
        f"<ul>{''.join(items)}</ul>"
    )
