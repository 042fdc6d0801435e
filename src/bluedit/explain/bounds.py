"""Bounds of the error that distributing a residual makes in a weight; docs/theory.md derives each.

R* (d_value x n) are residuals computed at a layer, R_L those of the last layer, of which the layer gets `share`, and A (n x d_key) is the
solver's matrix, so that dW* - dW = (R* - share R_L) A. |R| is Frobenius, |A| the largest singular value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from bluedit.maths.preserve import NeuronPreservation
from bluedit.maths.solve import PreservationOperator
from bluedit.shapes import Tensor

_SUBSPACE, _MOST_ITERATIONS = 16, 1000
_SETTLED = 1e-12  # relative change between iterations


@dataclass(frozen=True)
class Bounds:
    """The error |dW* - dW| (Frobenius) and what bounds it, tightest first.

    Attributes:
        error: itself.
        direct: |R* - share R_L| |A|.
        tightened: (|R* - R_L| + (1 - share) |R_L|) |A|.
        published: (|R* - R_L| + after |R_L|) |A|: Theorem 4.1 of arXiv 2502.03748, with `after` layers after this one.
    """

    error: float
    direct: float
    tightened: float
    published: float

    def __add__(self, other: Bounds) -> Bounds:
        """Bounds of a sum of errors by the triangle inequality; the error of the sum is not known from its parts and is set to NaN."""
        pairs = ((getattr(self, name), getattr(other, name)) for name in ("direct", "tightened", "published"))
        return Bounds(math.nan, *(one + two for one, two in pairs))


def bounds(own: Tensor, last: Tensor, A: Tensor, share: float, after: int) -> Bounds:
    """The error of giving a layer `share` of the last layer's residual, and its bounds.

    Args:
        own: R*, d_value x n.
        last: R_L, d_value x n.
        A: n x d_key.
        share: fraction of R_L that the layer gets.
        after: critical layers after this one.
    """
    own, last, A = own.double(), last.double(), A.double()
    size = float(torch.linalg.matrix_norm(A, ord=2))
    gap, length = float((own - last).norm()), float(last.norm())
    wrong = own - share * last
    return Bounds(
        error=float((wrong @ A).norm()),
        direct=float(wrong.norm()) * size,
        tightened=(gap + (1 - share) * length) * size,
        published=(gap + after * length) * size,
    )


def largest_solver(G: PreservationOperator, slack: float, d_key: int, device: torch.device | str = "cpu") -> float:
    """The largest |A| that any keys can have: sqrt(|G| / slack) / 2, with |G| = 1 / lambda_min(S) on the space that may change.

    NaN with an equality constraint, which has no bound, and where G depends on the keys.

    Args:
        G: of a layer; `device` is where its factors are.
        slack: s.
        d_key: width of keys.
    """
    if slack <= 0 or isinstance(G, NeuronPreservation):
        return math.nan
    return math.sqrt(_largest_eigenvalue(G, d_key, device) / slack) / 2


def _largest_eigenvalue(G: PreservationOperator, d_key: int, device: torch.device | str) -> float:
    """|G| by subspace iteration with Rayleigh-Ritz values, without forming G: they rise to it, and at once where d_key is small."""
    random = torch.Generator().manual_seed(0)
    start = torch.randn(d_key, min(d_key, _SUBSPACE), generator=random, dtype=torch.float64)
    space = torch.linalg.qr(start.to(device))[0]
    value = 0.0
    for _ in range(_MOST_ITERATIONS):
        image = G.apply(space)
        inner = space.T @ image
        before, value = value, float(torch.linalg.eigvalsh((inner + inner.T) / 2)[-1])
        if value - before <= _SETTLED * value:
            break
        space = torch.linalg.qr(image)[0]
    return value
