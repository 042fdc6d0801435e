"""A null space whose leakage is paid for, and which is found anew as edits accumulate (BetaEdit, arXiv 2605.09285)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bluedit.maths.cholesky import Cholesky
from bluedit.maths.moment import SecondMoment
from bluedit.maths.preserve import Base, Factored, Preservation, null_space
from bluedit.shapes import Float, Tensor


@dataclass(frozen=True, eq=False)
class Weighed(Base):
    """S0 = U diag(weights) U^T on the subspace spanned by the columns of U."""

    U: Float[Tensor, "d_key rank"]
    weights: Float[Tensor, "rank"]

    @property
    def dimensions(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.U.shape[1]

    def apply(self, K: Tensor) -> Tensor:
        return self.U @ ((self.U.T @ K) / self.weights[:, None])

    def fold(self, solved: Tensor) -> Base:
        inner = self.weights[:, None] * (self.U.T @ solved)
        return Factored(Cholesky.of(torch.diag(self.weights).addmm_(inner, inner.T)), 1.0, self.U)


@dataclass(frozen=True)
class NullSpaceRule:
    """How a null space is found, and what S is on it: leakage x C + l2 I, and M.

    Attributes:
        threshold, unit: as in `null_space`.
        l2: weight of the identity.
        leakage: weight of C, whose small eigenvalues on the null space are what leaks.
    """

    threshold: float
    unit: str
    l2: float
    leakage: float

    def base(self, C: SecondMoment) -> Base:
        """On the null space of C. Raises StatisticsError as `null_space`."""
        U, _ = null_space(C, self.threshold, self.unit)
        leaks = ((C.matrix.double() @ U) * U).sum(dim=0).clamp(min=0)
        return Weighed(U, self.leakage * leaks + self.l2)

    def refreshed(self, C: SecondMoment, K: Float[Tensor, "d_key n"]) -> Base:
        """On the null space of (K K^T / n + leakage C) / (leakage + 1), which n edited keys are in too. Without leakage C has weight 1."""
        weight = self.leakage or 1.0
        mixed = (K @ K.T / K.shape[1] + weight * C.matrix.double()) / (weight + 1)
        U, _ = null_space(SecondMoment(mixed, C.tokens, C.layer), self.threshold, self.unit)
        S = self.leakage * (U.T @ C.matrix.double() @ U)
        S.diagonal().add_(self.l2)
        return Factored(Cholesky.of(S), 1.0, U)


class RefreshedNullSpace:
    """G on a null space that is found anew whenever `interval` more keys have been remembered.

    C and all remembered keys stay in memory for this.
    """

    def __init__(self, C: SecondMoment, rule: NullSpaceRule, interval: int, first: Base | None = None) -> None:
        self._C, self._rule, self._interval = C, rule, interval
        self._first = rule.base(C) if first is None else first
        self._keys: list[Tensor] = []
        self._count = self._due = self._built = (
            0  # keys in all, at the last refresh that is due, and at the last that was made
        )
        self._inner = Preservation(self._first)

    @property
    def rank(self) -> int:
        """Dimensions of key space an update may use."""
        return self._refreshed().rank

    def apply(self, K: Float[Tensor, "d_key n"]) -> Float[Tensor, "d_key n"]:
        """G K, float64."""
        return self._refreshed().apply(K)

    def remember(self, K: Float[Tensor, "d_key n"]) -> None:
        """Add K K^T to M."""
        self._keys.append(K.double())
        self._count += K.shape[1]
        if self._count - self._due >= self._interval:
            self._due = self._count
        if self._due == self._built:
            self._inner.remember(K)

    def fresh(self) -> RefreshedNullSpace:
        """The same operator with nothing in M."""
        return RefreshedNullSpace(self._C, self._rule, self._interval, self._first)

    def _refreshed(self) -> Preservation:
        """With the latest null space that is due. Earlier ones are not found: they would not be used."""
        if self._due != self._built:
            keys = torch.cat(self._keys, dim=1)
            self._inner = Preservation(self._rule.refreshed(self._C, keys[:, : self._due]))
            self._inner.remember(keys)
            self._built = self._due
        return self._inner
