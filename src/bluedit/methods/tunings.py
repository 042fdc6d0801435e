"""Tunings: numbers for a model, kept apart from the recipes."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from bluedit.methods.recipe import Recipe


@dataclass(frozen=True)
class Tuning:
    """What to set in a recipe for one model.

    Attributes:
        name, source: which tuning, and where its numbers come from.
        match: configuration entries a model must have.
        set: overrides for every recipe.
        recipes: further overrides by schedule, by stem of the name (what comes before "-"), or by name.
    """

    name: str
    source: str
    match: Mapping[str, Any]
    set: Mapping[str, Any]
    recipes: Mapping[str, Mapping[str, Any]]

    def apply(self, recipe: Recipe) -> Recipe:
        """The recipe with this model's numbers; those of the name win over those of the stem, and these over the schedule's."""
        tuned = recipe.override(self.set, f"tuning {self.name}")
        for key in (recipe.schedule, recipe.name.split("-")[0], recipe.name):
            tuned = tuned.override(self.recipes.get(key, {}), f"tuning {self.name}")
        return tuned


@cache
def tunings() -> tuple[Tuning, ...]:
    """All tunings that come with bluedit."""
    table = tomllib.loads(resources.files("bluedit.methods").joinpath("tunings.toml").read_text("utf-8"))
    return tuple(
        Tuning(name, row["source"], row["match"], row.get("set", {}), row.get("recipes", {}))
        for name, row in table.items()
    )


def tuning_for(config: Any, d_key: int) -> Tuning:
    """The tuning that matches a model's configuration, or numbers scaled to its size.

    Without a measured tuning, layers span an eighth to a quarter of the depth, as the published choices do (4-8 of 32 for Llama-3,
    3-8 of 28 for GPT-J, 13-17 of 48 for GPT2-XL). The expected k^T C^-1 k of a key is d_key, so lambda = 1.3 d_key gives the published
    lambda's effect at any width; the null space is taken relative to the trace because an absolute threshold depends on the scale
    of activations.
    """
    for tuning in tunings():
        if all(getattr(config, key, None) == value for key, value in tuning.match.items()):
            return tuning
    depth = config.num_hidden_layers
    first = min(round(depth / 8), depth - 1)
    last = min(max(first + 1, round(depth / 4)), depth - 1)
    numbers: dict[str, Any] = {"layers": list(range(first, last + 1)), "preserve.lambda": 1.3 * d_key}
    null = {"preserve.unit": "energy", "preserve.threshold": 0.02}
    rome = {"objective.clamp": 4.0, "objective.steps": 20}
    return Tuning("generic", "scaled to the model's size", {}, numbers, {"alphaedit": null, "rome": rome})


def tuned(recipe: Recipe, settings: Mapping[str, Any], config: Any, d_key: int) -> Recipe:
    """A recipe with a model's numbers, which may depend on the schedule that the settings ask for."""
    chosen = {"schedule": settings["schedule"]} if "schedule" in settings else {}
    return tuning_for(config, d_key).apply(recipe.override(chosen))
