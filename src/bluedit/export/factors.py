"""A change as a pair of thin factors: of the rank it needs, with equal weight on both sides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from bluedit.export.changes import Change
from bluedit.shapes import Float, Tensor

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# ranks that vLLM takes as --max-lora-rank; 1 is left out, as 8 costs next to nothing
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
_NEGLIGIBLE = 1e-9  # of a change's Frobenius norm: far below what float32 weights can show


@dataclass(frozen=True, eq=False)
class Factors:
    """dW = B A of one weight, d_value x d_key, whichever way its module stores it.

    Attributes:
        layer, name: of the projection.
        B, A: d_value x rank and rank x d_key, float64. Both have the square roots of dW's singular values.
        needed: the rank of dW; larger than that of the factors if they were cut.
        norm, weight_norm: Frobenius norms of dW and of the weight it is added to.
        errors: for each dtype |B A - dW| after the cast: (relative, Frobenius; largest of an element).
    """

    layer: int
    name: str
    transposed: bool
    B: Float[Tensor, "d_value rank"]
    A: Float[Tensor, "rank d_key"]
    needed: int
    norm: float
    weight_norm: float
    errors: Mapping[str, tuple[float, float]]

    @property
    def rank(self) -> int:
        """Of the factors, padding included."""
        return self.A.shape[0]

    def padded(self, rank: int) -> Factors:
        """The same product with rows and columns of zeros up to a rank."""
        more = rank - self.rank
        pad = torch.nn.functional.pad
        return replace(self, B=pad(self.B, (0, more)), A=pad(self.A, (0, 0, 0, more)))

    def cast(self, dtype: str) -> tuple[Tensor, Tensor]:
        """B and A in a dtype, contiguous."""
        return self.B.to(DTYPES[dtype]).contiguous(), self.A.to(DTYPES[dtype]).contiguous()


def factor(change: Change, most: int) -> Factors:
    """The factors of a change, cut to the `most` largest singular values.

    Where dW = R A is known with n columns, n below both sides of dW, only the n x n core of the two QR decompositions is decomposed.
    """
    total = change.total
    known = change.factors
    if known is not None and known[0].shape[1] < min(total.shape):
        Qr, Tr = torch.linalg.qr(known[0])
        Qa, Ta = torch.linalg.qr(known[1].T)
        U, S, V = torch.linalg.svd(Tr @ Ta.T)
        U, V = Qr @ U, V @ Qa.T
    else:
        U, S, V = torch.linalg.svd(total, full_matrices=False)
    tail = S.flip(0).square().cumsum(0).flip(0).sqrt()  # norm of what is lost by keeping fewer
    needed = int((tail > _NEGLIGIBLE * S.norm()).sum())
    kept = min(needed, most)
    root = S[:kept].sqrt()
    made = Factors(
        change.layer,
        change.name,
        change.transposed,
        U[:, :kept] * root,
        root[:, None] * V[:kept],
        needed,
        float(total.norm()),
        float(change.original.double().norm()),
        {},
    )
    return replace(made, errors={dtype: _error(made, dtype, total) for dtype in DTYPES})


def _error(factors: Factors, dtype: str, total: Tensor) -> tuple[float, float]:
    B, A = (part.double() for part in factors.cast(dtype))
    missing = B @ A - total
    return float(missing.norm()) / max(factors.norm, torch.finfo(torch.float64).tiny), float(missing.abs().max())


def factor_all(changes: Iterable[Change], most: int) -> list[Factors]:
    """The factors of all changes, padded to one rank; a change is needed only while it is factored."""
    found = [factor(change, most) for change in changes]
    rank = max(1, *(factors.rank for factors in found))
    return [factors.padded(rank) for factors in found]


def allowed_rank(rank: int) -> int:
    """The smallest rank that serving programs take and that is at least this one."""
    return next((allowed for allowed in RANKS if allowed >= rank), RANKS[-1])


def worst(all_factors: Sequence[Factors], dtype: str) -> tuple[float, float]:
    """(largest relative error, largest error of an element) of dW over all layers."""
    return tuple(max(factors.errors[dtype][i] for factors in all_factors) for i in (0, 1))  # pyright: ignore[reportReturnType]
