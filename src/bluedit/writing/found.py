"""Targets that an edit has found, for facts that it writes again from the same weights."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace

import torch

from bluedit.text.rows import Row, linked
from bluedit.writing.target import Targets


@dataclass(eq=False)
class FoundTargets:
    """Targets of one edit that do not depend on what else is in their batch.

    A guard may take a batch back and write its facts in other company. Their first target was optimised on the weights before the batch,
    so it is still theirs.

    Attributes:
        weights: what tells the weights before a batch, or before one that was divided, from others; see `EditedWeights.state`.
    """

    weights: Hashable = None
    _found: dict[Hashable, tuple[Targets, int]] = field(default_factory=dict)  # and the column

    def get(
        self,
        what: Hashable,
        rows: Sequence[Row],
        whole: Callable[[], Targets],
        some: Callable[[Sequence[Row]], Targets],
    ) -> Targets:
        """The targets of all columns of `rows`.

        Args:
            what: site, objective and weights.
            whole: finds those of all columns; called if none is known.
            some: finds those of some columns, in ascending order, from their rows. Columns that meet in a row are asked for together.
        """
        keys = {column: (what, identity) for column, identity in sorted(_identities(rows).items())}
        missing = [column for column, key in keys.items() if key not in self._found]
        if missing:
            new = whole() if len(missing) == len(keys) else some([row for row in rows if row.fact in missing])
            self._found |= {keys[column]: (new, i) for i, column in enumerate(missing)}
            if len(missing) == len(keys):
                return new
        return _joined([self._found[key] for key in keys.values()])


def _identities(rows: Sequence[Row]) -> dict[int, Hashable]:
    """What each column's target depends on: the rows of the columns that are optimised with it, and which of these it is.

    The numbers of columns, which depend on the rest of the batch, are not part of it.
    """
    found: dict[int, Hashable] = {}
    units = linked(rows)
    number = {column: i for unit in units for i, column in enumerate(unit)}
    texts: dict[int, list[Row]] = {}
    for row in rows:
        again = tuple(repeat._replace(column=number[repeat.column]) for repeat in row.again)
        texts.setdefault(row.fact, []).append(replace(row, fact=0, again=again))
    for unit in units:
        all_texts = tuple(tuple(texts[column]) for column in unit)
        found |= {column: (number[column], all_texts) for column in unit}
    return found


def _joined(columns: Sequence[tuple[Targets, int]]) -> Targets:
    z, start = (torch.stack([getattr(one, part)[:, i] for one, i in columns], dim=1) for part in ("z", "start"))
    steps, loss = (torch.stack([getattr(one, part)[i] for one, i in columns]) for part in ("steps", "loss"))
    later = [one.later[..., i] for one, i in columns if one.later is not None]
    return Targets(z, start, steps, loss, torch.stack(later, dim=-1) if later else None)
