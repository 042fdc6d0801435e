"""Parts of figures as SVG, in the page's colours: axes, marks, series that can be highlighted, and their key."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bluedit.page.scales import Scale

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 420, 270, 46, 14, 26, 40
COLOURS = 8
SHAPES = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "M-3.7-3.7h7.4v7.4h-7.4z",
    "M0-5L4.8 3.6H-4.8z",
    "M0-5.4L5.4 0L0 5.4L-5.4 0z",
    "M0 5L4.8-3.6H-4.8z",
    "M0-6L1.7-2.1 5.7-1.9 2.6.8 3.5 4.9 0 2.6-3.5 4.9-2.6.8-5.7-1.9-1.7-2.1z",
    "M-4.6-4.4H4.6L-4.6 4.4H4.6z",
)  # their number and that of the colours have no common factor, so combinations repeat late


@dataclass(frozen=True)
class Look:
    """How a series is drawn: a colour and a shape, so that series can be told apart without colour, too.

    Attributes:
        number: its place among those that are drawn together.
        colour: number of the colour; `COLOURS` is grey and dotted.
        shape: path of its marks.
        hollow: whether its marks are hollow and its lines dashed.
    """

    number: int
    colour: int
    shape: str
    hollow: bool = False

    @property
    def classes(self) -> str:
        """Its CSS classes."""
        return f"k{self.colour}" + (" hollow" if self.hollow else "")


def legend(look: Mapping[str, Look], title: str = "Key to the figures") -> str:
    """The key to figures: a button for each series, with which the page's script highlights it."""
    keys = "".join(
        f'<button type="button" aria-pressed="false" data-s="{one.number}">'
        f'<svg viewBox="0 0 36 14" aria-hidden="true" class="{one.classes}">'
        f'<path class="line" d="M1 7H35"/>{mark(18, 7, one)}</svg>{html.escape(name)}</button>'
        for name, one in look.items()
    )
    return f'<div class="legend" role="group" aria-label="{html.escape(title)}">{keys}</div>'


def left_axis(y: Scale, name: str) -> str:
    """The vertical axis: its name above it, and a rule for each tick."""
    left, right = LEFT, WIDTH - RIGHT
    parts = [f'<text x="4" y="12">{html.escape(name)}</text>']
    for value in y.ticks():
        parts.append(f'<path class="rule" d="M{left} {y(value):.1f}H{right}"/>')
        parts.append(f'<text x="{left - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{y.shown(value)}</text>')
    return "".join(parts)


def bottom_axis(ticks: Sequence[tuple[float, str]], name: str) -> str:
    """The horizontal axis, with (position, label) of its ticks."""
    line = HEIGHT - BOTTOM
    labels = [f'<text x="{x:.1f}" y="{line + 16}" text-anchor="middle">{html.escape(text)}</text>' for x, text in ticks]
    middle = (LEFT + WIDTH - RIGHT) / 2
    return (
        f'<path class="axis" d="M{LEFT} {line}H{WIDTH - RIGHT}"/>{"".join(labels)}'
        f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{html.escape(name)}</text>'
    )


def mark(x: float, y: float, look: Look) -> str:
    """A mark at a position."""
    return f'<path class="mark" transform="translate({x:.1f} {y:.1f})" d="{look.shape}"/>'


def series(look: Look, title: str, parts: str) -> str:
    """A series that can be highlighted; `title` is what is shown of it then."""
    return f'<g class="{look.classes}" data-s="{look.number}"><title>{html.escape(title)}</title>{parts}</g>'


def figure(title: str, parts: Sequence[str], key: str = "", height: float = HEIGHT) -> str:
    """A figure under its title, with a key of its own if it has one."""
    return (
        f'<figure><figcaption>{html.escape(title)}</figcaption>{key}<svg viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{html.escape(title)}">{"".join(parts)}</svg><output></output></figure>'
    )
