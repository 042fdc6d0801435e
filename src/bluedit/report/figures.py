"""Small figures as SVG text, in the page's own colours."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 560, 260, 48, 160, 12, 34
_COLOURS = 8


def lines(title: str, series: Mapping[str, Sequence[float | None]], *, percent: bool = True) -> str:
    """One line per name over 1, 2, 3 ...; gaps where there is no value."""
    values = [v for row in series.values() for v in row if v is not None]
    if not values:
        return ""
    low, high = _range(values, percent)
    steps = max(len(row) for row in series.values())
    parts = [_frame(low, high, percent), *(_tick(_x(i, 0, max(1, steps - 1)), str(i + 1)) for i in range(steps))]
    for number, row in enumerate(series.values()):
        points = " ".join(
            f"{_x(i, 0, max(1, steps - 1)):.1f},{_y(v, low, high):.1f}" for i, v in enumerate(row) if v is not None
        )
        parts.append(f'<polyline class="c{number % _COLOURS}" points="{points}"/>')
        parts += [
            f'<circle class="c{number % _COLOURS}" cx="{_x(i, 0, max(1, steps - 1)):.1f}" cy="{_y(v, low, high):.1f}" r="3"/>'
            for i, v in enumerate(row)
            if v is not None
        ]
    return _figure(title, parts, list(series))


def scatter(title: str, points: Mapping[str, tuple[float, float]], x_name: str, y_name: str) -> str:
    """One point per name."""
    xs, ys = [x for x, _ in points.values()], [y for _, y in points.values()]
    (x_low, x_high), (y_low, y_high) = _range(xs, True), _range(ys, True)
    parts = [_frame(y_low, y_high, True), *(_tick(_x(v, x_low, x_high), f"{100 * v:.0f}") for v in (x_low, x_high))]
    for number, (name, (x, y)) in enumerate(points.items()):
        place = f'cx="{_x(x, x_low, x_high):.1f}" cy="{_y(y, y_low, y_high):.1f}"'
        parts.append(f'<circle class="c{number % _COLOURS}" {place} r="6"><title>{html.escape(name)}</title></circle>')
    parts.append(
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 4}" text-anchor="middle">{html.escape(x_name)}</text>'
    )
    parts.append(f'<text x="{_LEFT + 4}" y="{_TOP + 12}">{html.escape(y_name)}</text>')
    return _figure(title, parts, list(points))


def bars(title: str, groups: Mapping[str, Mapping[str, float]]) -> str:
    """For each task a bar per name, shares between 0 and 1."""
    tasks = list(next(iter(groups.values())))
    room = (_WIDTH - _LEFT - _RIGHT) / len(tasks)
    wide = 0.8 * room / len(groups)
    parts = [_frame(0.0, 1.0, True)]
    for t, task in enumerate(tasks):
        parts.append(_tick(_LEFT + (t + 0.45) * room, task))
        for number, (name, values) in enumerate(groups.items()):
            top = _y(values.get(task, 0.0), 0.0, 1.0)
            parts.append(
                f'<rect class="c{number % _COLOURS}" x="{_LEFT + t * room + number * wide:.1f}" y="{top:.1f}" width="{wide:.1f}" '
                f'height="{_HEIGHT - _BOTTOM - top:.1f}"><title>{html.escape(name)} {task}</title></rect>'
            )
    return _figure(title, parts, list(groups))


def _range(values: Sequence[float], percent: bool) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = 0.1 * (high - low) or 0.05 * abs(high) or 1.0
    low, high = low - room, high + room
    return (max(0.0, low), min(1.0, high)) if percent else (low, high)


def _x(value: float, low: float, high: float) -> float:
    return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)


def _y(value: float, low: float, high: float) -> float:
    return _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)


def _frame(low: float, high: float, percent: bool) -> str:
    left, right, bottom = _LEFT, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts = [f'<path class="axis" d="M{left} {_TOP}V{bottom}H{right}"/>']
    for share in (0.0, 0.5, 1.0):
        value = low + share * (high - low)
        label = f"{100 * value:.0f}" if percent else f"{value:.1f}"
        parts.append(f'<text x="{left - 6}" y="{_y(value, low, high) + 4:.1f}" text-anchor="end">{label}</text>')
    return "".join(parts)


def _tick(x: float, label: str) -> str:
    return f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{html.escape(label)}</text>'


def _figure(title: str, parts: Sequence[str], names: Sequence[str]) -> str:
    legend = "".join(
        f'<rect class="c{i % _COLOURS}" x="{_WIDTH - _RIGHT + 12}" y="{_TOP + 15 * i}" width="10" height="10"/>'
        f'<text x="{_WIDTH - _RIGHT + 28}" y="{_TOP + 9 + 15 * i}">{html.escape(name[:22])}</text>'
        for i, name in enumerate(names)
    )
    height = max(_HEIGHT, _TOP + 15 * len(names) + 10)
    return (
        f'<figure><figcaption>{html.escape(title)}</figcaption><svg viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{html.escape(title)}">{"".join(parts)}{legend}</svg></figure>'
    )
