"""Checks whether a recipe or a patch fits a model."""

from __future__ import annotations

import os

from bluedit.editing.patch import Base, Patch
from bluedit.errors import PatchError, RecipeError, StatisticsError
from bluedit.files import expanded
from bluedit.methods.recipe import Recipe
from bluedit.model.editable import EditableModel
from bluedit.model.loading import EMBEDDED
from bluedit.statistics.store import MomentStore


def base_of(lm: EditableModel, fingerprint: str) -> Base:
    """The description of this model that its patches carry."""
    first = lm.tokenizer("a")["input_ids"][:1]
    name = lm.name if lm.name in EMBEDDED else _from_anywhere(lm.name)
    return Base(name, fingerprint, _dtype(lm), bool(first) and first[0] in lm.tokenizer.all_special_ids)


def check_recipe(lm: EditableModel, recipe: Recipe) -> None:
    """Refuse a recipe that cannot be run on a model.

    Raises:
        RecipeError: no layers, fine-tuning of several layers, an objective whose terms do not go together, or a schedule that the model's blocks do not allow.
        ModelError: a layer this model does not have.
    """
    if not recipe.layers:
        raise RecipeError(f"the recipe {recipe.name} has no layers; set layers, e.g. layers=[4,5,6,7,8]")
    lm.anatomy.check_layers(recipe.layers)
    recipe.update.check(recipe.steps())
    recipe.objective.check()
    if not lm.anatomy.additive and any(step.layer != step.target for step in recipe.steps()):
        raise RecipeError(
            f"{lm.name} does not add the MLP's output to the residual stream as it is (it may be normalised first), so no layer can write what "
            "another one needs; use a -blue recipe, or set schedule=boundary or schedule=single"
        )


def check_fits(lm: EditableModel, patch: Patch) -> None:
    """Raises PatchError when a patch's factors cannot be added to this model's weights."""
    for update in (update for batch in patch.batches for update in batch.updates):
        if not 0 <= update.layer < lm.anatomy.n_layers:
            raise PatchError(
                f"the patch changes layer {update.layer}, but {lm.name} has layers 0 to {lm.anatomy.n_layers - 1}; "
                f"it was made for another model ({patch.base.model})"
            )
        found, expected = (update.R.shape[0], update.A.shape[1]), tuple(lm.projection(update.layer).matrix().shape)
        if found != expected:
            raise PatchError(
                f"the patch changes {found[0]} x {found[1]} weights at layer {update.layer}, but {lm.name} has "
                f"{expected[0]} x {expected[1]} there; it was made for another model ({patch.base.model})"
            )


def check_made_for(lm: EditableModel, patch: Patch, unedited: str, now: str) -> None:
    """Raises PatchError when a patch was made for other weights than these, or for these before they were edited.

    Args:
        lm: the model.
        patch: the patch.
        unedited, now: fingerprints of the model before this editor's edits, and as it is.
    """
    base = patch.base
    if base.fingerprint == now:
        return
    if base.fingerprint == unedited:
        raise PatchError(
            "this editor's model is edited already, and the patch was made for the unedited one; "
            "undo the edits first, or pass force=True"
        )
    hint = ""
    if base.dtype != _dtype(lm):
        hint = f" It was made on {base.dtype} weights, these are {_dtype(lm)}: load the model with that dtype."
    raise PatchError(
        f"the patch was made for other weights: {base.model} with fingerprint {base.fingerprint}, "
        f"while {lm.name} has {now}.{hint} Load that model, or pass force=True (--force) to use the patch anyway"
    )


def _dtype(lm: EditableModel) -> str:
    return str(lm.dtype).removeprefix("torch.")


def corpus_from_anywhere(statistics: MomentStore) -> str:
    """The corpus by a name that works in any folder. Raises StatisticsError if it cannot be used, now rather than with the first edit."""
    if statistics.budget < 1:
        raise StatisticsError(f"tokens is {statistics.budget}; key statistics need at least 1")
    statistics.corpus.fingerprint(statistics.budget)
    name = statistics.corpus.name
    return name if name == "self" else _from_anywhere(name)


def _from_anywhere(name: str) -> str:
    """The full path of a file or folder that is there: a relative one says nothing in another folder. Other names stay."""
    place = expanded(name)
    return str(place.resolve()) if os.path.exists(place) else name  # noqa: PTH110 - says no to what is no path
