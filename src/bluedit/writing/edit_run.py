"""One edit while it is written: its batches one after another, each of which may be taken back or written in part."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING, Protocol

import torch

from bluedit.errors import EditError, FailedFactsError
from bluedit.facts.fact import Fact
from bluedit.facts.replacing import replaced_by
from bluedit.facts.subjects import same_subject_key
from bluedit.forward import says_targets
from bluedit.methods.preserve import Control
from bluedit.methods.recipe import Recipe
from bluedit.model.editable import EditableModel
from bluedit.shapes import Float, Tensor
from bluedit.text.rows import Row
from bluedit.text.wordings import chat_form, wording_rows
from bluedit.writing._refine import refined
from bluedit.writing.batch import Batch, Origin, Update
from bluedit.writing.found import FoundTargets
from bluedit.writing.keys import BatchRows, batch_rows, keys_after

if TYPE_CHECKING:
    from bluedit.writing.context import WriteContext
    from bluedit.writing.weights import Snapshot


log = logging.getLogger(__name__)
_STRENGTHS = (1.0, 0.75, 0.5, 0.25)  # that facts are taught again with


class Judge(Protocol):
    """Decides which batches of an edit are kept."""

    @property
    def most_loss(self) -> float:
        """A fact whose last target ends with a larger loss, in nats, has failed."""
        ...

    @property
    def found(self) -> FoundTargets | None:
        """Targets for facts that are written again; None optimises them again."""
        ...

    def decide(self, run: EditRun, part: Sequence[Fact]) -> None:
        """Write some facts and keep what may stay; `run.again` says whether they were written in this edit before."""
        ...

    def settle(self, run: EditRun) -> None:
        """Refine all batches together, and keep that if it may stay."""
        ...


class KeepAll:
    """Keeps every batch; a fact that fails ends the edit."""

    most_loss: float = inf
    found: FoundTargets | None = None

    def decide(self, run: EditRun, part: Sequence[Fact]) -> None:
        run.keep(run.write(part))

    def settle(self, run: EditRun) -> None:
        run.refine()


class _Writer(Protocol):
    def updates(
        self, context: WriteContext, batch_of: BatchRows, earlier: Sequence[Batch], rewritten: Iterable[Hashable]
    ) -> tuple[Update, ...]: ...

    def control(self, recipe: Recipe) -> Mapping[int, Control]: ...

    def forget(self) -> None: ...


@dataclass(eq=False)
class EditRun:
    """One edit while it is written. This changes the model; the caller holds the transaction.

    Attributes:
        writer: writes the rows of a batch on top of other batches, and says what to record of drift.
        context: how, and on what.
        earlier: batches that the model carried before the edit.
        start: the weights before the edit.
        done: batches of the edit that are kept.
        again: whether facts are taught again from now on, because the model did not say them.
    """

    writer: _Writer
    context: WriteContext
    earlier: Sequence[Batch]
    start: Snapshot
    done: list[Batch] = field(default_factory=list)
    again: bool = False

    @property
    def before(self) -> list[Batch]:
        """All batches that the model carries."""
        return [*self.earlier, *self.done]

    def begin(self) -> None:
        """Targets that are found from now on are for the weights as they are, also where the facts are written on top of each other."""
        if self.context.found is not None:
            self.context.found.weights = self.context.weights.state

    def snapshot(self) -> Snapshot:
        """The weights as they are, for `take_back` and `rescaled`."""
        return self.context.weights.snapshot(self.context.recipe.written)

    def write(self, part: Sequence[Fact]) -> Batch:
        """Write facts on top of what is kept.

        Raises:
            FailedFactsError: facts that cannot be written; the weights may be half written.
        """
        context, recipe, before = self.context, self.context.recipe, self.before
        held = _held(part, before) if recipe.subjects.holds_earlier else []
        facts, norms = (*part, *held), dict(context.norms)
        snapshot = self.snapshot()
        batch_of = batch_rows(context.lm.tokenizer, facts, context.prefixes, recipe)
        rewritten = [recipe.subjects.remembered_as(fact) for fact in part]
        try:
            updates = self.writer.updates(self._teaching, batch_of, before, rewritten)
        except FailedFactsError as error:
            context.norms.clear()  # the next attempt must not hold on to norms of facts that failed
            context.norms.update(norms)
            raise error.about(lambda columns: [facts[i] for i in batch_of.owners_of(columns)]) from None
        prefixes, control = tuple(context.prefixes), self.writer.control(recipe)
        origin = Origin(recipe.name, recipe.paper, recipe.settings(), recipe.tuning, prefixes, control=control)
        batch = Batch(tuple(part), updates, recipe.update.batch_filters, origin, tuple(held))
        if self.again and not batch.filters and all(len(one.reach) == batch_of.n for one in updates):
            batch = self._eased(batch, batch_of, snapshot)
        context.trace.on_batch(batch)
        return batch

    @property
    def _teaching(self) -> WriteContext:
        """The context, with more room for targets of facts that are taught again. A batch records the edit's own recipe."""
        recipe = self.context.recipe
        if self.again:
            recipe = replace(recipe, objective=recipe.objective.again)
        return replace(self.context, recipe=recipe, taught=[fact for batch in self.before for fact in batch.facts])

    def _eased(self, batch: Batch, batch_of: BatchRows, snapshot: Snapshot) -> Batch:
        """A batch of facts that are taught again, each only as strongly as it takes to say as many of its texts, the prompt first of all.

        Their targets have more room than others and are often longer than they have to be, and what a change costs elsewhere grows much
        faster than the change. For updates in columns without filters, which are in proportion to their strength.

        Args:
            batch: written in full.
            batch_of: its rows.
            snapshot: the weights before it.
        """
        lm, full = self.context.lm, self.snapshot()
        texts = taught_rows(lm, self.context.recipe, batch.written)
        wanted = said_texts(lm, texts)
        least = [_STRENGTHS[0]] * len(texts)
        for stronger, strength in pairwise(_STRENGTHS):
            if going := [i for i, at in enumerate(least) if at == stronger]:
                self.rescaled(batch, strength, snapshot)
                for i, found in zip(going, said_texts(lm, [texts[i] for i in going]), strict=True):
                    least[i] = strength if found >= wanted[i] else stronger
        while True:
            shares = torch.tensor([max(least[i] for i in own) for own in batch_of.owners])
            eased = self.rescaled(batch, shares, snapshot)
            found = said_texts(lm, texts) if len(set(least)) > 1 else wanted  # all were asked at one strength
            if sum(found) >= sum(wanted):
                return self.read_again(eased)
            short = [i for i, at in enumerate(least) if found[i] < wanted[i] and at < 1]
            if not short:
                self.context.weights.restore(full)
                return batch
            for i in short:  # weaker neighbours have cost it what it had
                least[i] = _STRENGTHS[_STRENGTHS.index(least[i]) - 1]

    def keep(self, batch: Batch) -> None:
        """Let a batch that was written stay."""
        self.done.append(batch)

    @property
    def steps_together(self) -> int:
        """In how many steps the batches of the edit are refined together; 0 if they are not."""
        update, columns = self.context.recipe.update, sum(len(batch.updates[0].A) for batch in self.done)
        return update.refine.steps_together(columns) if len(self.done) > 1 and not update.batch_filters else 0

    def refine(self) -> None:
        """Refine all batches of the edit together. If that fails, they stay as they were written.

        A batch that is refined by itself does not see what later ones disturb. Their keys are read again, because later edits preserve them.
        """
        context, steps, done = self.context, self.steps_together, self.done
        if not steps:
            return
        context.weights.restore(self.start)
        written = {fact for batch in done for fact in batch.written}
        facts = [fact for fact in standing_facts(self.before) if fact in written]
        batch_of = batch_rows(context.lm.tokenizer, facts, context.prefixes, context.recipe)
        placed = [self._placed(one) for batch in done for one in batch.updates]
        try:
            names = context.recipe.update.refine.names
            residuals = iter(refined(self._teaching, placed, batch_of, steps, names))
        except EditError as error:
            log.warning("the batches were not refined together: %s", error)
            residuals = iter([R for _, R, _ in placed])
        new = [
            replace(batch, updates=tuple(replace(one, R=next(residuals).cpu()) for one in batch.updates))
            for batch in done
        ]
        self.replace_all(new)
        *others, last = new
        self.done = [*map(self._with_keys, others), self.read_again(last)]

    def replace_all(self, batches: Sequence[Batch]) -> None:
        """Write these in place of all batches of the edit."""
        self.context.weights.restore(self.start)
        for batch in batches:
            self.context.weights.repeat(batch)
        self.done = list(batches)
        self.writer.forget()

    def _placed(self, update: Update) -> tuple[int, Tensor, Tensor]:
        """Layer, R and A of an update, where its layer is."""
        device = self.context.lm.projection(update.layer).parameter.device
        return update.layer, update.R.to(device), update.A.to(device)

    def take_back(self, snapshot: Snapshot, batch: Batch | None = None) -> None:
        """The weights as they were before a batch, bit for bit; None for one that was not complete."""
        self.context.weights.restore(snapshot)
        self.context.trace.on_taken_back(batch)

    def rescaled(self, batch: Batch, share: float | Float[Tensor, "columns"], snapshot: Snapshot) -> Batch:
        """Write a share of a batch's change, or of each of its columns, instead of the whole.

        The update is linear in R, so R is scaled. What a filter dropped from the batch before comes back whole with the next write, so the
        rest of that is taken away again by a write of its own: the sum of updates then moves by `share` of what the whole batch moves it.
        Keys and drift are still those of the whole batch; `read_again` reads them.

        Args:
            snapshot: the weights before it.
        """
        weights = self.context.weights
        weights.restore(snapshot)
        scale = torch.as_tensor(share)
        updates = [
            replace(one, R=one.R * scale.to(one.R), reach=one.reach * scale.to(one.reach)) for one in batch.updates
        ]
        for layer, keys in {one.layer: one.keys for one in batch.updates}.items():
            dropped = weights.dropped(layer)
            if dropped is not None:
                rest = ((1 - share) * dropped).cpu()
                updates.append(Update(layer, torch.eye(len(rest), dtype=rest.dtype), rest, keys, rest.new_zeros(0)))
        part = replace(batch, updates=tuple(updates))
        weights.repeat(part)
        return part

    def read_again(self, batch: Batch) -> Batch:
        """The batch with its keys, which later batches preserve, and its drift as they are in the model now."""
        batch, recipe = self._with_keys(batch), self.context.recipe
        return replace(batch, origin=replace(batch.origin, control=self.writer.control(recipe)))

    def _with_keys(self, batch: Batch) -> Batch:
        context = self.context
        rows = batch_rows(context.lm.tokenizer, batch.written, context.prefixes, context.recipe)
        keys = keys_after(context.lm, rows, context.recipe.written)
        return replace(batch, updates=tuple(replace(one, keys=keys[one.layer]) for one in batch.updates))


