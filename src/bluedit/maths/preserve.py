"""What an update must leave alone: G = U (U^T S U)^-1 U^T as an operator that grows with the memory of edited keys.

S = S0 + M, where S0 is lambda C or L2 I. S0 is factored once; M = K_m K_m^T enters by the Woodbury identity
    G = G0 - G0 K_m (I + K_m^T G0 K_m)^-1 K_m^T G0
with a Cholesky factor that is extended batch by batch. Once it holds as many keys as the space has dimensions, it is folded into a new
base. No d_key x d_key product is formed for a batch, and no projector.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from bluedit.errors import StatisticsError
from bluedit.maths.cholesky import Cholesky
from bluedit.maths.moment import SecondMoment
from bluedit.maths.solve import PreservationOperator
from bluedit.shapes import Float, Int, Tensor


class GrowingOperator(PreservationOperator, Protocol):
    """G of one layer, which can take more keys into M.

    Attributes:
        rank: dimensions of key space that an update may use.
    """

    @property
    def rank(self) -> int: ...

    def remember(self, K: Float[Tensor, "d_key n"]) -> None:
        """Add K K^T to M."""
        ...

    def fresh(self) -> GrowingOperator:
        """The same operator with nothing in M."""
        ...


class Base:
    """G0 = U (U^T S0 U)^-1 U^T for one kind of S0. Interface."""

    dimensions: int

    def apply(self, K: Float[Tensor, "d_key n"]) -> Float[Tensor, "d_key n"]:
        """G0 K."""
        raise NotImplementedError

    def fold(self, solved: Float[Tensor, "d_key m"]) -> Base:
        """The base whose S0 also contains K K^T, given G0 K."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Factored(Base):
    """S0 = scale x L L^T on the whole space, or on the subspace spanned by the columns of U."""

    cholesky: Cholesky
    scale: float = 1.0
    U: Float[Tensor, "d_key rank"] | None = None

    @property
    def dimensions(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return len(self.cholesky)

    def apply(self, K: Tensor) -> Tensor:
        inner = K if self.U is None else self.U.T @ K
        solved = self.cholesky.solve(inner) / self.scale
        return solved if self.U is None else self.U @ solved

    def fold(self, solved: Tensor) -> Base:
        inner = solved if self.U is None else self.U.T @ solved
        inner = self.scale * self.cholesky.times(inner)
        S = self.scale * self.cholesky.times(torch.eye(len(self.cholesky), dtype=inner.dtype, device=inner.device))
        return Factored(Cholesky.of(S.addmm_(inner, inner.T)), 1.0, self.U)


@dataclass(frozen=True, eq=False)
class Projected(Base):
    """S0 = L2 I on the null space of C. U spans what may change, V what is preserved; the thinner of the two is used."""

    U: Float[Tensor, "d_key rank"]
    V: Float[Tensor, "d_key kept"]
    l2: float

    @property
    def dimensions(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.U.shape[1]

    def project(self, K: Tensor) -> Tensor:
        if self.U.shape[1] <= self.V.shape[1]:
            return self.U @ (self.U.T @ K)
        return K - self.V @ (self.V.T @ K)

    def apply(self, K: Tensor) -> Tensor:
        return self.project(K) / self.l2

    def fold(self, solved: Tensor) -> Base:
        inner = self.l2 * (self.U.T @ solved)
        S = inner @ inner.T
        S.diagonal().add_(self.l2)
        return Factored(Cholesky.of(S), 1.0, self.U)


class Preservation:
    """G of one layer, with the memory of the keys edited there so far."""

    def __init__(self, base: Base) -> None:
        self._first = self._base = base
        self._solved: Tensor | None = None
        self._factor: Tensor | None = None
        self._latest: tuple[Tensor, Tensor] | None = None

    @property
    def rank(self) -> int:
        """Dimensions of key space an update may use."""
        return self._base.dimensions

    @property
    def remembered(self) -> int:
        """Keys held in low-rank form; those folded into the base are not counted."""
        return 0 if self._solved is None else self._solved.shape[1]

    def apply(self, K: Float[Tensor, "d_key n"]) -> Float[Tensor, "d_key n"]:
        """G K, float64."""
        K = K.double()
        GK = self._without_memory(K)
        if self._solved is None or self._factor is None:
            return GK
        return GK - self._solved @ torch.cholesky_solve(self._solved.T @ K, self._factor)

    def remember(self, K: Float[Tensor, "d_key n"]) -> None:
        """Add K K^T to M."""
        K = K.double()
        solved = self._without_memory(K)
        corner = K.T @ solved
        corner.diagonal().add_(1.0)
        if self._solved is None or self._factor is None:
            self._solved, self._factor = solved, torch.linalg.cholesky(corner)
        else:
            self._factor = _extend(self._factor, self._solved.T @ K, corner)
            self._solved = torch.cat([self._solved, solved], dim=1)
        if self._solved.shape[1] >= self._base.dimensions:
            self._base = self._base.fold(self._solved)
            self._solved = self._factor = self._latest = None

    def fresh(self) -> Preservation:
        """The same operator with nothing in M."""
        return Preservation(self._first)

    def _without_memory(self, K: Tensor) -> Tensor:
        """G0 K. The last result is kept, since the keys to remember are mostly those just solved for."""
        if self._latest is None or not torch.equal(self._latest[0], K):
            self._latest = (K.clone(), self._base.apply(K))
        return self._latest[1]


def _extend(factor: Tensor, border: Tensor, corner: Tensor) -> Tensor:
    """Cholesky factor of [[H, border], [border^T, corner]] from the factor of H."""
    row = torch.linalg.solve_triangular(factor, border, upper=False)
    tail = torch.linalg.cholesky(corner - row.T @ row)
    zero = factor.new_zeros(len(factor), len(tail))
    return torch.cat([torch.cat([factor, zero], dim=1), torch.cat([row.T, tail], dim=1)])


class NeuronPreservation:
    """G whose U selects the neurons (entries of key space) that the batch uses most: NSE (arXiv 2410.04045, section 3.2).

    The neurons are chosen for every K it is applied to: those of the largest summed |k|, until they carry `share` of the total.
    """

    def __init__(self, S: Float[Tensor, "d_key d_key"], share: float) -> None:
        self._first = S.double()
        self._S, self._share = self._first.clone(), share
        self.rank = len(S)

    def fresh(self) -> NeuronPreservation:
        """The same operator with nothing in M."""
        return NeuronPreservation(self._first, self._share)

    def apply(self, K: Float[Tensor, "d_key n"]) -> Float[Tensor, "d_key n"]:
        """G K, float64; zero outside the chosen neurons. Sets `rank` to their number."""
        K = K.double()
        chosen = strongest_neurons(K, self._share)
        self.rank = len(chosen)
        inner, info = torch.linalg.cholesky_ex(self._S[chosen][:, chosen])
        if int(info):
            raise StatisticsError(
                "the key statistics are singular on the chosen neurons; use more tokens (--tokens) of varied text"
            )
        return torch.zeros_like(K).index_copy_(0, chosen, torch.cholesky_solve(K[chosen], inner))

    def remember(self, K: Float[Tensor, "d_key n"]) -> None:
        """Add K K^T to M."""
        K = K.double()
        self._S.addmm_(K, K.T)


def strongest_neurons(K: Float[Tensor, "d_key n"], share: float) -> Int[Tensor, "rank"]:
    """Indices, ascending, of the fewest neurons that carry at least `share` of the sum of |k| over the facts."""
    strength = K.abs().sum(dim=1)
    order = strength.argsort(descending=True)
    carried = strength[order].cumsum(0)
    count = int((carried < share * carried[-1]).sum()) + 1
    return order[:count].sort().values


@dataclass(frozen=True)
class _Unit:
    """What a threshold of the null space means: how many of the ascending eigenvalues are null, and of what it is a share."""

    count: Callable[[Tensor, float], int]
    of: str = ""


def _below(values: Tensor, threshold: float) -> int:
    return int((values < threshold).sum())


def _within_energy(values: Tensor, threshold: float) -> int:
    within = values.clamp(min=0).cumsum(0) <= threshold * values.sum()
    return len(values) if threshold >= 1 else int(within.sum())


def _within_rank(values: Tensor, threshold: float) -> int:
    return min(round(threshold * len(values)), len(values))


_UNITS = {
    "absolute": _Unit(_below),
    "energy": _Unit(_within_energy, " of the trace"),
    "rank": _Unit(_within_rank, " of d_key"),
}


def null_space(moment: SecondMoment, threshold: float, unit: str) -> tuple[Tensor, Tensor]:
    """(U, V): eigenvectors of C that may change and that must be preserved.

    Args:
        moment: C of the layer.
        threshold: what counts as null, smallest eigenvalues first.
        unit: "absolute": eigenvalues below the threshold (AlphaEdit, arXiv 2410.02355, takes 2e-2). "energy": as many as sum to at
            most this fraction of the trace. "rank": this fraction of d_key.

    Raises:
        StatisticsError: the null space is empty or everything.
    """
    values, vectors = moment.spectrum()
    count = _UNITS[unit].count(values, threshold)
    if not 0 < count < len(values):
        what = "everything" if count else "empty"
        raise StatisticsError(
            f"the null space of layer {moment.layer} is {what}: {count} of {len(values)} eigenvalues of C "
            f"({float(values[0]):.3g} to {float(values[-1]):.3g}) are below the threshold {threshold:g}"
            f"{_UNITS[unit].of}; set preserve.threshold, or preserve.unit=energy with a fraction such as 0.02"
        )
    return vectors[:, :count].contiguous(), vectors[:, count:].contiguous()
