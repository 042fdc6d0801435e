"""Small figures as SVG, in the page's colours. An entry looks the same in all figures of a benchmark: its family has a colour and a shape,
filled with BLUE and hollow without, so that entries can be told apart without colour, too."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import TypeGuard

from bluedit.benchmark.entry import UNEDITED, family
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
)
from bluedit.page.drawing import series as series_of
from bluedit.page.scales import Scale, far_apart, scale_of

__all__ = ["Look", "clouds", "legend", "lines", "looks", "scatter"]

_SMALL, _EDGE = 190, 8  # width of a cloud, and its margin
_CLOUD = 400  # points drawn of a cloud
_UNEDITED_SHAPE = "M-5 0H5M0-5V5"

Points = Sequence[Sequence[float]]


def looks(names: Sequence[str]) -> dict[str, Look]:
    """How each entry of a benchmark is drawn. If there is no BLUE form among them, all are filled."""
    forms = {name: family(name) for name in names if name != UNEDITED}
    families = list(dict.fromkeys(base for base, _ in forms.values()))
    any_blue = any(is_blue for _, is_blue in forms.values())
    out = {}
    for number, name in enumerate(names):
        if name not in forms:
            out[name] = Look(number, COLOURS, _UNEDITED_SHAPE, False)
            continue
        base, is_blue = forms[name]
        place = families.index(base)
        out[name] = Look(number, place % COLOURS, SHAPES[place % len(SHAPES)], any_blue and not is_blue)
    return out


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
    values = [*values, *([base] if _is(base) else [])]
    y = scale_of(values, HEIGHT - BOTTOM, TOP, percent=percent, log=not percent and far_apart(values))
    steps = max(len(row) for row in series.values())
    x = Scale(1, max(2, steps), LEFT + 10, WIDTH - RIGHT - 10, max(1, math.ceil(steps / 10)))
    parts = [left_axis(y, y_name), bottom_axis([(x(i), str(i)) for i in range(1, steps + 1, int(x.step))], "batch")]
    if _is(base):
        line = f'<path class="line" d="M{LEFT} {y(base):.1f}H{WIDTH - RIGHT}"/>'
        parts.append(series_of(look[UNEDITED], f"{UNEDITED}: {y.shown(base, 1)}", line))
    for name, row in drawn.items():
        path = "L".join(f"{x(i):.1f} {y(v):.1f}" for i, v in row)
        marks = "".join(mark(x(i), y(v), look[name]) for i, v in row)
        values_text = f"{name}: " + ", ".join(y.shown(v, 1) for _, v in row)
        parts.append(series_of(look[name], values_text, (f'<path class="line" d="M{path}"/>' if row else "") + marks))
    return figure(title, parts)


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
    x = scale_of([v for v, _ in points.values()], LEFT + 10, WIDTH - RIGHT - 10, percent=True)
    y = scale_of([v for _, v in points.values()], HEIGHT - BOTTOM, TOP, percent=True)
    parts = [left_axis(y, f"{y_name}, %"), bottom_axis([(x(v), x.shown(v)) for v in x.ticks()], f"{x_name}, %")]
    for name, (right, up) in points.items():
        values_text = f"{name}: {x_name} {x.shown(right, 1)}, {y_name} {y.shown(up, 1)}"
        parts.append(series_of(look[name], values_text, mark(x(right), y(up), look[name])))
    return figure(title, parts)


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


def _is(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _some(points: Points) -> Points:
    return points[:: max(1, math.ceil(len(points) / _CLOUD))]


def _finite(points: Points) -> Points:
    return [p for p in points if all(map(_is, p))]


def _mean(points: Points) -> tuple[float, float]:
    n = max(1, len(points))
    return sum(p[0] for p in points) / n, sum(p[1] for p in points) / n