def taught_rows(lm: EditableModel, recipe: Recipe, facts: Sequence[Fact]) -> list[list[Row]]:
    """The texts in which facts are taught, those of each fact together, its prompt first."""
    chat = chat_form(lm.tokenizer)
    return [wording_rows(lm.tokenizer, recipe.wordings.groups(fact, chat), fact.subject) for fact in facts]


def said_texts(lm: EditableModel, texts: Sequence[Sequence[Row]]) -> list[int]:
    """How many of each fact's texts the model continues with their targets; the prompt counts as much as all of them."""
    said = iter(says_targets(lm, [row for rows in texts for row in rows]))
    return [len(rows) * next(said) + sum(next(said) for _ in rows[1:]) for rows in texts]


def standing_facts(batches: Sequence[Batch]) -> list[Fact]:
    """The facts that batches have written, oldest first, without those that a later one replaced."""
    facts = [fact for batch in batches for fact in batch.facts]
    return [fact for fact, by in zip(facts, replaced_by(facts), strict=True) if by is None]


def _held(facts: Sequence[Fact], earlier: Sequence[Batch]) -> list[Fact]:
    """Earlier facts about the subjects of `facts` that these do not replace."""
    subjects, before = {same_subject_key(fact.subject) for fact in facts}, standing_facts(earlier)
    kept = zip(before, replaced_by([*before, *facts]), strict=False)
    return [fact for fact, by in kept if by is None and same_subject_key(fact.subject) in subjects]
