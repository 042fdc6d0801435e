"""Writing a patch again, batch by batch, and looking at one fact on the way. The editor's weights are what they were afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from bluedit.errors import PatchError, RecipeError
from bluedit.explain._edit_data import Arrival, Written
from bluedit.explain._edit_match import LayerChange
from bluedit.maths.schedule import Step
from bluedit.methods.recipe import Recipe
from bluedit.methods.update import ClosedForm
from bluedit.model.sites import Site
from bluedit.model.state import exclusive, frozen
from bluedit.shapes import Float, Tensor
from bluedit.text.rows import Row
from bluedit.writing.batch import Batch, Origin
from bluedit.writing.keys import batch_rows, read_values
from bluedit.writing.weights import EditedWeights

if TYPE_CHECKING:
    from bluedit.editing.editor import Editor
    from bluedit.model.editable import EditableModel


@contextmanager
def replaying(editor: Editor) -> Iterator[EditedWeights]:
    """Unedited weights, to which batches can be added again inside the `with`; the editor's own weights are back after it."""
    with exclusive(editor.model), frozen(editor.model), editor.unedited():
        weights = EditedWeights(editor.lm)
        try:
            yield weights
        finally:
            weights.reset()


def recipe_of(origin: Origin) -> Recipe:
    """The recipe of a batch. If it has parts that are not known here, only those that decide how texts become columns; it then has no layers.

    Raises:
        PatchError: the batch's wordings or subjects are of a kind that is not known here.
    """
    named = Recipe(origin.recipe or "unknown")
    for slots in (None, ("wordings", "subjects")):
        values = {path: v for path, v in origin.settings.items() if slots is None or path.split(".")[0] in slots}
        try:
            return named.override(values, "the patch")
        except RecipeError as error:
            fault = error
    raise PatchError(
        f"the patch was written with parts that are not known here, so its facts cannot be laid out again: {fault}; "
        "import the module that defines them first"
    )


def slack_of(recipe: Recipe) -> float:
    """The slack of a recipe that `recipe_of` gave; 0, which promises least, where it is not known."""
    return recipe.update.slack if recipe.layers and isinstance(recipe.update, ClosedForm) else 0.0


@dataclass(frozen=True, eq=False)
class Column:
    """Where a fact is in its batch.

    Attributes:
        batch, recipe: its batch and how it was written.
        number: its column of R and K; None for fine-tuning, which has none.
        rows: its own rows, as those of column 0.
    """

    batch: Batch
    recipe: Recipe
    number: int | None
    rows: tuple[Row, ...]

    @classmethod
    def of(cls, lm: EditableModel, batch: Batch, index: int) -> Column:
        """The column of the batch's fact `index`.

        Raises:
            PatchError: the facts do not give as many columns as the factors have.
        """
        recipe = recipe_of(batch.origin)
        laid = batch_rows(lm.tokenizer, batch.written, batch.origin.prefixes, recipe)
        mine = next(column for column, owners in enumerate(laid.owners) if index in owners)
        rows = tuple(replace(row, fact=0) for row in laid.rows if row.fact == mine)
        if not all(len(update.reach) for update in batch.updates):
            return cls(batch, recipe, None, rows)
        if any(update.R.shape[1] != laid.n for update in batch.updates):
            found = batch.updates[0].R.shape[1]
            raise PatchError(
                f"the facts of this batch give {laid.n} columns, but the patch holds {found}; it was written with another tokenizer or chat template"
            )
        return cls(batch, recipe, mine, rows)

    def steps(self) -> dict[int, Step]:
        """The schedule's step of each written layer; empty where the schedule is not known, and for fine-tuning."""
        if self.number is None or not self.recipe.layers:
            return {}
        return {step.layer: step for step in self.recipe.steps()}

    def value(self, lm: EditableModel, layer: int) -> Float[Tensor, "d_value"]:
        """The fact's hidden state where targets of a layer live, on its bare prompt, on the weights as they are."""
        site = Site(self.recipe.objective.site, layer)
        site = site if lm.anatomy.additive else site.at_projection
        return read_values(lm, self.rows, site, 1)[:, 0].double().cpu()


