"""Heat maps as data: one cell for each row and column. Blue is above zero and orange below it; a larger absolute value has a stronger colour."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from bluedit.page.drawing import WIDTH, figure

_LEFT, _RIGHT, _TOP, _BOTTOM, _ROW = 112, 8, 8, 62, 24
_TICKS = 8  # labels of columns, at most
_STEPS = 5  # of the key, on each side of zero


@dataclass(frozen=True)
class HeatMap:
    """A figure of cells.

    Attributes:
        id: short name, of its file and of its place on the page.
        title: what it shows.
        rows, columns: their labels.
        values: a row of numbers for each row; NaN is an empty cell.
        name: what a number is, with its unit.
        across: what the columns are.
        about: how to read it, as HTML.
    """

    id: str
    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float]]
    name: str
    across: str
    about: str = ""

    @property
    def largest(self) -> float:
        """The largest absolute value, where the colour is strongest."""
        return max((abs(v) for row in self.values for v in row if math.isfinite(v)), default=0.0)

    @property
    def negative(self) -> bool:
        """Whether some value is below zero by more than rounding shows."""
        return any(v < -0.005 * self.largest for row in self.values for v in row)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not any(math.isfinite(v) for row in self.values for v in row)

    @property
    def ticks(self) -> range:
        """Columns that have a label."""
        return range(0, len(self.columns), max(1, math.ceil(len(self.columns) / _TICKS)))

    def html(self) -> str:
        """The figure with its key and its paragraph; empty if there is nothing to draw."""
        if self.is_empty:
            return ""
        wide = (WIDTH - _LEFT - _RIGHT) / len(self.columns)
        bottom = _TOP + _ROW * len(self.rows)
        parts = []
        for i, (row, values) in enumerate(zip(self.rows, self.values, strict=True)):
            y = _TOP + _ROW * i
            parts.append(f'<text x="{_LEFT - 6}" y="{y + 16}" text-anchor="end">{html.escape(row)}</text>')
            for j, value in enumerate(values):
                if math.isfinite(value):
                    told = f"{row}, {self.across} {self.columns[j]}: {value:.3g}"
                    parts.append(self._cell(_LEFT + wide * j, y, wide, _ROW, value, told))
        for j in self.ticks:
            x = _LEFT + wide * (j + 0.5)
            label = html.escape(self.columns[j])
            parts.append(f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{label}</text>')
        parts += [f'<text x="{_LEFT}" y="{bottom + 31}">{html.escape(self.across)}</text>', self._key(bottom + 40)]
        about = f"<p>{self.about}</p>" if self.about else ""
        drawn = figure(self.title, parts, height=bottom + _BOTTOM)
        return f'<div class="chart" id="{html.escape(self.id)}">{drawn}{about}</div>'

    def _cell(self, x: float, y: float, width: float, height: float, value: float, told: str) -> str:
        strength = min(1.0, abs(value) / self.largest) if self.largest else 0.0
        side = "below" if value < 0 else "above"
        place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
        return (
            f'<rect class="cell {side}" {place} fill-opacity="{strength:.3f}"><title>{html.escape(told)}</title></rect>'
        )

    def _key(self, y: float) -> str:
        """The scale of colours, under the map."""
        low = -_STEPS if self.negative else 0
        parts = [f'<text x="4" y="{y + 12:.1f}">{html.escape(self.name)}</text>']
        start, wide = WIDTH - _RIGHT - 130.0, 70 / (_STEPS + 1 - low)
        for place, step in enumerate(range(low, _STEPS + 1)):
            value = self.largest * step / _STEPS
            parts.append(self._cell(start + wide * place, y + 2, wide, 12, value, f"{value:.3g}"))
        ends = ((start - 4, "end", self.largest * low / _STEPS), (start + 74, "start", self.largest))
        for x, anchor, value in ends:
            parts.append(f'<text x="{x:.1f}" y="{y + 12:.1f}" text-anchor="{anchor}">{value:.2g}</text>')
        return "".join(parts)
