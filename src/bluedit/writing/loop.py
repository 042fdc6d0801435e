"""The one loop of the design: what every locate-then-edit method does with a batch of facts."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch

from bluedit.errors import SingularError
from bluedit.facts.fact import Fact
from bluedit.forward import MOST_TOKENS, observe
from bluedit.maths.schedule import Step
from bluedit.maths.solve import PreservationOperator, solve
from bluedit.model.editable import EditableModel
from bluedit.model.sites import Site
from bluedit.progress import Progress
from bluedit.methods.recipe import Recipe, Rounds
from bluedit.shapes import Bool, Float, Tensor
from bluedit.text.prompts import rows_of
from bluedit.text.rows import Row
from bluedit.writing.batch import Batch, Update
from bluedit.writing.finetune import finetune
from bluedit.writing.keys import average_keys, average_values
from bluedit.writing.norm_anchor import hold_norm, written_values
from bluedit.writing.target_store import TargetStore
from bluedit.writing.targets import Targets, optimise_targets
from bluedit.writing.weights import EditedWeights

Norms = MutableMapping[Site, float]


def write_batch(
    lm: EditableModel,
    weights: EditedWeights,
    facts: Sequence[Fact],
    recipe: Recipe,
    prefixes: Sequence[str],
    preservation: Mapping[int, PreservationOperator],
    norms: Norms,
    progress: Progress,
    store: TargetStore | None = None,
) -> Batch:
    """Write a batch of facts into the weights, step by step of the recipe's schedule.

    This changes the model; the caller holds the transaction.

    Args:
        lm: the model.
        weights: its weights, through which all is written.
        facts: what to write.
        recipe: how.
        prefixes: put before prompts.
        preservation: G of each layer that is written.
        norms: mean |v*| of the unedited model by site, filled when the recipe holds norms.
        progress: told what is done.
        store: where targets are kept, if anywhere.
    """
    owners = owners_of(facts, merge=recipe.subjects == "merge")
    rows = owned(rows_of(lm.tokenizer, facts, prefixes, drift=True), owners)
    writer = _Writer(lm, weights, recipe, rows, 1 + max(owners), preservation, norms, progress, store)
    with weights.filtered(recipe.written, recipe.filter):
        try:
            written = writer.finetuned() if recipe.update == "finetune" else writer.solved()
        except SingularError as error:
            names = [
                f"{f.text!r} => {f.target!r}" for f, owner in zip(facts, owners, strict=True) if owner in error.facts
            ]
            raise SingularError(error.size, error.facts, names) from None
    after = observe_keys(lm, rows, recipe.written, writer.n)
    # in main memory, where a long journal does not crowd out the model
    updates = (Update(layer, R.cpu(), A.cpu(), after[layer].cpu(), share.cpu()) for layer, R, A, share in written)
    return Batch(tuple(facts), tuple(updates), recipe.filter)


def owners_of(facts: Sequence[Fact], *, merge: bool) -> list[int]:
    """For each fact, which column of K and R is its own: the first one's about the same subject if subjects are merged."""
    if not merge:
        return list(range(len(facts)))
    columns: dict[str, int] = {}
    return [columns.setdefault(fact.subject, len(columns)) for fact in facts]


def owned(rows: Sequence[Row], owners: Sequence[int]) -> list[Row]:
    """Rows by owner; facts that share one need its drift row once."""
    shared = [replace(row, fact=owners[row.fact]) for row in rows]
    first_drift = {row.fact: i for i, row in reversed(list(enumerate(shared))) if row.kind == "drift"}
    return [row for i, row in enumerate(shared) if row.kind != "drift" or first_drift[row.fact] == i]


