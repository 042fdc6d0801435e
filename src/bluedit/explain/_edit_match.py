"""What the factors of a patch say about a key: its whitened match with the stored keys, and what a change delivers there.

A patch holds R and A of every write, and the keys K that A was solved for, but not G. It does not need to: with s the slack,
    A = (s I + K^T G K)^-1 K^T G   and so   A K = (s I + K^T G K)^-1 K^T G K   and   K^T G = s (I - A K)^-1 A.
So k_s^T G k is known for every key k, with the memory that the edit had and without reading any statistics again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from bluedit.shapes import Float, Tensor
from bluedit.writing.batch import Update


def whitened_rows(update: Update, slack: float) -> Float[Tensor, "n d_key"] | None:
    """K^T G of a write, up to a factor that all rows share; rows of facts that it did not write are zero.

    None where the factors do not tell: the write met its keys exactly (slack 0) and there are several. It is exact where the recorded
    keys are those that were solved for: not if a later round of the same batch wrote a layer below.
    """
    A, K = update.A.double(), update.keys.double()
    due = (A != 0).any(dim=1)
    if slack == 0:
        return A if int(due.sum()) == 1 else None
    rows = torch.zeros_like(A)
    delivered = A[due] @ K[:, due]
    system = torch.eye(len(delivered), dtype=delivered.dtype) - delivered
    solved, singular = torch.linalg.solve_ex(system, A[due])
    rows[due] = torch.linalg.lstsq(system, A[due]).solution if int(singular) else solved
    return rows


def matches(
    rows: Float[Tensor, "n d_key"], stored: Float[Tensor, "d_key n"], keys: Float[Tensor, "d_key m"]
) -> Float[Tensor, "n m"]:
    """k_s^T G k / k_s^T G k_s of each stored key with each key; 0 for stored keys that were not written."""
    own = (rows * stored.double().T).sum(dim=1, keepdim=True)
    return torch.where(own == 0, 0.0, rows @ keys.double() / torch.where(own == 0, 1.0, own))


@dataclass(frozen=True, eq=False)
class LayerChange:
    """What one batch changed at one layer, seen from one column (fact) of it.

    Attributes:
        layer: which.
        updates: the writes of the batch there, in order.
        residual: r of the column at the first write that was not zero for it.
        stored: its stored key.
        row: k_s^T G, up to a factor; None where it is unknown.
        filtered: the change of the weight with all that filters did to it; None without filters, where it is the sum of R A.
    """

    layer: int
    updates: tuple[Update, ...]
    residual: Float[Tensor, "d_value"]
    stored: Float[Tensor, "d_key"]
    row: Float[Tensor, "d_key"] | None
    filtered: Float[Tensor, "d_value d_key"] | None = None

    @classmethod
    def of(
        cls,
        layer: int,
        writes: Sequence[tuple[Update, Float[Tensor, "d_value"]]],
        column: int,
        slack: float,
        filtered: Float[Tensor, "d_value d_key"] | None = None,
    ) -> LayerChange:
        """The change of some writes, all at this layer, for a column.

        Args:
            writes: each with what it was to add at the column's key (its column of R, unless a filter's feedback has a part in that).
            column: of R and K.
            slack: of the closed form.
            filtered: see the attribute.
        """
        first, residual = next(((u, r) for u, r in writes if r.any()), writes[0])
        rows = whitened_rows(first, slack)
        row = None if rows is None else rows[column]
        stored = first.keys[:, column].double()
        return cls(layer, tuple(u for u, _ in writes), residual, stored, row, filtered)

    @property
    def weight(self) -> float:
        """|r|^2."""
        return float(self.residual @ self.residual)

    def change(self, keys: Float[Tensor, "d_key m"]) -> Float[Tensor, "d_value m"]:
        """dW k of the whole batch."""
        keys = keys.double()
        if self.filtered is not None:
            return self.filtered @ keys
        return sum_of(self.updates, keys)

    def delivered(self, keys: Float[Tensor, "d_key m"]) -> Float[Tensor, "m"]:
        """<dW k, r> / |r|^2; 0 where there was nothing to deliver."""
        if not self.weight:
            return keys.new_zeros(keys.shape[1], dtype=torch.float64)
        return self.residual @ self.change(keys) / self.weight

    def match(self, keys: Float[Tensor, "d_key m"]) -> Float[Tensor, "m"] | None:
        """Whitened match of the stored key with each key; None where G is unknown."""
        if self.row is None:
            return None
        return matches(self.row[None], self.stored[:, None], keys)[0]


def sum_of(updates: Sequence[Update], keys: Float[Tensor, "d_key m"]) -> Float[Tensor, "d_value m"]:
    """The sum of R (A k) over some writes, float64."""
    parts = [update.R.double() @ (update.A.double() @ keys) for update in updates]
    return torch.stack(parts).sum(dim=0)
