"""Scales of axes: from values to positions, and the values where ticks stand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Maps values between `low` and `high` to positions between `start` and `end`.

    Attributes:
        step: between ticks.
        percent: whether values are shares, shown in percent.
        log: whether the scale is logarithmic.
    """

    low: float
    high: float
    start: float
    end: float
    step: float
    percent: bool = False
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = map(math.log, (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Values at which ticks stand, ascending."""
        if not self.log:
            first = math.ceil(self.low / self.step - 1e-9)
            return [i * self.step for i in range(first, math.floor(self.high / self.step + 1e-9) + 1)]
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for among in ((1, 2, 5), (1, 3), (1,)):
            found = [m * 10.0**p for p in powers for m in among if self.low <= m * 10.0**p <= self.high]
            if len(found) <= 6:
                break
        if not found:
            return [self.low, self.high]
        return found[:: math.ceil(len(found) / 6)]

    def shown(self, value: float, more: int = 0) -> str:
        """A value with as many decimals as the ticks need, and `more`."""
        if self.log:
            return f"{value:.3g}" if value < 1000 else f"{value:,.0f}" if value < 1e6 else f"{value:.0e}"
        scale = 100 if self.percent else 1
        digits = max(0, -math.floor(math.log10(scale) + math.log10(self.step) + 1e-9)) + more
        return f"{scale * value:.{digits}f}"


def scale_of(values: Sequence[float], start: float, end: float, *, percent: bool = False, log: bool = False) -> Scale:
    """A scale on which all values fit; `log` asks for a logarithmic one."""
    low, high = min(values), max(values)
    if log:
        return Scale(low / 1.1, high * 1.1, start, end, 1, log=True)
    room = (high - low) or 0.1 * abs(high) or 1.0
    rough = room / 4
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(m * unit for m in (1, 2, 5, 10) if m * unit >= rough - 1e-12)
    low, high = step * math.floor(low / step + 1e-9), step * math.ceil(high / step - 1e-9)
    if low == high:
        low, high = max(low - step, min(low, 0.0)), high + step
    return Scale(low, min(high, max(1.0, max(values))) if percent else high, start, end, step, percent)


def far_apart(values: Sequence[float]) -> bool:
    """Whether values are better seen on a logarithmic scale: positive, and the largest over four times the smallest."""
    return min(values) > 0 and max(values) > 4 * min(values)
