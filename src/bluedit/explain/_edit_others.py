"""The other facts of a patch: how near their keys are to one fact's, and what the changes do to each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from bluedit.explain._edit_data import Other
from bluedit.explain._edit_match import LayerChange, matches, sum_of, whitened_rows
from bluedit.explain._edit_replay import recipe_of, slack_of
from bluedit.shapes import Float, Tensor
from bluedit.writing.batch import Batch, Update

SHOWN = 8
Owners = Callable[[Batch], Sequence[Sequence[int]]]


@dataclass
class _Pair:
    """One other column: sums over the layers that both wrote, of shares weighted by |r|^2."""

    match: float | None = None
    adds: float = 0.0
    takes: float = 0.0
    weight: float = 0.0


@dataclass(frozen=True, eq=False)
class Others:
    """What the other edits of a patch do at one fact's keys, and it at theirs.

    Attributes:
        changes: what the fact's batch changed, by layer, seen from it.
        place, column: number of its batch, and its column there.
        owners: for a batch, the facts of each of its columns.
    """

    changes: dict[int, LayerChange]
    place: int
    column: int
    owners: Owners
    moved: dict[str, float] = field(default_factory=lambda: {"earlier": 0.0, "same batch": 0.0, "later": 0.0})

    def nearest(self, batches: Sequence[Batch]) -> tuple[tuple[Other, ...], dict[str, float]]:
        """(the nearest facts, what all others add at its key by when they were written)."""
        whole = sum(change.weight for change in self.changes.values()) or 1.0
        found: list[Other] = []
        numbers: dict[str, int] = {}  # of each prompt, its latest
        first = 1
        for place, batch in enumerate(batches):
            when = "same batch" if place == self.place else "earlier" if place < self.place else "later"
            numbers |= {fact.text: first + i for i, fact in enumerate(batch.facts)}
            pairs = self._pairs(batch, whole)
            owners = self.owners(batch) if pairs else ()
            for column, pair in pairs.items():
                if place == self.place and column == self.column:
                    continue
                takes = pair.takes / pair.weight if pair.weight else 0.0
                for i in owners[column]:
                    fact = batch.written[i]
                    number = first + i if i < len(batch.facts) else numbers.get(fact.text, 0)
                    found.append(Other(number, fact.text, fact.target, when, pair.match, pair.adds, takes))
            self._add_all(batch, when, whole)
            first += len(batch.facts)
        found.sort(key=lambda other: -max(abs(other.match or 0.0), abs(other.adds), abs(other.takes)))
        return tuple(found[:SHOWN]), dict(self.moved)

    def _add_all(self, batch: Batch, when: str, whole: float) -> None:
        """Add what a whole batch does at the fact's key; of its own batch, all but its own column."""
        for layer, change in self.changes.items():
            updates = tuple(update for update in batch.updates if update.layer == layer)
            if not updates:
                continue
            moved = float(change.residual @ sum_of(updates, change.stored[:, None])[:, 0])
            if when == "same batch":
                moved -= sum(float(_alone(update, change, self.column)) for update in updates)
            self.moved[when] += moved / whole

    def _pairs(self, batch: Batch, whole: float) -> dict[int, _Pair]:
        slack = slack_of(recipe_of(batch.origin))
        pairs: dict[int, _Pair] = {}
        for update in batch.updates:
            change = self.changes.get(update.layer)
            if change is not None and len(update.reach):
                self._look(update, change, slack, whole, pairs)
        return pairs

    def _look(self, update: Update, change: LayerChange, slack: float, whole: float, pairs: dict[int, _Pair]) -> None:
        """One write of another batch (or the own one) against the fact's change at the same layer."""
        R, A, keys = update.R.double(), update.A.double(), update.keys.double()
        adds = (change.residual @ R) * (A @ change.stored) / whole
        rows = whitened_rows(update, slack)
        near = None if rows is None else matches(rows, keys, change.stored[:, None])[:, 0].tolist()
        own = torch.stack([_own(u, self.column, keys) for u in change.updates]).sum(dim=0)
        takes, sizes = (own * R).sum(dim=0).tolist(), (R * R).sum(dim=0).tolist()
        for column, added in enumerate(adds.tolist()):
            pair = pairs.setdefault(column, _Pair())
            pair.adds += added
            pair.takes += takes[column]
            pair.weight += sizes[column]
            if near is not None:
                pair.match = max(pair.match or 0.0, near[column], key=abs)


def _own(update: Update, column: int, keys: Float[Tensor, "d_key m"]) -> Float[Tensor, "d_value m"]:
    """What one column of a write adds at some keys."""
    return update.R[:, column : column + 1].double() @ (update.A[column : column + 1].double() @ keys)


def _alone(update: Update, change: LayerChange, column: int) -> Tensor:
    return change.residual @ _own(update, column, change.stored[:, None])[:, 0]
