"""Targets that an edit has found, for facts that it writes again from the same weights."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace

import torch

from bluedit.text.rows import Row
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
            some: finds those of some columns, in ascending order, from their rows.
        """
        keys = {column: (what, texts) for column, texts in sorted(_texts(rows).items())}
        missing = [column for column, key in keys.items() if key not in self._found]
        if missing:
            new = whole() if len(missing) == len(keys) else some([row for row in rows if row.fact in missing])
            self._found |= {keys[column]: (new, i) for i, column in enumerate(missing)}
            if len(missing) == len(keys):
                return new
        return _joined([self._found[key] for key in keys.values()])


def _texts(rows: Sequence[Row]) -> dict[int, tuple[Row, ...]]:
    """The rows of each column without what depends on its batch: the number of the column, and the numbers of groups."""
    texts: dict[int, list[Row]] = {}
    groups: dict[int, dict[int, int]] = {}
    for row in rows:
        known = groups.setdefault(row.fact, {})
        group = row.group if row.is_drift else known.setdefault(row.group, len(known))
        texts.setdefault(row.fact, []).append(replace(row, fact=0, group=group))
    return {column: tuple(mine) for column, mine in texts.items()}


def _joined(columns: Sequence[tuple[Targets, int]]) -> Targets:
    z, start = (torch.stack([getattr(one, part)[:, i] for one, i in columns], dim=1) for part in ("z", "start"))
    steps, loss = (torch.stack([getattr(one, part)[i] for one, i in columns]) for part in ("steps", "loss"))
    later = [one.later[..., i] for one, i in columns if one.later is not None]
    return Targets(z, start, steps, loss, torch.stack(later, dim=-1) if later else None)