_Written = tuple[int, Tensor, Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class _Writer:
    """One batch being written."""

    lm: EditableModel
    weights: EditedWeights
    recipe: Recipe
    rows: Sequence[Row]
    n: int
    preservation: Mapping[int, PreservationOperator]
    norms: Norms
    progress: Progress
    store: TargetStore | None

    def solved(self) -> list[_Written]:
        """(layer, R, A, reach) of every write.

        A target is optimised the first time a step needs it, on the weights as they are then, and kept for the batch. Later
        rounds write again those facts that miss too much of theirs (NSE).
        """
        targets: dict[int, Targets] = {}
        written: list[_Written] = []
        for number in range(self.recipe.rounds.count):
            due: dict[int, Tensor] = {}
            for step in self.recipe.steps():
                site = Site(value_site(self.lm, self.recipe), step.target)
                if step.target not in targets:
                    targets[step.target] = self.targets(site)
                target = targets[step.target]
                missing = target.z - (self.projected(site) if self.exact(site) else self.values(site))
                if step.target not in due:
                    due[step.target] = again(missing, target.start, self.recipe.rounds, number)
                if due[step.target].any():
                    written.append(self.write(step, step.share * missing, due[step.target]))
        return written

    def write(self, step: Step, residual: Float[Tensor, "d_value n"], due: Bool[Tensor, "n"]) -> _Written:
        """Write the residuals of the facts that are due at the step's layer."""
        keys = observe_keys(self.lm, self.rows, (step.layer,), self.n)[step.layer]
        R = torch.where(due, residual, 0.0)
        A = R.new_zeros(self.n, len(keys))
        try:
            A[due] = solve(keys[:, due], self.preservation[step.layer], self.recipe.preserve.slack).to(A.dtype)
        except SingularError as error:
            columns = due.nonzero().flatten().tolist()
            raise SingularError(error.size, tuple(columns[i] for i in error.facts)) from None
        self.weights.add(step.layer, R, A)
        return step.layer, R, A, reach(R, A, keys)

    def targets(self, site: Site) -> Targets:
        """z* of the batch at a site, on the weights that the objective asks for."""
        objective = self.recipe.objective
        found, mlp = self._optimised(site, unedited=objective.weights == "unedited")
        if not objective.norm_anchor:
            return found
        if site not in self.norms:
            base = (found, mlp)
            if self.weights.edited and objective.weights == "current":
                base = self._optimised(site, unedited=True)
            self.norms[site] = float(written_values(*base).norm(dim=0).mean())
        return hold_norm(found, mlp, self.norms[site])

    def _optimised(self, site: Site, *, unedited: bool) -> tuple[Targets, Tensor]:
        """Targets, and the MLP's output on the bare prompts, on the weights as they are or as they were before any edit."""
        held = self.weights.unedited() if unedited else nullcontext()
        with held, self.progress.task(f"targets at layer {site.layer}", self.n, "facts") as advance:
            task = (self.lm, self.rows, site, self.recipe.objective)
            if self.store is None:
                found = optimise_targets(*task, advance, self.weights.unedited)
            else:
                found = self.store.get(*task, lambda: optimise_targets(*task, advance, self.weights.unedited))
            return found, self.values(Site("mlp", site.layer)) if self.recipe.objective.norm_anchor else found.start

    def values(self, site: Site) -> Float[Tensor, "d_value n"]:
        """The current value of each fact: on its bare prompt."""
        bare = [row for row in self.rows if row.kind == "bare"]
        return average_values(bare, observe(self.lm, bare, [site])[site], self.n)

    def exact(self, site: Site) -> bool:
        """Whether a key must get its value and no other: with an equality constraint at the projection's output (ROME)."""
        return site.kind == "mlp" and self.recipe.preserve.slack == 0

    def projected(self, site: Site) -> Float[Tensor, "d_value n"]:
        """W k* (and the bias) of each fact: the projection is linear, so its outputs average as its inputs do."""
        rows = [row for row in self.rows if row.kind != "drift"]
        return average_keys(rows, observe(self.lm, rows, [site])[site], self.n)

    def finetuned(self) -> list[_Written]:
        """The change of the one layer as the product of the identity and itself: it has no residuals and no reach."""
        settings, (layer,) = self.recipe.finetune, self.recipe.written
        with self.progress.task(f"fine-tuning layer {layer}", settings.epochs, "epochs") as advance:
            tokens = self.recipe.objective.tokens_per_step or MOST_TOKENS  # whatever is free: Adam enlarges rounding
            dW = finetune(self.lm, self.rows, layer, settings, tokens, advance)
        R = torch.eye(len(dW), dtype=dW.dtype, device=dW.device)
        self.weights.add(layer, R, dW)
        return [(layer, R, dW, dW.new_zeros(0))]


def again(
    missing: Float[Tensor, "d_value n"], start: Float[Tensor, "d_value n"], rounds: Rounds, number: int
) -> Bool[Tensor, "n"]:
    """Facts that round `number` writes: all in round 0, later those whose missing residual is within the bounds (NSE, section 3.3)."""
    size = missing.norm(dim=0) / start.norm(dim=0)
    return (size > rounds.lower) & (size < rounds.upper) if number else torch.ones_like(size, dtype=torch.bool)


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


def reach(
    R: Float[Tensor, "d_value n"], A: Float[Tensor, "n d_key"], keys: Float[Tensor, "d_key n"]
) -> Float[Tensor, "n"]:
    """Share of each residual that R A delivers at its own key: <R A k_i, r_i> / |r_i|^2. 1 is all of it."""
    delivered = R @ (A @ keys.to(A.dtype))
    return (delivered * R).sum(dim=0) / (R * R).sum(dim=0).clamp(min=torch.finfo(R.dtype).tiny)
