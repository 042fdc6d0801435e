"""The other facts of a patch: how near their keys are to one fact's, and what the changes do to each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bluedit.explain._edit_columns import Columns
from bluedit.explain._edit_data import Other, When
from bluedit.explain._edit_history import History, recipe_of, same, slack_of
from bluedit.explain._edit_match import LayerChange, matches, sum_of, whitened_rows
from bluedit.shapes import Float, Tensor
from bluedit.writing.batch import Batch, Update
from bluedit.writing.keys import batch_rows

if TYPE_CHECKING:
    from bluedit.model.editable import EditableModel

SHOWN = 8
ITSELF, FILTERS = "itself, earlier", "filters"


@dataclass
class _Pair:
    """One other column, or all of one other fact: sums over the layers that both wrote, of shares weighted by |r|^2."""

    match: float | None = None
    adds: float = 0.0
    takes: float = 0.0
    weight: float = 0.0

    def joined(self, other: _Pair) -> _Pair:
        """Both together."""
        match = max((one.match for one in (self, other) if one.match is not None), key=abs, default=None)
        return _Pair(match, self.adds + other.adds, self.takes + other.takes, self.weight + other.weight)


@dataclass(frozen=True, eq=False)
class Others:
    """What the other edits do at one fact's keys, and it at theirs.

    Attributes:
        lm: the model, whose tokenizer lays facts out.
        history: the fact among all batches.
        columns: its columns.
        changes: what its batch changed, by layer, seen from the prompt's column.
        around: by layer, the change of the weight by all earlier and by all later batches, each d_value x d_key, where filters had a part;
            empty without filters, where the factors tell.
    """

    lm: EditableModel
    history: History
    columns: Columns
    changes: dict[int, LayerChange]
    around: Mapping[int, Mapping[When, Tensor]] = field(default_factory=dict)

    @property
    def _whole(self) -> float:
        return sum(change.weight for change in self.changes.values()) or 1.0

    def nearest(self) -> tuple[tuple[Other, ...], dict[str, float]]:
        """(the nearest facts, what all others add at its key by when they were written)."""
        found: list[Other] = []
        moved: dict[str, float] = dict.fromkeys(When, 0.0)
        itself = 0.0
        for place, batch in enumerate(self.history.batches):
            pairs = self._pairs(batch)
            owners = self._owners(batch) if pairs else ()
            facts: dict[int, _Pair] = {}
            for column, pair in pairs.items():
                if self._is_own(place, batch, column, owners):
                    itself += pair.adds if place < self.history.place else 0.0
                    continue
                for i in owners[column]:
                    facts[i] = facts.get(i, _Pair()).joined(pair)
            found += [self._other(place, batch, i, pair) for i, pair in facts.items()]
            moved[self.history.when(place)] += self._added(batch)
        moved[When.EARLIER] -= itself
        moved[When.SAME] -= self._own()
        if itself:
            moved[ITSELF] = itself
        if self.around:
            self._with_filters(moved, itself)
        found.sort(key=lambda other: -max(abs(other.match or 0.0), abs(other.adds), abs(other.takes)))
        return tuple(found[:SHOWN]), {str(name): value for name, value in moved.items()}

    def _owners(self, batch: Batch) -> Sequence[Sequence[int]]:
        recipe = recipe_of(batch.origin)
        return batch_rows(self.lm.tokenizer, batch.written, batch.origin.prefixes, recipe).owners

    def _is_own(self, place: int, batch: Batch, column: int, owners: Sequence[Sequence[int]]) -> bool:
        """Whether a column is the fact's own, in its batch or in another one that wrote it."""
        if place == self.history.place:
            return column in self.columns.numbers
        return any(same(self.history.fact, batch.written[i]) for i in owners[column])

    def _other(self, place: int, batch: Batch, index: int, pair: _Pair) -> Other:
        fact = batch.written[index]
        takes = pair.takes / pair.weight if pair.weight else 0.0
        number = self.history.numbers.get((fact.text, fact.target)) if place >= self.history.below else None
        return Other(number, fact.text, fact.target, self.history.when(place), pair.match, pair.adds, takes)

    def _added(self, batch: Batch) -> float:
        """What a whole batch adds at the prompt's key, before filters, in shares of its residual."""
        moved = 0.0
        for layer, change in self.changes.items():
            updates = [update for update in batch.updates if update.layer == layer]
            if updates:
                moved += float(change.residual @ sum_of(updates, change.stored[:, None])[:, 0])
        return moved / self._whole

    def _own(self) -> float:
        """The same of the fact's own columns in its batch."""
        found = 0.0
        for change in self.changes.values():
            own = self.columns.own_change(change.updates, change.stored[:, None])[:, 0]
            found += float(change.residual @ own)
        return found / self._whole

    def _with_filters(self, moved: dict[str, float], itself: float) -> None:
        """Take what earlier and later batches added from the weights, and tell what filters did in the fact's own batch."""
        for when in (When.EARLIER, When.LATER):
            along = (
                float(change.residual @ (self.around[layer][when] @ change.stored))
                for layer, change in self.changes.items()
            )
            moved[when] = sum(along) / self._whole
        moved[When.EARLIER] -= itself
        written = sum(
            float(c.residual @ (c.change(c.stored[:, None]) - sum_of(c.updates, c.stored[:, None]))[:, 0])
            for c in self.changes.values()
        )
        moved[FILTERS] = written / self._whole

    def _pairs(self, batch: Batch) -> dict[int, _Pair]:
        slack = slack_of(recipe_of(batch.origin))
        pairs: dict[int, _Pair] = {}
        for update in batch.updates:
            change = self.changes.get(update.layer)
            if change is not None and len(update.reach):
                self._look(update, change, slack, pairs)
        return pairs

    def _look(self, update: Update, change: LayerChange, slack: float, pairs: dict[int, _Pair]) -> None:
        """One write of another batch (or the own one) against the fact's change at the same layer."""
        R, A, keys = update.R.double(), update.A.double(), update.keys.double()
        adds = (change.residual @ R) * (A @ change.stored) / self._whole
        rows = whitened_rows(update, slack)
        near = None if rows is None else matches(rows, keys, change.stored[:, None])[:, 0].tolist()
        own: Float[Tensor, "d_value n"] = self.columns.own_change(change.updates, keys)
        takes, sizes = (own * R).sum(dim=0).tolist(), (R * R).sum(dim=0).tolist()
        for column, added in enumerate(adds.tolist()):
            pair = pairs.setdefault(column, _Pair())
            pair.adds += added
            pair.takes += takes[column]
            pair.weight += sizes[column]
            if near is not None:
                pair.match = max(pair.match or 0.0, near[column], key=abs)
