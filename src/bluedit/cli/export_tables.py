"""Tables of what exports and comparisons found."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from bluedit.cli.common import count
from bluedit.evaluate.tables import NONE, Column, Listing
from bluedit.export.diff import Comparison

_SHOWN = 5  # names that only one model has


def diff_tables(found: Comparison) -> list[RenderableType]:
    """The tensors that differ, and how many are the same."""
    parts: list[RenderableType] = []
    if found.differing:
        columns = (
            Column("tensor"),
            Column("change", True),
            Column("largest", True),
            Column("elements", True),
            Column("rank", True),
            Column("99 %", True),
        )
        rows = [
            (
                each.name,
                f"{each.relative:.2g}",
                f"{each.largest:.2g}",
                f"{each.changed:.1%}",
                NONE if each.rank is None else str(each.rank),
                NONE if each.directions is None else str(each.directions),
            )
            for each in found.differing
        ]
        notes = [
            "change: |B - A| / |A|; largest: of an element; elements: share that differ",
            "rank: singular values of B - A above the rounding noise of B's type; 99 %: how many hold 99 % of |B - A|^2",
        ]
        parts.append(Listing("What differs", columns, rows, notes))
    lines = [f"{count(found.same, 'tensor')} equal, {len(found.differing)} different"]
    for where, names in (("first", found.only_first), ("second", found.only_second)):
        if names:
            shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
            lines.append(f"only in the {where}: {shown}")
    lines += [f"{name} has the shapes {one} and {two}" for name, one, two in found.reshaped]
    parts.append(Text("\n".join(lines)))
    return parts
