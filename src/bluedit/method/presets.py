"""The methods, a row each. Adding one is a row here; its numbers for a model are in tunings.toml."""

from __future__ import annotations

from bluedit.errors import RecipeError, did_you_mean
from bluedit.method.recipe import Objective, Preserve, Recipe, blue

_MEMIT = "https://arxiv.org/abs/2210.07229"
_ALPHAEDIT = "https://arxiv.org/abs/2410.02355"
_ROME = "https://arxiv.org/abs/2202.05262"
BLUE_PAPER = "https://arxiv.org/abs/2502.03748"

_C = Preserve(subspace="all", gram="C")
_NULL = Preserve(subspace="null", gram="identity")

_HOSTS = (
    Recipe("memit", _MEMIT, "least squares against lambda C", preserve=_C),
    Recipe("memit-seq", _MEMIT, "memit that also preserves earlier edits' keys", preserve=_C, memory=True),
    Recipe("alphaedit", _ALPHAEDIT, "updates confined to the null space of C", preserve=_NULL, memory=True),
)
_ROME_ROW = Recipe(
    "rome",
    _ROME,
    "one layer, one fact after another, exact; R-ROME's averaged key (arXiv 2403.07175)",
    schedule="single",
    objective=Objective(site="mlp"),
    preserve=Preserve(subspace="all", gram="C", slack=0.0),
    sequential=True,
)

PRESETS: dict[str, Recipe] = {recipe.name: recipe for host in _HOSTS for recipe in (host, blue(host))} | {
    "rome": _ROME_ROW
}

DEFAULT = "memit-seq-blue"  # chosen by measurement: docs/tuning.md


def preset(name: str) -> Recipe:
    """The recipe of that name, not yet tuned for a model.

    Raises:
        RecipeError: no such recipe; close matches are suggested.
    """
    if name not in PRESETS:
        raise RecipeError(f"unknown recipe {name!r}; {did_you_mean(name, PRESETS)} ('bluedit recipes' lists them)")
    return PRESETS[name]
