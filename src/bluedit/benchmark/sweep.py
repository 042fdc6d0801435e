"""One number of a recipe at several values, as entries of a benchmark: what the front is drawn from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from bluedit.benchmark.approach import Written
from bluedit.benchmark.entry import Entry
from bluedit.errors import BenchmarkError
from bluedit.methods.filters import Strength
from bluedit.methods.part import NO_PARTS, Part
from bluedit.methods.recipe import Recipe

__all__ = ["Lambda", "StrengthSweep", "Sweep", "sweep_of", "swept"]


@dataclass(frozen=True)
class Sweep(Part, slot="sweep"):
    """A number that says how much is written; 1 is the recipe as it is.

    Attributes:
        values: what is tried when nothing else is asked for.
    """

    values: ClassVar[tuple[float, ...]] = ()

    def settings(self, recipe: Recipe, value: float) -> dict[str, Any]:
        """The recipe's options at a value.

        Raises:
            BenchmarkError: the recipe has nothing to vary so.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class StrengthSweep(Sweep, kind="strength"):
    """The share of each update that the weights show."""

    values: ClassVar[tuple[float, ...]] = (0.25, 0.5, 0.75, 1.0, 1.25)

    def settings(self, recipe: Recipe, value: float) -> dict[str, Any]:
        filters = str(recipe.settings().get("filters", ""))
        kinds = [kind for kind in filters.split("+") if kind not in ("", NO_PARTS, Strength.kind)]
        if not hasattr(recipe.update, "filters") or "filters" not in recipe.settings():
            raise BenchmarkError(
                f"{recipe.name} has no filters, so its strength cannot be varied; choose another recipe"
            )
        return {"filters": "+".join([*kinds, Strength.kind]), f"{Strength.prefix()}share": value}


@dataclass(frozen=True)
class Lambda(Sweep, kind="lambda"):
    """The weight of what is preserved, as a multiple of the recipe's own."""

    values: ClassVar[tuple[float, ...]] = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)

    def settings(self, recipe: Recipe, value: float) -> dict[str, Any]:
        own = recipe.settings()
        path = next((path for path in ("preserve.lambda", "preserve.l2") if path in own), None)
        cancels = own.get("update.slack") == 0 and not recipe.memory  # in an equality constraint without memory
        if path is None or cancels:
            raise BenchmarkError(f"{recipe.name} has no lambda to vary; choose another recipe, or --front strength")
        return {path: value * own[path]}


def sweep_of(name: str) -> Sweep:
    """A sweep by name. Raises BenchmarkError for an unknown one."""
    try:
        return Sweep.of_kind(name)()  # pyright: ignore[reportReturnType]
    except ValueError as error:
        raise BenchmarkError(str(error)) from None


def check_sweeps(sweeps: Sequence[str], values: Sequence[float] = ()) -> None:
    """Raises BenchmarkError for an unknown sweep, or a value that cannot be."""
    for name in sweeps:
        sweep_of(name)
    wrong = [value for value in values if not 0 < value < float("inf")]
    if wrong:
        raise BenchmarkError(
            f"a front cannot have the value {wrong[0]:g}; values are above 0, and 1 is the recipe as it is"
        )


def swept(
    editor: Any, rows: Iterable[Entry | Recipe | str], sweeps: Sequence[str], values: Sequence[float] = ()
) -> list[Entry]:
    """Entries for each recipe at each value, called "RECIPE:strength=0.5". Rows that are no recipes stay as they are.

    The entries of a recipe share its targets, which are optimised for its own numbers: those come first.

    Args:
        editor: of the model, whose tuning the recipes get.
        rows: as in `Benchmark`.
        sweeps: "strength", "lambda", or both.
        values: at which; none means the sweep's own.

    Raises:
        BenchmarkError: an unknown sweep, a value that is not above 0, or a recipe that has nothing to vary so.
        RecipeError: a recipe that cannot be.
    """
    check_sweeps(sweeps, values)
    found: list[Entry] = []
    for entry in map(Entry.of, rows):
        approach = entry.approach
        if not isinstance(approach, Written):
            found.append(entry)
            continue
        recipe = approach.prepared(editor, entry.settings).recipe
        assert recipe is not None
        for name in sweeps:
            sweep = sweep_of(name)
            chosen = sorted({1.0, *(values or sweep.values)}, key=lambda value: (value != 1, value))
            found += [_entry(entry, recipe, sweep, value) for value in chosen]
    return found


def _entry(entry: Entry, recipe: Recipe, sweep: Sweep, value: float) -> Entry:
    joint = "," if ":" in entry.name else ":"
    name = f"{entry.name}{joint}{sweep.kind}={value:g}"
    return Entry(name, recipe.override(sweep.settings(recipe, value)), {}, group=entry.name)


def place_of(name: str) -> tuple[str, str, float] | None:
    """(recipe, sweep, value) of an entry that `swept` made, by its name; None for another."""
    found = re.fullmatch(rf"(.+)[:,]({'|'.join(Sweep.choices)})=([\d.e+-]+)", name)
    return (found[1], found[2], float(found[3])) if found else None
