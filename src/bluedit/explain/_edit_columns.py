"""The columns of R and K that a fact has in its batch: one, or more where its texts begin with the subject or spell it with other tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from bluedit.errors import PatchError
from bluedit.explain._edit_data import Position
from bluedit.explain._edit_history import History, recipe_of
from bluedit.maths.schedule import Step
from bluedit.methods.recipe import Recipe
from bluedit.model.sites import Site
from bluedit.shapes import Float, Tensor
from bluedit.text.prompts import subject_row
from bluedit.text.rows import Row
from bluedit.writing.batch import Batch, Update
from bluedit.writing.context import needed
from bluedit.writing.keys import KeyPlace, batch_rows, read_keys, read_values
from bluedit.writing.weights import EditedWeights

if TYPE_CHECKING:
    from bluedit.model.editable import EditableModel


@dataclass(frozen=True, eq=False)
class Columns:
    """A fact's k columns in its batch.

    Attributes:
        lm: the model.
        batch, recipe: its batch and how it was written.
        numbers: its columns of R and K; none of both is there for fine-tuning.
        places: where in the texts each is written.
        rows: the rows of these columns, as those of columns 0 to k - 1.
        prompt: which of the k columns the bare prompt is in.
        trained: whether the batch was fine-tuned, so that there are no residuals.
    """

    lm: EditableModel
    batch: Batch
    recipe: Recipe
    numbers: tuple[int, ...]
    places: tuple[KeyPlace, ...]
    rows: tuple[Row, ...]
    prompt: int
    trained: bool

    @classmethod
    def of(cls, lm: EditableModel, history: History) -> Columns:
        """The columns of a fact.

        Raises:
            PatchError: the facts do not give as many columns as the factors have.
        """
        batch = history.batch
        recipe = recipe_of(batch.origin)
        laid = batch_rows(lm.tokenizer, batch.written, batch.origin.prefixes, recipe)
        # an update without reach has no columns, see `EditRun.rescaled`
        solved = [update for update in batch.updates if len(update.reach)]
        trained = not solved
        found = next((update.R.shape[1] for update in solved if update.R.shape[1] != laid.n), None)
        if found is not None and not trained:
            raise PatchError(
                f"the facts of this batch give {laid.n} columns, but the patch holds {found}; it was written with another tokenizer or chat template"
            )
        numbers = [column for column, owners in enumerate(laid.owners) if history.index in owners]
        rows = tuple(replace(row, fact=numbers.index(row.fact)) for row in laid.rows if row.fact in numbers)
        places = tuple(laid.places[number] for number in numbers)
        prompt = KeyPlace.of(subject_row(lm.tokenizer, history.fact, 0), spellings=recipe.subjects.spellings)
        main = places.index(prompt) if prompt in places else 0
        return cls(lm, batch, recipe, tuple(numbers), places, rows, main, trained)

    @property
    def positions(self) -> tuple[Position, ...]:
        """The places in words."""
        first = next((place for place in self.places if not place.after), None)
        return tuple(
            Position.NEXT if place.after else Position.SUBJECT if place == first else Position.SPELLING
            for place in self.places
        )

    @property
    def count(self) -> int:
        """k."""
        return len(self.numbers)

    def steps(self) -> dict[int, Step]:
        """The schedule's step of each written layer; empty where the schedule is not known, and for fine-tuning."""
        if self.trained or not self.recipe.layers:
            return {}
        return {step.layer: step for step in self.recipe.steps()}

    def values(self, layer: int) -> Float[Tensor, "d_value k"]:
        """The columns' hidden states where targets of a layer live, on the weights as they are; float64 on the CPU."""
        return read_values(self.lm, self.rows, self.site(layer), self.count).double().cpu()

    def site(self, layer: int) -> Site:
        """Where targets of a layer live."""
        site = Site(self.recipe.objective.site, layer)
        return site if self.lm.anatomy.additive else site.at_projection

    def wanted(self, residuals: Float[Tensor, "d_value k"], step: Step) -> Float[Tensor, "d_value k"]:
        """What a write's residuals ask of its target: without the step's share, what blocks multiply by, and what a guard took off."""
        return residuals / (needed(self.lm, step, self.site(step.target)) * self.kept)

    @property
    def kept(self) -> float:
        """The share of the batch's change that a guard let stay; 1 where none says a share."""
        share = (self.batch.guard or {}).get("share")
        return float(share) if isinstance(share, (int, float)) and 0 < share <= 1 else 1.0

    def residuals(self, weights: EditedWeights, update: Update) -> Float[Tensor, "d_value k"]:
        """What a write is to add at each column's key, before it is made; float64 on the CPU.

        R also makes up for what earlier filters dropped and this write adds back (R = r + D K); that is taken off again.
        """
        R = update.R[:, list(self.numbers)].double().cpu()
        dropped = weights.dropped(update.layer)
        if dropped is None:
            return R
        keys = read_keys(self.lm, self.rows, (update.layer,), self.count)[update.layer]
        due = (R != 0).any(dim=0)
        return torch.where(due, R - (dropped @ keys.double()).cpu(), 0.0)

    def own_change(self, updates: Sequence[Update], keys: Float[Tensor, "d_key m"]) -> Float[Tensor, "d_value m"]:
        """What the fact's columns of some writes add at some keys, before filters."""
        own = list(self.numbers)
        return torch.stack([u.R[:, own].double() @ (u.A[own].double() @ keys) for u in updates]).sum(dim=0)
