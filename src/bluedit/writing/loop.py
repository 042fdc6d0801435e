"""The loop of the design: what every locate-then-edit method does with a batch of facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch

from bluedit.errors import SingularError
from bluedit.execution import Execution
from bluedit.forward import tokens_per_step
from bluedit.maths.schedule import Step
from bluedit.maths.solve import solve
from bluedit.methods.update import ClosedForm, FineTune, Rounds
from bluedit.model.devices import widened
from bluedit.model.sites import Site
from bluedit.shapes import Bool, Float, Tensor
from bluedit.text.rows import Row
from bluedit.writing._failures import check_converged, check_finite
from bluedit.writing._norms import anchor_norm, hold_norm, written_values
from bluedit.writing._plan import Plan
from bluedit.writing._refine import refined
from bluedit.writing._space import Space
from bluedit.writing.batch import Update
from bluedit.writing.context import WriteContext, needed
from bluedit.writing.finetune import finetune
from bluedit.writing.keys import (
    BatchRows,
    WrittenKeys,
    from_all_texts,
    read_moved_values,
    read_values,
    read_written_values,
)
from bluedit.writing.needs import weights_needed
from bluedit.writing.target import Targets, fixed
from bluedit.writing.targets import optimise_targets
from bluedit.writing.trace import Write
from bluedit.writing.weights import Snapshot

_AFTER_SUBJECT_ROUNDS = 3  # at most: one write delivers 4 to 80 % of what is missing at the token after a subject
_AFTER_SUBJECT_LOWER = 0.02  # of |h|: less is not worth another write


def write_batch(context: WriteContext, batch_of: BatchRows) -> tuple[Update, ...]:
    """Write a batch into the weights, step by step of the recipe's schedule.

    This changes the model; the caller holds the transaction.

    Args:
        context: how, and on what.
        batch_of: the rows of the facts, see `batch_rows`.

    Returns:
        The factors in the order they were added, in main memory, where a long journal does not crowd out the model.

    Raises:
        FailedFactsError: a loss or an update is not finite, keys are (nearly) dependent, or the last target's loss is above the limit of the
            context; `columns` says of which columns.
    """
    recipe, keys = context.recipe, WrittenKeys(context.lm, batch_of, context.recipe)
    writer = _Writer(context, keys, batch_of)
    with context.weights.filtered(recipe.written, recipe.update.batch_filters):
        written = recipe.update.write(writer)
    after = keys.after()
    return tuple(Update(layer, R.cpu(), A.cpu(), after[layer], reach.cpu()) for layer, R, A, reach in written)


_Written = tuple[int, Tensor, Tensor, Tensor]  # layer, R, A, reach


@dataclass(frozen=True, eq=False)
class _Writer:
    """One batch being written: n columns of K and R, and the rows that they are read from."""

    context: WriteContext
    keys: WrittenKeys
    batch: BatchRows

    def solve(self, update: ClosedForm) -> list[_Written]:
        """Write in closed form: for every step of the schedule the residual that is missing, for the keys as they are then.

        A target is optimised the first time a step needs it, on the weights as they are then, and kept for the batch. Later rounds write
        again those facts that still lack too much of theirs (NSE).
        """
        steps = update.refine.steps_for(self.batch.n)
        snapshot = self.context.weights.snapshot(self.context.recipe.written) if steps else {}
        targets: dict[int, Targets] = {}
        written: list[_Written] = []
        for number in range(max(update.rounds.count, _AFTER_SUBJECT_ROUNDS if self.batch.after_subject else 1)):
            due: dict[int, Tensor] = {}
            for step in self.context.recipe.steps():
                site = self.context.site(step.target)
                if step.target not in targets:
                    targets[step.target] = self._targets(site, targets)
                    if step.target == self.context.recipe.steps()[-1].target:  # it decides what the model says
                        check_converged(targets[step.target], self.context.most_loss)
                    if self.context.recipe.schedule.observes:
                        targets |= self._observed(site, targets[step.target])
                z = targets[step.target]
                missing = z.z - self._values(site, exact=update.exact)
                if step.target not in due:
                    due[step.target] = self._due(missing, z.start, update.rounds, number)
                if due[step.target].any():
                    written.append(self._write(update, step, number, missing, due[step.target]))
        return self._refined(steps, written, snapshot) if steps else written

    def _refined(self, steps: int, written: Sequence[_Written], snapshot: Snapshot) -> list[_Written]:
        """What was written, with residuals that are corrected on what the written model says."""
        context = self.context
        context.weights.restore(snapshot)
        factors = [(layer, R, A) for layer, R, A, _ in written]
        residuals = refined(context, factors, self.batch, steps)
        for (layer, _, A), R in zip(factors, residuals, strict=True):
            context.weights.add(layer, R, A)
        return [(layer, R, A, found) for (layer, _, A, found), R in zip(written, residuals, strict=True)]

    def _due(self, missing: Tensor, start: Tensor, rounds: Rounds, number: int) -> Bool[Tensor, "n"]:
        """Columns that a round writes: by the recipe's rule, and those after a subject until little is missing."""
        due = due_facts(missing, start, rounds, number) & (number < rounds.count)
        if number and self.batch.after_subject:
            columns = sorted(self.batch.after_subject)
            far = missing.norm(dim=0) > _AFTER_SUBJECT_LOWER * start.norm(dim=0)
            due[columns] |= far[columns]
        return due

    def _write(
        self, update: ClosedForm, step: Step, number: int, missing: Float[Tensor, "d_value n"], due: Bool[Tensor, "n"]
    ) -> _Written:
        """Solve for the facts that are due, and add R A at the step's layer."""
        context, space = self.context, self.context.spaces.get(step.layer, Space())
        keys = self.keys.read(step.layer)
        residual = torch.where(due, needed(context.lm, step, context.site(step.target)) * missing, 0.0)
        A = residual.new_zeros(self.batch.n, len(keys))
        check_finite(step.layer, residual, keys)
        try:
            solved_for = space.specific(keys[:, due].to(context.solve_device))
            A[due] = solve(solved_for, context.operators[step.layer], update.slack).to(A)
        except SingularError as error:
            raise error.among(due.nonzero().flatten().tolist()) from None
        sent, A = space.spared(residual, A)
        dropped = context.weights.dropped(step.layer)
        # what comes back of an earlier batch moves the keys' outputs by -D K, which the new residual makes up for
        R = (
            sent
            if dropped is None
            else sent + torch.where(due, (dropped @ widened(keys).to(dropped.device)).to(sent), 0.0)
        )
        context.weights.add(step.layer, R, A)
        found = reach(residual, sent, A, keys)
        context.trace.on_write(Write(step, number, missing, residual, keys, R, A, due, found))
        return step.layer, R, A, found

    def train(self, update: FineTune) -> list[_Written]:
        """Fine-tune one layer. The change is stored as the identity times itself; it has no residuals and no reach."""
        context, (layer,) = self.context, self.context.recipe.written
        with context.progress.task(f"fine-tuning layer {layer}", update.epochs, "epochs") as advance:
            dW = finetune(context.lm, self.batch.rows, layer, update, self._sized.tokens_per_step, advance)
        R = torch.eye(len(dW), dtype=dW.dtype, device=dW.device)
        context.weights.add(layer, R, dW)
        return [(layer, R, dW, dW.new_zeros(0))]

    def _values(self, site: Site, *, exact: bool) -> Float[Tensor, "d_value n"]:
        """The current value of each fact. With an equality constraint at the projection's own output (ROME) it is W k* for the averaged key."""
        if exact and site.is_projection_output:
            return read_written_values(self.context.lm, self.batch.rows, site, self.batch.n)
        return read_values(self.context.lm, self.batch.rows, site, self.batch.n)

    def _targets(self, site: Site, known: Mapping[int, Targets]) -> Targets:
        """z* of the batch at a site, on the weights that the objective asks for; `known` are those of the layers before."""
        context, objective = self.context, self.context.recipe.objective
        plan = replace(self._plan(site, known), unedited=objective.uses_unedited_weights, first=not known)
        found, mlp = self._optimised(plan)
        if objective.norm_anchor:
            if site not in context.norms:
                base = (found, mlp)
                if context.weights.edited and not objective.uses_unedited_weights:
                    base = self._optimised(replace(plan, unedited=True))
                context.norms[site] = anchor_norm(written_values(*base))
            found = hold_norm(found, mlp, context.norms[site])
        context.trace.on_target(site, found)
        return found

    def _observed(self, first: Site, found: Targets) -> dict[int, Targets]:
        """Targets of the later layers: what the bare prompts have there with the first layer's target in place of its value."""
        context, recipe = self.context, self.context.recipe
        later = [self.context.site(layer) for layer in dict.fromkeys(step.target for step in recipe.steps())][1:]
        weights = context.weights.unedited() if recipe.objective.uses_unedited_weights else nullcontext()
        with weights:
            start = {site: read_values(context.lm, self.batch.rows, site, self.batch.n) for site in later}
            seen = read_moved_values(context.lm, self.batch.rows, later, self.batch.n, {first: found.z - found.start})
        targets = {site: fixed(seen[site], start[site]) for site in later}
        for site, target in targets.items():
            context.trace.on_target(site, target)
        return {site.layer: target for site, target in targets.items()}

    @property
    def _sized(self) -> Execution:
        """The execution, with the number of tokens that fit now beside what the recipe's writes will take."""
        context = self.context
        if context.execution.tokens_per_step:
            return context.execution
        kept = weights_needed(context.lm, context.weights.unchanged(context.recipe.written))
        return replace(context.execution, tokens_per_step=tokens_per_step(context.lm, kept))

    def _plan(self, site: Site, known: Mapping[int, Targets]) -> Plan:
        """How z* at a site is optimised: by itself, or with those of the later layers. The last one is corrected on the weights written so far."""
        recipe, objective = self.context.recipe, self.context.recipe.objective
        layers = list(dict.fromkeys(step.target for step in recipe.steps()))
        if not objective.together or recipe.schedule.observes or len(layers) == 1:
            return Plan(site, objective)
        portion = recipe.schedule.portion(len(layers))
        shared = replace(objective, learning_rate=portion * objective.learning_rate, clamp=portion * objective.clamp)
        if site.layer == layers[0]:
            return Plan(site, shared, later=tuple(self.context.site(layer) for layer in layers[1:]))
        ahead = known[layers[0]].later
        if ahead is None:  # from a source that has no vectors of later layers
            return Plan(site, objective)
        initial = ahead[layers.index(site.layer) - 1]
        if site.layer != layers[-1]:
            return Plan(site, objective, initial=initial, kept=True)
        return Plan(site, replace(shared, steps=objective.correction), initial=initial)

    def _optimised(self, plan: Plan) -> tuple[Targets, Tensor]:
        """Targets, and the MLP's output on the bare prompts, on the weights as they are or as they were before any edit."""
        context, site = self.context, plan.site
        weights = context.weights.unedited() if plan.unedited else nullcontext()
        with weights, context.progress.task(f"targets at layer {site.layer}", self.batch.n, "facts") as advance:

            def optimise(rows: Sequence[Row]) -> Targets:
                if plan.kept and plan.initial is not None:
                    start = read_values(context.lm, self.batch.rows, site, self.batch.n)
                    return fixed(start + plan.initial.to(start), start)
                how = (site, plan.objective, self._sized, advance, context.weights.unedited, plan.later, plan.initial)
                found = optimise_targets(context.lm, rows, *how, context.fisher, tuple(map(len, self.batch.owners)))
                columns = sorted({row.fact for row in rows})
                return (
                    from_all_texts(context.lm, found, self.batch.rows, site, columns)
                    if plan.objective.rotate
                    else found
                )

            found = plan.get(context.source, context.found, context.lm, self.batch.rows, optimise)
            if not plan.objective.norm_anchor:
                return found, found.start
            return found, read_values(context.lm, self.batch.rows, site.at_projection, self.batch.n)


def due_facts(
    missing: Float[Tensor, "d_value n"], start: Float[Tensor, "d_value n"], rounds: Rounds, number: int
) -> Bool[Tensor, "n"]:
    """Facts that a round writes: all in round 0, later those whose missing residual is within the bounds (NSE, section 3.3)."""
    size = missing.norm(dim=0) / start.norm(dim=0)
    return (size > rounds.lower) & (size < rounds.upper) if number else torch.ones_like(size, dtype=torch.bool)


def reach(
    wanted: Float[Tensor, "d_value n"],
    R: Float[Tensor, "d_value n"],
    A: Float[Tensor, "n d_key"],
    keys: Float[Tensor, "d_key n"],
) -> Float[Tensor, "n"]:
    """Share of each wanted residual r_i that R A delivers at its own key: <R A k_i, r_i> / |r_i|^2. 1 is all of it."""
    delivered = R @ (A @ keys.to(A.dtype))
    return (delivered * wanted).sum(dim=0) / (wanted * wanted).sum(dim=0).clamp(min=torch.finfo(R.dtype).tiny)
