"""Charts as data: axes with names and units, series, and a paragraph of help with reading. Drawn as SVG here and as files in `plots`."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bluedit.page.drawing import (
    BOTTOM,
    COLOURS,
    HEIGHT,
    LEFT,
    RIGHT,
    SHAPES,
    TOP,
    WIDTH,
    Look,
    bottom_axis,
    figure,
    left_axis,
    legend,
    mark,
    series,
)
from bluedit.page.scales import Scale, scale_of

_MARGIN = 10  # between the axis and the outermost values
_MARKERS = "os^DvPX"  # matplotlib's, in the order of SHAPES
_SHOWN = 12  # values that are told of a highlighted series

Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """One axis of a chart.

    Attributes:
        name: what it shows, with the unit.
        ticks: (value, label) where they are given; else they are chosen.
        log: whether it is logarithmic; values that are not positive are then left out.
        percent: whether its values are shares, shown in percent.
        include: values that are to be on the axis, such as 0.
    """

    name: str
    ticks: Sequence[tuple[float, str]] = ()
    log: bool = False
    percent: bool = False
    include: Sequence[float] = ()

    def fits(self, value: float) -> bool:
        """Whether a value can be drawn."""
        return math.isfinite(value) and (value > 0 or not self.log)


@dataclass(frozen=True)
class Series:
    """Values of one kind. Interface; `Line`, `Dots` and `Bars` are its forms.

    Attributes:
        name: as the key to the chart has it.
        points: (x, y).
        colour: number of the colour, 0 to 7, or 8 for grey and dotted; it also decides the shape of marks.
        hollow: hollow marks and dashed lines.
    """

    name: str
    points: Sequence[Point]
    colour: int = 0
    hollow: bool = False

    @property
    def extent(self) -> list[Point]:
        """Points that must be within the axes."""
        return list(self.points)

    def svg(self, x: Scale, y: Scale, look: Look) -> str:
        """Its marks."""
        raise NotImplementedError

    def plot(self, axes: Any, colour: str) -> None:
        """Draw it on matplotlib's axes."""
        raise NotImplementedError


@dataclass(frozen=True)
class Line(Series):
    """Points in a line, each with an interval if `spread` has one.

    Attributes:
        spread: (low, high) at each point.
    """

    spread: Sequence[Point] = ()

    @property
    def extent(self) -> list[Point]:
        ends = [(x, end) for (x, _), pair in zip(self.points, self.spread, strict=False) for end in pair]
        return [*self.points, *ends]

    def svg(self, x: Scale, y: Scale, look: Look) -> str:
        at = [(x(a), y(b)) for a, b in self.points]
        parts = [f'<path class="line" d="M{"L".join(f"{a:.1f} {b:.1f}" for a, b in at)}"/>'] if at else []
        for (a, _), ends in zip(at, self.spread, strict=False):
            low, high = (y(max(end, y.low) if y.log else end) for end in ends)
            parts.append(f'<path class="spread" d="M{a:.1f} {low:.1f}V{high:.1f}"/>')
        return "".join([*parts, *(mark(a, b, look) for a, b in at)])

    def plot(self, axes: Any, colour: str) -> None:
        face = "white" if self.hollow else colour
        style = {"marker": _MARKERS[self.colour % len(_MARKERS)], "color": colour, "markerfacecolor": face}
        axes.plot(*zip(*self.points, strict=True), linestyle="--" if self.hollow else "-", label=self.name, **style)
        if self.spread:
            axes.vlines([x for x, _ in self.points], *zip(*self.spread, strict=True), colors=colour, lw=5, alpha=0.25)


@dataclass(frozen=True)
class Dots(Series):
    """A cloud of points."""

    def svg(self, x: Scale, y: Scale, look: Look) -> str:
        del look
        at = [(x(a), y(b)) for a, b in self.points]
        cap = "square" if self.hollow else "round"
        path = "".join(f"M{a:.1f} {b:.1f}h0" for a, b in at)
        return f'<path class="dots" stroke-linecap="{cap}" d="{path}"/>' if at else ""

    def plot(self, axes: Any, colour: str) -> None:
        marker = "s" if self.hollow else "o"
        axes.scatter(*zip(*self.points, strict=True), s=8, marker=marker, color=colour, alpha=0.6, label=self.name)


