"""Writing a fact's batch again, write by write, and looking at the fact on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from bluedit.explain._edit_columns import Columns
from bluedit.explain._edit_data import Arrival, Position, Written
from bluedit.explain._edit_history import slack_of
from bluedit.explain._edit_match import LayerChange
from bluedit.maths.schedule import Step
from bluedit.shapes import Float, Tensor
from bluedit.writing.batch import Update
from bluedit.writing.keys import KeyPlace
from bluedit.writing.weights import EditedWeights

if TYPE_CHECKING:
    from bluedit.model.editable import EditableModel

_NOTHING = 0.005  # of a move: it would be shown as 0.00


@dataclass(frozen=True, eq=False)
class SeenColumn:
    """What was seen of one of a fact's columns while its batch was written again.

    Attributes:
        place, position: where in the texts it is written.
        changes: what the batch changed at each layer, seen from it; empty for fine-tuning.
        targets: by layer, (whole residual, hidden state before the first write that served it), each d_value.
        arrived: by layer, the hidden state (d_value) when the batch was complete.
    """

    place: KeyPlace
    position: Position
    changes: dict[int, LayerChange]
    targets: dict[int, tuple[Tensor, Tensor]]
    arrived: dict[int, Tensor]

    def received(self, keys: dict[int, Float[Tensor, "d_key n"]]) -> tuple[int, float | None]:
        """(which of n tokens receives most of the change, its share of the residual over all layers); (-1, None) without residuals."""
        whole = sum(change.weight for change in self.changes.values())
        if not whole:
            return -1, None
        parts = [change.delivered(keys[layer]) * (change.weight / whole) for layer, change in self.changes.items()]
        shares = parts[0] + sum(parts[1:])
        place = int(shares.abs().argmax())
        return place, float(shares[place])

    def arrivals(self, now: dict[int, Tensor]) -> list[Arrival]:
        """How much of each residual arrived, with the hidden states (d_value, by layer) as they are `now`."""
        return [
            Arrival(
                layer,
                self.position,
                float(wanted.norm()),
                float(start.norm()),
                share(self.arrived[layer] - start, wanted),
                share(now[layer] - start, wanted),
            )
            for layer, (wanted, start) in self.targets.items()
        ]


@dataclass(frozen=True, eq=False)
class Rewritten:
    """What was seen while the fact's batch was written again.

    Attributes:
        written: its writes.
        filters: part of the prompt's move that filters made; None if the batch has none.
        columns: the fact's columns.
        prompt: which of them the bare prompt is in.
    """

    written: tuple[Written, ...]
    filters: float | None
    columns: tuple[SeenColumn, ...]
    prompt: int

    @property
    def main(self) -> SeenColumn:
        """The prompt's column."""
        return self.columns[self.prompt]

    def column_for(self, place: KeyPlace) -> SeenColumn:
        """The column that a text reads, by where its key is; the nearest of its kind, or the prompt's, if there is none for it."""
        same = [one for one in self.columns if one.place.after == place.after]
        return next((one for one in same if one.place == place), same[0] if same else self.main)


def rewrite(weights: EditedWeights, columns: Columns, *, exact: bool) -> Rewritten:
    """Write a fact's batch and look at the fact before and after each write.

    Args:
        weights: with all earlier batches.
        columns: the fact's.
        exact: take the change of each weight from the weights themselves: with filters it is not the sum of the factors.
    """
    lm, batch, steps = columns.lm, columns.batch, columns.steps()
    last = max((step.target for step in steps.values()), default=max(batch.layers))
    before = {layer: weight_of(lm, layer) for layer in batch.layers if exact and not columns.trained}
    targets: dict[int, tuple[Tensor, Tensor]] = {}
    residuals: list[Tensor | None] = []  # None of a write without columns
    began = columns.values(last)
    with weights.filtered(batch.layers, batch.filters):
        states = [columns.values(last)]  # filters of earlier batches may be off in here (PRUNE)
        for update in batch.updates:
            asked = columns.residuals(weights, update) if len(update.reach) else None
            residuals.append(asked)
            step = steps.get(update.layer)
            if step and asked is not None and step.target not in targets:
                targets[step.target] = (columns.wanted(asked, step), columns.values(step.target))
            weights.add(update.layer, update.R.to(lm.device), update.A.to(lm.device))
            states.append(columns.values(last))
    way = Way(began, states, columns.values(last))
    arrived = {layer: columns.values(layer) for layer in targets}
    filtered = {layer: weight_of(lm, layer) - was for layer, was in before.items()}
    seen = tuple(
        SeenColumn(
            place,
            position,
            _changes(columns, c, residuals, filtered),
            {layer: (wanted[:, c], start[:, c]) for layer, (wanted, start) in targets.items()},
            {layer: state[:, c] for layer, state in arrived.items()},
        )
        for c, (place, position) in enumerate(zip(columns.places, columns.positions, strict=True))
    )
    written = _written(columns, steps, way, residuals, seen)
    return Rewritten(written, way.filters(columns.prompt) if batch.filters else None, seen, columns.prompt)