@dataclass(frozen=True, eq=False)
class Rewritten:
    """What was seen while the fact's batch was written again.

    Attributes:
        written: its writes.
        changes: what it changed at each layer, seen from the fact; empty for fine-tuning.
        targets: by layer, (whole residual, hidden state before the first write that served it).
        arrived: by layer, the hidden state when the batch was complete.
    """

    written: tuple[Written, ...]
    changes: dict[int, LayerChange]
    targets: dict[int, tuple[Tensor, Tensor]]
    arrived: dict[int, Tensor]

    def arrivals(self, now: dict[int, Tensor]) -> tuple[Arrival, ...]:
        """How much of each residual arrived, with the hidden states as they are `now`."""
        return tuple(
            Arrival(
                layer,
                float(wanted.norm()),
                float(start.norm()),
                _share(self.arrived[layer] - start, wanted),
                _share(now[layer] - start, wanted),
            )
            for layer, (wanted, start) in self.targets.items()
        )


def rewrite(weights: EditedWeights, column: Column) -> Rewritten:
    """Write the fact's batch, write by write, and look at the fact before and after each."""
    lm, batch, steps = weights.lm, column.batch, column.steps()
    last = max((step.target for step in steps.values()), default=max(batch.layers))
    before = {layer: _weight(lm, layer) for layer in batch.layers if batch.filters}
    targets: dict[int, tuple[Tensor, Tensor]] = {}
    states = [column.value(lm, last)]
    with weights.filtered(batch.layers, batch.filters):
        for update in batch.updates:
            step = steps.get(update.layer)
            if step and column.number is not None and step.target not in targets:
                wanted = update.R[:, column.number].double() / step.share
                targets[step.target] = (wanted, column.value(lm, step.target))
            weights.add(update.layer, update.R.to(lm.device), update.A.to(lm.device))
            states.append(column.value(lm, last))
    filtered = {layer: _weight(lm, layer) - was for layer, was in before.items()}
    changes = _changes(column, filtered)
    written = _written(column, steps, states, changes)
    return Rewritten(written, changes, targets, {layer: column.value(lm, layer) for layer in targets})


def _weight(lm: EditableModel, layer: int) -> Float[Tensor, "d_value d_key"]:
    return lm.projection(layer).matrix().cpu().double().clone()


def _changes(column: Column, filtered: dict[int, Tensor]) -> dict[int, LayerChange]:
    if column.number is None:
        return {}
    found = {}
    for layer in column.batch.layers:
        updates = tuple(update for update in column.batch.updates if update.layer == layer)
        found[layer] = LayerChange.of(layer, updates, column.number, slack_of(column.recipe), filtered.get(layer))
    return found


def _written(
    column: Column, steps: dict[int, Step], states: Sequence[Tensor], changes: dict[int, LayerChange]
) -> tuple[Written, ...]:
    way = states[-1] - states[0]
    parts = [_share(after - before, way) for before, after in pairwise(states)]
    found = []
    for update, part in zip(column.batch.updates, parts, strict=True):
        layer, i = update.layer, column.number
        if i is None:
            found.append(Written(layer, None, None, None, None, None, part))
            continue
        step, change = steps.get(layer), changes[layer]
        delivered = float(change.delivered(change.stored[:, None])[0])
        r, recorded = float(update.R[:, i].double().norm()), float(update.reach[i])
        target, share = (step.target, step.share) if step else (None, None)
        found.append(Written(layer, target, share, r, recorded, delivered, part))
    return tuple(found)


def _share(moved: Tensor, wanted: Tensor) -> float:
    """Share of `wanted` that a move goes along it; 0 where nothing was wanted."""
    size = float(wanted @ wanted)
    return float(moved @ wanted) / size if size else 0.0
