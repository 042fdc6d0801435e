"""The one loop of the design: what every locate-then-edit method does with a batch of facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from bluedit.editing.patch import Batch, Update
from bluedit.editing.weights import EditedWeights
from bluedit.facts.fact import Fact
from bluedit.lm.memory import EditableModel
from bluedit.lm.observe import Site, observe
from bluedit.lm.prompts import Row, rows_of
from bluedit.method.keys import average_keys
from bluedit.method.preserve import Preservation
from bluedit.method.recipe import Recipe
from bluedit.method.schedule import Step
from bluedit.method.solve import solve
from bluedit.method.targets import Targets, optimise_targets
from bluedit.progress import Progress
from bluedit.shapes import Float, Tensor


def write_batch(
    lm: EditableModel,
    weights: EditedWeights,
    facts: Sequence[Fact],
    recipe: Recipe,
    prefixes: Sequence[str],
    preservation: Mapping[int, Preservation],
    progress: Progress,
) -> Batch:
    """Write a batch of facts into the weights, step by step of the recipe's schedule.

    A target is optimised the first time a step needs it, on the weights as they are then, and kept for the batch.
    This changes the model; the caller holds the transaction.
    """
    rows = rows_of(lm.tokenizer, facts, prefixes, drift=True)
    targets: dict[int, Targets] = {}
    written: list[tuple[Step, Tensor, Tensor, Tensor]] = []
    for step in recipe.steps():
        site = Site(value_site(lm, recipe), step.target)
        if step.target not in targets:
            with progress.task(f"targets at layer {step.target}", len(facts), "facts") as advance:
                targets[step.target] = optimise_targets(lm, rows, site, recipe.objective, advance)
        residual = step.share * (targets[step.target].z - _values(lm, rows, site))
        keys = observe_keys(lm, rows, (step.layer,), len(facts))[step.layer]
        A = solve(keys, preservation[step.layer], recipe.preserve.slack)
        R, A = residual.float(), A.float()
        weights.add(step.layer, R, A)
        written.append((step, R, A, reach(R, A, keys)))
    after = observe_keys(lm, rows, recipe.written, len(facts))
    return Batch(
        tuple(facts), tuple(Update(s.layer, R, A, after[s.layer].float(), share) for s, R, A, share in written)
    )


def value_site(lm: EditableModel, recipe: Recipe) -> str:
    """Where the recipe's values live in this model: where a block normalises the MLP's output before adding it, at that output."""
    return recipe.objective.site if lm.anatomy.additive else "mlp"


def observe_keys(
    lm: EditableModel, rows: Sequence[Row], layers: Sequence[int], n: int
) -> dict[int, Float[Tensor, "d_key n"]]:
    """Keys of n facts at these layers on the weights as they are, from one pass."""
    asked = [row for row in rows if row.kind != "drift"]
    seen = observe(lm, asked, [Site("key", layer) for layer in layers])
    return {layer: average_keys(asked, seen[Site("key", layer)], n) for layer in layers}


def _values(lm: EditableModel, rows: Sequence[Row], site: Site) -> Float[Tensor, "d_value n"]:
    """The current value of each fact: on its bare prompt."""
    return observe(lm, [row for row in rows if row.kind == "bare"], [site])[site].T


def reach(
    R: Float[Tensor, "d_value n"], A: Float[Tensor, "n d_key"], keys: Float[Tensor, "d_key n"]
) -> Float[Tensor, "n"]:
    """Share of each residual that R A delivers at its own key: <R A k_i, r_i> / |r_i|^2. 1 is all of it."""
    delivered = R @ (A @ keys.to(A.dtype))
    return (delivered * R).sum(dim=0) / (R * R).sum(dim=0).clamp(min=torch.finfo(R.dtype).tiny)
