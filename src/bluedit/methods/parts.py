"""Every registered part and option, for tables and help."""

from __future__ import annotations

import dataclasses
from typing import Any

from bluedit.methods.part import Part
from bluedit.methods.paths import known
from bluedit.methods.recipe import Recipe
from bluedit.options import Option, options_of


def every_part() -> list[tuple[str, str, type[Part]]]:
    """(slot, kind, class) of every registered part that can be chosen."""
    return [(name, kind, cls) for name, slot in known(Recipe).slots.items() for kind, cls in slot.choices.items()]


def every_option() -> list[tuple[str, Option, Any, tuple[str, ...]]]:
    """(path, option, default, "slot=kind" of the parts that have it; none for options that every recipe has)."""
    found: dict[str, tuple[Option, Any, tuple[str, ...]]] = {}
    for path, owners in known(Recipe).options.items():
        for what, cls in owners:
            name = path.removeprefix(cls.prefix())
            attribute = options_of(cls)[name][0]
            default = next(f.default for f in dataclasses.fields(cls) if f.name == attribute)
            owner = (f"{cls.slot}={cls.kind}",) if getattr(cls, "kind", "") else ()
            before = found.get(path)
            found[path] = (what, default, before[2] + owner) if before else (what, default, owner)
    return [(path, *rest) for path, rest in found.items()]