@dataclass(frozen=True, eq=False)
class Way:
    """How the hidden states of k columns moved at the last written layer, each d_value x k.

    Attributes:
        began, ended: before the batch, and when it was complete.
        states: before the first write and after each, without what filters do before and after all of them.
    """

    began: Float[Tensor, "d_value k"]
    states: Sequence[Float[Tensor, "d_value k"]]
    ended: Float[Tensor, "d_value k"]

    def parts(self, column: int) -> list[float]:
        """The part of each write."""
        whole = (self.ended - self.began)[:, column]
        return [share((after - before)[:, column], whole) for before, after in pairwise(self.states)]

    def filters(self, column: int) -> float:
        """The part of filters: those of earlier batches, which may be taken off first, and those of this one."""
        whole = (self.ended - self.began)[:, column]
        return share((self.states[0] - self.began + self.ended - self.states[-1])[:, column], whole)


def weight_of(lm: EditableModel, layer: int) -> Float[Tensor, "d_value d_key"]:
    """A copy of the weight that edits change, float64 on the CPU."""
    return lm.projection(layer).matrix().detach().cpu().double().clone()


def _changes(
    columns: Columns, column: int, residuals: Sequence[Tensor | None], filtered: dict[int, Tensor]
) -> dict[int, LayerChange]:
    """What the batch changed at each layer, seen from the fact's `column`, from 0."""
    if columns.trained:
        return {}
    found: dict[int, LayerChange] = {}
    for layer in columns.batch.layers:
        writes = [
            (update, r[:, column])
            for update, r in zip(columns.batch.updates, residuals, strict=True)
            if update.layer == layer and r is not None
        ]
        number, slack = columns.numbers[column], slack_of(columns.recipe)
        found[layer] = LayerChange.of(layer, writes, number, slack, filtered.get(layer))
    return found


def _written(
    columns: Columns, steps: dict[int, Step], way: Way, residuals: Sequence[Tensor | None], seen: Sequence[SeenColumn]
) -> tuple[Written, ...]:
    """The writes in order. Those that wrote nothing for a column and did not move it are left out."""
    found = []
    parts = [way.parts(column) for column in range(columns.count)]
    for i, update in enumerate(columns.batch.updates):
        for column, position in enumerate(columns.positions):
            part = parts[column][i]
            asked = residuals[i]
            if asked is None:
                found.append(Written(update.layer, None, position, None, None, None, None, part))
                continue
            r = asked[:, column]
            if r.any() or abs(part) >= _NOTHING:
                change = seen[column].changes[update.layer]
                found.append(
                    _write(update, columns.numbers[column], position, steps.get(update.layer), r, change, part)
                )
    return tuple(found)


def _write(
    update: Update, number: int, position: Position, step: Step | None, r: Tensor, change: LayerChange, part: float
) -> Written:
    delivered = float(change.delivered(change.stored[:, None])[0])
    target, of_missing = (step.target, step.share) if step else (None, None)
    recorded = float(update.reach[number])
    return Written(update.layer, target, position, of_missing, float(r.norm()), recorded, delivered, part)


def share(moved: Float[Tensor, "d_value"], wanted: Float[Tensor, "d_value"]) -> float:
    """Share of `wanted` that a move goes along it; 0 where nothing was wanted."""
    size = float(wanted @ wanted)
    return float(moved @ wanted) / size if size else 0.0
