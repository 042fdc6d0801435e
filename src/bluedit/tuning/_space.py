"""What the search may change in a recipe: layers, and numbers in steps around what they are.

Numbers change in steps, so that many trials have the same objective. Such trials share their optimised targets on disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bluedit.methods.recipe import Recipe

if TYPE_CHECKING:
    from optuna.trial import Trial

_MOST_LAYERS = 4  # of the probe's best


@dataclass(frozen=True)
class Dimension:
    """One number, in steps around the one it starts from.

    Attributes:
        path: of the option.
        ratio: a step multiplies by this.
        steps: at most so many up or down.
        whole: whether it is a whole number.
    """

    path: str
    ratio: float
    steps: int
    whole: bool = False

    def value(self, start: float, step: int) -> float | int:
        """The number so many steps from the start, to three digits."""
        found = float(f"{start * self.ratio**step:.3g}")
        return max(2, round(found)) if self.whole else found


DIMENSIONS = (
    Dimension("objective.learning_rate", 2**0.5, 3),
    Dimension("objective.clamp", 2**0.5, 3),
    Dimension("objective.steps", 1.25, 2, whole=True),
    Dimension("descent.damping", 2.0, 2),
    Dimension("preserve.lambda", 2.0, 3),
    Dimension("preserve.l2", 2.0, 3),
)


@dataclass(frozen=True, eq=False)
class Space:
    """All settings that the search may try.

    Attributes:
        base: the recipe it starts from, with layers.
        layers: choices for the critical layers; the first is the base's.
    """

    base: Recipe
    layers: Sequence[tuple[int, ...]]

    @property
    def dimensions(self) -> list[Dimension]:
        """Those that the recipe's parts have and that are not zero."""
        chosen = self.base.settings()
        return [one for one in DIMENSIONS if chosen.get(one.path)]

    def start(self) -> dict[str, int]:
        """The base itself, as the search names it."""
        return {"layers": 0} | {one.path: 0 for one in self.dimensions}

    def ask(self, trial: Trial) -> dict[str, Any]:
        """Settings of a trial, by path."""
        found: dict[str, Any] = {
            "layers": list(self.layers[trial.suggest_categorical("layers", range(len(self.layers)))])
        }
        start = self.base.settings()
        for one in self.dimensions:
            found[one.path] = one.value(start[one.path], trial.suggest_int(one.path, -one.steps, one.steps))
        return found

    def recipe(self, settings: dict[str, Any]) -> Recipe:
        """The base with a trial's settings."""
        return self.base.override(settings, "tune")


def layer_choices(base: Recipe, best: Sequence[int], depth: int) -> list[tuple[int, ...]]:
    """The base's layers, and ranges between two of the probe's best ones, or one of them alone where the schedule writes one layer.

    Of ranges with the same steps only one is a choice.
    """
    leading = sorted(best[:_MOST_LAYERS])
    widest = max(2, depth // 4)
    ranges = [tuple(range(a, b + 1)) for a in leading for b in leading if a <= b and b - a <= widest]
    found = {replace(base, layers=layers).steps(): layers for layers in reversed([base.layers, *ranges])}
    several = len({step.layer for step in base.steps()}) > 1
    fits = [layers for layers in reversed(found.values()) if len(layers) > 1 or not several]
    return sorted(fits, key=lambda layers: (layers != base.layers, layers))
