"""Tunings: hyperparameters for a model, kept apart from the recipes."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

from bluedit.errors import RecipeError, did_you_mean
from bluedit.methods.paths import known
from bluedit.methods.recipe import Recipe

Numbers = Mapping[str, Any]


@dataclass(frozen=True)
class Tuning:
    """What to set in a recipe for one model.

    Attributes:
        name, source: which tuning, and where its numbers come from.
        match: configuration entries a model must have; two numbers in a list are a range, both included.
        set: overrides for every recipe.
        parts: (when, set): further overrides for recipes that have the settings of `when`, in order; later ones win.

    Raises:
        RecipeError: a path that no part has.
    """

    name: str
    source: str
    match: Numbers
    set: Numbers
    parts: Sequence[tuple[Numbers, Numbers]] = ()

    def __post_init__(self) -> None:
        every = known(Recipe)
        paths = [*self.set, *(path for when, numbers in self.parts for path in (*when, *numbers))]
        wrong = [path for path in paths if path not in every.options and path not in every.slots]
        if wrong:
            hint = did_you_mean(wrong[0], every.options)
            raise RecipeError(f"tuning {self.name}: unknown option {wrong[0]!r}; {hint}")
        for key, value in self.match.items():
            if isinstance(value, list) and not (
                len(value) == 2 and all(isinstance(bound, (int, float)) for bound in value)
            ):
                raise RecipeError(f"tuning {self.name}: {key} is {value}; a range is two numbers")
            if isinstance(value, Mapping):
                raise RecipeError(f"tuning {self.name}: {key} is a table; give one value, or a range of two numbers")

    def fits(self, config: Any) -> bool:
        """Whether a model with this configuration is the one that the numbers were chosen for."""
        return all(_agrees(getattr(config, key, None), wanted) for key, wanted in self.match.items())

    def apply(self, recipe: Recipe) -> Recipe:
        """The recipe with this model's hyperparameters and the tuning's name."""
        chosen = recipe.settings()
        numbers = dict(self.set)
        for when, more in self.parts:
            if all(chosen.get(path) == value for path, value in when.items()):
                numbers |= more
        slots = {path: value for path, value in numbers.items() if path in chosen and path in known(Recipe).slots}
        changed = recipe.override(slots, f"tuning {self.name}")
        options = changed.settings()  # a part that was exchanged has options of its own
        numbers = {path: value for path, value in numbers.items() if path in options and path not in slots}
        return replace(changed.override(numbers, f"tuning {self.name}"), tuning=self.name)


def _agrees(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, list):
        low, high = wanted
        return isinstance(value, (int, float)) and low <= value <= high
    return value == wanted


@cache
def tunings() -> tuple[Tuning, ...]:
    """All tunings that come with bluedit."""
    table = tomllib.loads(resources.files("bluedit.methods").joinpath("tunings.toml").read_text("utf-8"))
    return tuple(
        Tuning(
            name,
            row["source"],
            row["match"],
            row.get("set", {}),
            tuple((part["when"], part["set"]) for part in row.get("parts", ())),
        )
        for name, row in table.items()
    )


def tuning_for(config: Any, d_key: int) -> Tuning:
    """The tuning that matches a model's configuration; where none does, a guess named "generic".

    The guess:
    - Layers from an eighth to a quarter of the depth. That is the published choice for models as deep as Llama-3-8B (4-8 of 32). For others
      it is not: it gives 6-12 for GPT2-XL, where 13-17 is published, and 4-7 for GPT-J, where 3-8 is.
    - lambda = 1.3 d_key. The expected k^T C^-1 k of a key is d_key, so this delivers the same share of a residual at any width.
      BetaEdit's leakage, 3000 for Llama-3-8B, is scaled in the same way.
    - The null space relative to the trace, because an absolute threshold depends on the scale of activations.

    Args:
        config: the model's.
        d_key: width of its keys.
    """
    for tuning in tunings():
        if tuning.fits(config):
            return tuning
    depth = config.num_hidden_layers
    first = min(round(depth / 8), depth - 1)
    last = min(max(first + 1, round(depth / 4)), depth - 1)
    numbers: dict[str, Any] = {"layers": list(range(first, last + 1)), "preserve.lambda": 1.3 * d_key}
    null = {"preserve.unit": "energy", "preserve.threshold": 0.02}
    rome = {"objective.clamp": 4.0, "objective.steps": 20}
    leaking = (
        {"preserve": "null-space", "preserve.leakage": 3000.0},
        {"preserve.leakage": 0.2 * d_key},
    )  # published for 14336
    parts = (({"preserve": "null-space"}, null), leaking, ({"objective.site": "mlp", "update.slack": 0.0}, rome))
    return Tuning("generic", "a guess from the model's depth and width, not measured", {}, numbers, parts)


def tune(
    recipe: Recipe, config: Any, d_key: int, settings: Numbers | None = None, tuning: Tuning | None = None
) -> Recipe:
    """A recipe with a model's hyperparameters (those of `tuning`, or the bundled ones) and the user's settings, which override them.

    The settings also decide which numbers of the tuning fit (a spread schedule has its own, say). A recipe that has layers of its own or
    was tuned before keeps its numbers.

    Raises:
        RecipeError: unknown options, or values out of range.
    """
    settings = settings or {}
    wished = recipe.override(settings)
    if recipe.layers or recipe.tuning:
        return wished
    return (tuning or tuning_for(config, d_key)).apply(wished).override(settings)
