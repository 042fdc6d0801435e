"""Where a patch comes from, and whether it belongs to the model at hand."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from bluedit.editing.patch import Patch
from bluedit.errors import PatchError
from bluedit.evaluate.report import Report
from bluedit.model.editable import EditableModel
from bluedit.model.sites import Site
from bluedit.methods.recipe import Recipe
from bluedit.methods.tunings import tuning_for
from bluedit.statistics.store import MomentStore

Norms = dict[str, dict[Site, float]]  # mean |v*| of the unedited model by the objective's fingerprint and site


def norms_in(info: Mapping[str, Any]) -> Norms:
    """The norms that edits so far anchored their targets to; later ones hold on to the same."""
    return {
        objective: {Site(kind, int(layer)): norm for place, norm in found.items() for kind, layer in [place.split()]}
        for objective, found in info.get("norms", {}).items()
    }


def describe(
    lm: EditableModel,
    moments: MomentStore,
    recipe: Recipe,
    *,
    fingerprint: str,
    prefixes: Sequence[str],
    ranks: Mapping[int, int],
    norms: Norms,
    seconds: float,
    report: Report | None,
) -> dict[str, Any]:
    """The part of a patch's manifest that tells its origin: model, recipe with all numbers, statistics, versions, report."""
    first = lm.tokenizer("a")["input_ids"][:1]
    return {
        "model": lm.name,
        "fingerprint": fingerprint,
        "dtype": _dtype(lm),
        "modules": {str(layer): lm.projection(layer).name for layer in recipe.written},
        "recipe": recipe.name,
        "paper": recipe.paper,
        "settings": recipe.settings(),
        "tuning": tuning_for(lm.model.config.get_text_config(), lm.d_key).source,
        "prefixes": list(prefixes),
        "leading_special_token": bool(first) and first[0] in lm.tokenizer.all_special_ids,
        "statistics": {**moments.identity, "corpus_name": moments.corpus.name, "corpus_seed": moments.corpus.seed},
        "free_dimensions": {str(layer): rank for layer, rank in ranks.items()},
        "norms": {
            objective: {f"{site.kind} {site.layer}": norm for site, norm in found.items()}
            for objective, found in norms.items()
        },
        "seconds": round(seconds, 2),
        "versions": {name: _version(name) for name in ("bluedit", "torch", "transformers")}
        | {"python": platform.python_version()},
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "report": report.as_dict() if report else None,
    }


def check_fits(lm: EditableModel, patch: Patch) -> None:
    """Raises PatchError when a patch's factors cannot be added to this model's weights."""
    for update in (update for batch in patch.batches for update in batch.updates):
        if update.layer >= lm.anatomy.n_layers:
            raise PatchError(
                f"the patch changes layer {update.layer}, but {lm.name} has layers 0 to {lm.anatomy.n_layers - 1}; "
                f"it was made for another model ({patch.info.get('model')})"
            )
        found, wanted = (update.R.shape[0], update.A.shape[1]), tuple(lm.projection(update.layer).matrix().shape)
        if found != wanted:
            raise PatchError(
                f"the patch changes {found[0]} x {found[1]} weights at layer {update.layer}, but {lm.name} has "
                f"{wanted[0]} x {wanted[1]} there; it was made for another model ({patch.info.get('model')})"
            )


def check_made_for(lm: EditableModel, patch: Patch, unedited: str, now: str) -> None:
    """Raises PatchError when a patch was made for other weights than these, or for these before they were edited.

    Args:
        unedited, now: fingerprints of the model before this editor's edits, and as it is.
    """
    made_for = patch.info.get("fingerprint")
    if made_for == now:
        return
    if made_for == unedited:
        raise PatchError(
            "this editor's model is edited already, and the patch was made for the unedited one; "
            "undo the edits first, or pass force=True"
        )
    hint = ""
    if patch.info.get("dtype") != _dtype(lm):
        hint = f" It was made on {patch.info.get('dtype')} weights, these are {_dtype(lm)}: load the model with that dtype."
    raise PatchError(
        f"the patch was made for other weights: {patch.info.get('model')} with fingerprint {made_for}, "
        f"while {lm.name} has {now}.{hint} Load that model, or pass force=True (--force) if you know better"
    )


def _dtype(lm: EditableModel) -> str:
    return str(lm.dtype).removeprefix("torch.")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
