"""Small figures as SVG, in the page's colours. An entry looks the same in all figures of a benchmark: its family has a colour and a shape,
filled with BLUE and hollow without, so that entries can be told apart without colour, too."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from bluedit.benchmark.entry import UNEDITED, family

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 420, 270, 46, 14, 26, 40
_SMALL, _EDGE = 190, 8  # width of a cloud, and its margin
_CLOUD = 400  # points drawn of a cloud
_COLOURS = 8
_SHAPES = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "M-3.7-3.7h7.4v7.4h-7.4z",
    "M0-5L4.8 3.6H-4.8z",
    "M0-5.4L5.4 0L0 5.4L-5.4 0z",
    "M0 5L4.8-3.6H-4.8z",
    "M0-6L1.7-2.1 5.7-1.9 2.6.8 3.5 4.9 0 2.6-3.5 4.9-2.6.8-5.7-1.9-1.7-2.1z",
    "M-4.6-4.4H4.6L-4.6 4.4H4.6z",
)  # their number and that of the colours have no common factor, so combinations repeat late
_UNEDITED_SHAPE = "M-5 0H5M0-5V5"

Points = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Look:
    """How an entry is drawn.

    Attributes:
        number: its place in the benchmark.
        colour, shape: of its family.
        hollow: whether its marks are hollow.
    """

    number: int
    colour: int
    shape: str
    hollow: bool

    @property
    def classes(self) -> str:
        return f"k{self.colour}" + (" hollow" if self.hollow else "")


def looks(names: Sequence[str]) -> dict[str, Look]:
    """How each entry of a benchmark is drawn. If there is no BLUE form among them, all are filled."""
    forms = {name: family(name) for name in names if name != UNEDITED}
    families = list(dict.fromkeys(base for base, _ in forms.values()))
    any_blue = any(is_blue for _, is_blue in forms.values())
    out = {}
    for number, name in enumerate(names):
        if name not in forms:
            out[name] = Look(number, _COLOURS, _UNEDITED_SHAPE, False)
            continue
        base, is_blue = forms[name]
        place = families.index(base)
        out[name] = Look(number, place % _COLOURS, _SHAPES[place % len(_SHAPES)], any_blue and not is_blue)
    return out


def legend(look: Mapping[str, Look]) -> str:
    """The key to a benchmark's figures: a button for each entry, with which the page's script highlights it."""
    keys = "".join(
        f'<button type="button" aria-pressed="false" data-s="{one.number}">'
        f'<svg viewBox="0 0 36 14" aria-hidden="true" class="{one.classes}">'
        f'<path class="line" d="M1 7H35"/>{_mark(18, 7, one)}</svg>{html.escape(name)}</button>'
        for name, one in look.items()
    )
    return f'<div class="legend" role="group" aria-label="Key to the figures">{keys}</div>'


def lines(
    title: str,
    series: Mapping[str, Sequence[float | None]],
    y_name: str = "%",
    *,
    percent: bool = True,
    look: Mapping[str, Look] | None = None,
    base: float | None = None,
) -> str:
    """One line per name over batch 1, 2, 3, ... There is no mark where there is no value, and no figure unless a name has two values.

    Args:
        percent: whether the values are shares; others get a logarithmic axis when they are far apart.
        look: how each name is drawn.
        base: the unedited model's value.
    """
    look = look or looks([UNEDITED, *series])
    drawn = {name: [(i, v) for i, v in enumerate(row, 1) if _is(v)] for name, row in series.items()}
    values = [v for row in drawn.values() for _, v in row]
    if all(len(row) < 2 for row in drawn.values()):
        return ""
    y = _scale([*values, *([base] if _is(base) else [])], _HEIGHT - _BOTTOM, _TOP, percent)
    steps = max(len(row) for row in series.values())
    x = _Scale(1, max(2, steps), _LEFT + 10, _WIDTH - _RIGHT - 10, max(1, math.ceil(steps / 10)))
    parts = [_frame(y, y_name), _bottom([(x(i), str(i)) for i in range(1, steps + 1, int(x.step))], "batch")]
    if _is(base):
        line = f'<path class="line" d="M{_LEFT} {y(base):.1f}H{_WIDTH - _RIGHT}"/>'
        parts.append(_series(look[UNEDITED], f"{UNEDITED}: {y.shown(base, 1)}", line))
    for name, row in drawn.items():
        path = "L".join(f"{x(i):.1f} {y(v):.1f}" for i, v in row)
        marks = "".join(_mark(x(i), y(v), look[name]) for i, v in row)
        values_text = f"{name}: " + ", ".join(y.shown(v, 1) for _, v in row)
        parts.append(_series(look[name], values_text, (f'<path class="line" d="M{path}"/>' if row else "") + marks))
    return _figure(title, parts)


def scatter(
    title: str,
    points: Mapping[str, tuple[float, float]],
    x_name: str,
    y_name: str,
    look: Mapping[str, Look] | None = None,
) -> str:
    """One mark per name; both numbers are shares."""
    look = look or looks(list(points))
    points = {name: (x, y) for name, (x, y) in points.items() if _is(x) and _is(y)}
    if not points:
        return ""
    x = _scale([v for v, _ in points.values()], _LEFT + 10, _WIDTH - _RIGHT - 10, True)
    y = _scale([v for _, v in points.values()], _HEIGHT - _BOTTOM, _TOP, True)
    parts = [_frame(y, f"{y_name}, %"), _bottom([(x(v), x.shown(v)) for v in x.ticks()], f"{x_name}, %")]
    for name, (right, up) in points.items():
        values_text = f"{name}: {x_name} {x.shown(right, 1)}, {y_name} {y.shown(up, 1)}"
        parts.append(_series(look[name], values_text, _mark(x(right), y(up), look[name])))
    return _figure(title, parts)


def clouds(places: Mapping[str, tuple[Points, Points, str]]) -> str:
    """For each name, its points before (round) and after (square) and a line of text. All share the same axes."""
    places = {name: (_finite(before), _finite(after), text) for name, (before, after, text) in places.items()}
    every = [p for before, after, _ in places.values() for p in (*before, *after)]
    if not every:
        return ""
    (left, right), (low, high) = [(min(p[i] for p in every), max(p[i] for p in every)) for i in (0, 1)]
    scale = (_SMALL - 2 * _EDGE) / (max(right - left, (high - low) / 1.2) or 1.0)  # the same for both axes
    tall = max(_SMALL / 2, (high - low) * scale + 2 * _EDGE)

    def at(p: Sequence[float]) -> tuple[float, float]:
        return _SMALL / 2 + (p[0] - (left + right) / 2) * scale, tall / 2 - (p[1] - (low + high) / 2) * scale

    figures = []
    for name, (before, after, text) in places.items():
        dots = [
            f'<path class="{kind}" d="{"".join(f"M{x:.0f} {y:.0f}h0" for x, y in map(at, _some(points)))}"/>'
            for kind, points in (("before", before), ("after", after))
        ]
        (x0, y0), (x1, y1) = (at(_mean(points)) for points in (before, after))
        figures.append(
            f'<figure class="cloud"><svg viewBox="0 0 {_SMALL} {tall:.0f}" role="img" '
            f'aria-label="{html.escape(name)}: {html.escape(text)}">'
            f'<rect class="box" x=".5" y=".5" width="{_SMALL - 1}" height="{tall - 1:.0f}"/>{"".join(dots)}'
            f'<path class="way" d="M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}"/>'
            f'<circle class="way" cx="{x1:.1f}" cy="{y1:.1f}" r="4"/></svg>'
            f"<figcaption><b>{html.escape(name)}</b> {html.escape(text)}</figcaption></figure>"
        )
    return f'<div class="clouds">{"".join(figures)}</div>'


@dataclass(frozen=True)
class _Scale:
    """Maps values between `low` and `high` to positions between `start` and `end`."""

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
        if not self.log:
            first = math.ceil(self.low / self.step - 1e-9)
            return [i * self.step for i in range(first, math.floor(self.high / self.step + 1e-9) + 1)]
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for among in ((1, 2, 5), (1, 3), (1,)):
            found = [m * 10.0**p for p in powers for m in among if self.low <= m * 10.0**p <= self.high]
            if len(found) <= 6:
                break
        return found[:: math.ceil(len(found) / 6)]

    def shown(self, value: float, more: int = 0) -> str:
        """A value with as many decimals as the ticks need, and `more`."""
        if self.log:
            return f"{value:.3g}" if value < 1000 else f"{value:,.0f}" if value < 1e6 else f"{value:.0e}"
        scale = 100 if self.percent else 1
        digits = max(0, -math.floor(math.log10(scale) + math.log10(self.step) + 1e-9)) + more
        return f"{scale * value:.{digits}f}"


def _scale(values: Sequence[float], start: float, end: float, percent: bool) -> _Scale:
    low, high = min(values), max(values)
    if not percent and low > 0 and high > 4 * low:
        return _Scale(low / 1.1, high * 1.1, start, end, 1, log=True)
    room = (high - low) or 0.1 * abs(high) or 1.0
    rough = room / 4
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(m * unit for m in (1, 2, 5, 10) if m * unit >= rough - 1e-12)
    low, high = step * math.floor(low / step + 1e-9), step * math.ceil(high / step - 1e-9)
    if low == high:
        low, high = max(low - step, min(low, 0.0)), high + step
    return _Scale(low, min(high, max(1.0, max(values))) if percent else high, start, end, step, percent)


def _frame(y: _Scale, name: str) -> str:
    left, right = _LEFT, _WIDTH - _RIGHT
    parts = [f'<text x="4" y="12">{html.escape(name)}</text>']
    for value in y.ticks():
        parts.append(f'<path class="rule" d="M{left} {y(value):.1f}H{right}"/>')
        parts.append(f'<text x="{left - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{y.shown(value)}</text>')
    return "".join(parts)


def _bottom(ticks: Sequence[tuple[float, str]], name: str) -> str:
    line = _HEIGHT - _BOTTOM
    labels = [f'<text x="{x:.1f}" y="{line + 16}" text-anchor="middle">{text}</text>' for x, text in ticks]
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    return (
        f'<path class="axis" d="M{_LEFT} {line}H{_WIDTH - _RIGHT}"/>{"".join(labels)}'
        f'<text x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">{html.escape(name)}</text>'
    )


def _mark(x: float, y: float, look: Look) -> str:
    return f'<path class="mark" transform="translate({x:.1f} {y:.1f})" d="{look.shape}"/>'


def _series(look: Look, title: str, parts: str) -> str:
    return f'<g class="{look.classes}" data-s="{look.number}"><title>{html.escape(title)}</title>{parts}</g>'


def _figure(title: str, parts: Sequence[str]) -> str:
    return (
        f'<figure><figcaption>{html.escape(title)}</figcaption><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{html.escape(title)}">{"".join(parts)}</svg><output></output></figure>'
    )


def _is(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _some(points: Points) -> Points:
    return points[:: max(1, math.ceil(len(points) / _CLOUD))]


def _finite(points: Points) -> Points:
    return [p for p in points if all(map(_is, p))]


def _mean(points: Points) -> tuple[float, float]:
    n = max(1, len(points))
    return sum(p[0] for p in points) / n, sum(p[1] for p in points) / n