@dataclass(frozen=True)
class Bars(Series):
    """Bars from 0 to y.

    Attributes:
        width: of a bar, in units of x.
    """

    width: float = 0.8

    @property
    def extent(self) -> list[Point]:
        half = self.width / 2
        return [(x + side, end) for x, y in self.points for side in (-half, half) for end in (y, 0.0)]

    def svg(self, x: Scale, y: Scale, look: Look) -> str:
        del look
        parts = []
        for middle, value in self.points:
            left, right = x(middle - self.width / 2), x(middle + self.width / 2)
            parts.append(f'<path class="bar-mark" d="M{left:.1f} {y(0):.1f}V{y(value):.1f}H{right:.1f}V{y(0):.1f}z"/>')
        return "".join(parts)

    def plot(self, axes: Any, colour: str) -> None:
        face = "none" if self.hollow else colour
        axes.bar(*zip(*self.points, strict=True), width=self.width, facecolor=face, edgecolor=colour, label=self.name)


@dataclass(frozen=True)
class Chart:
    """A figure.

    Attributes:
        id: short name, of its file and of its place on the page.
        title: what it shows.
        x, y: axes.
        series: what is drawn, first at the back.
        about: how to read it, as HTML.
    """

    id: str
    title: str
    x: Axis
    y: Axis
    series: Sequence[Series]
    about: str = ""
    looks: Mapping[str, Look] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        found = {
            one.name: Look(number, one.colour, SHAPES[one.colour % len(SHAPES)], one.hollow)
            for number, one in enumerate(self.series)
        }
        assert all(0 <= one.colour <= COLOURS for one in self.series)
        object.__setattr__(self, "looks", found)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not any(self.drawable(one) for one in self.series)

    def drawable(self, one: Series) -> list[int]:
        """Indices of a series' points that both axes can show."""
        return [i for i, (x, y) in enumerate(one.points) if self.x.fits(x) and self.y.fits(y)]

    def drawn(self, one: Series) -> Series:
        """A series with only those points that both axes can show."""
        chosen = self.drawable(one)
        found = replace(one, points=[one.points[i] for i in chosen])
        if isinstance(found, Line) and found.spread:
            found = replace(found, spread=[found.spread[i] for i in chosen])
        return found

    def html(self) -> str:
        """The figure with its key and its paragraph; empty if there is nothing to draw."""
        if self.is_empty:
            return ""
        ends = [p for one in self.series for p in one.extent if self.x.fits(p[0]) and self.y.fits(p[1])]
        x = _scale(self.x, [a for a, _ in ends], LEFT + _MARGIN, WIDTH - RIGHT - _MARGIN)
        y = _scale(self.y, [b for _, b in ends], HEIGHT - BOTTOM, TOP)
        ticks = [(x(value), text) for value, text in self.x.ticks or [(value, x.shown(value)) for value in x.ticks()]]
        parts = [left_axis(y, _named(self.y)), bottom_axis(ticks, _named(self.x))]
        for one in self.series:
            shown = self.drawn(one)
            told = ", ".join(y.shown(value, 1) for _, value in shown.points[:_SHOWN])
            told += ", ..." * (len(shown.points) > _SHOWN)
            look = self.looks[one.name]
            parts.append(series(look, f"{one.name}: {told}", shown.svg(x, y, look)))
        key = legend(self.looks, f"Key to: {self.title}")
        about = f"<p>{self.about}</p>" if self.about else ""
        return f'<div class="chart figures" id="{html.escape(self.id)}">{figure(self.title, parts, key)}{about}</div>'


def _scale(axis: Axis, values: Sequence[float], start: float, end: float) -> Scale:
    """The axis' scale; where ticks are given it is only as wide as the values and the ticks."""
    values = [*values, *axis.include]
    if axis.ticks:
        places = [*values, *(value for value, _ in axis.ticks)]
        low, high = min(places), max(places)
        return Scale(low, high if high > low else low + 1, start, end, 1, axis.percent, axis.log)
    return scale_of(values, start, end, percent=axis.percent, log=axis.log)


def _named(axis: Axis) -> str:
    return f"{axis.name}, %" if axis.percent else axis.name
