"""Means and quartiles of columns, and rows sorted into groups."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Row = TypeVar("Row")


@dataclass(frozen=True)
class Spread:
    """A mean, and the quartiles."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """NaN where there is no finite value."""
        found = sorted(value for value in values if math.isfinite(value))
        if not found:
            return cls(math.nan, math.nan, math.nan)
        return cls(sum(found) / len(found), _quantile(found, 0.25), _quantile(found, 0.75))


def _quantile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def grouped(rows: Iterable[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    """Rows by a key, in the order in which keys first occur."""
    found: dict[Any, list[Row]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found


def spreads(
    rows: Iterable[Row], key: Callable[[Row], float], value: Callable[[Row], float]
) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """(points, quartiles): the mean of a value and its quartiles for each key, ascending."""
    found = {at: Spread.of(map(value, own)) for at, own in sorted(grouped(rows, key).items())}
    return [(at, one.mean) for at, one in found.items()], [(one.low, one.high) for one in found.values()]
