"""The solver: every closed form of the field is dW = R A with A = (s I + K^T G K)^-1 K^T G."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch

from bluedit.errors import SingularError
from bluedit.shapes import Float, Tensor

MOST_AMPLIFIED = (
    1e12  # how much a column may amplify rounding, given those before it: 1 / (1 - R^2) of its regression on them
)


@runtime_checkable
class PreservationOperator(Protocol):
    """G = U (U^T S U)^-1 U^T, applied to keys without ever being formed."""

    def apply(self, K: Float[Tensor, "d_key n"]) -> Float[Tensor, "d_key n"]:
        """G K."""
        ...


def solve(K: Float[Tensor, "d_key n"], G: PreservationOperator, slack: float) -> Float[Tensor, "n d_key"]:
    """A of the update dW = R A, in float64.

    Slack 1 is least squares (MEMIT eq. 14, AlphaEdit eq. 14), slack 0 the equality constraint (ROME eq. 2, EMMET eq. 9); a little
    above 0 is the ridge that EMMET's code adds. The system is n x n; its matrix is symmetric positive definite unless slack is 0
    and keys are (nearly) dependent.

    Raises:
        SingularError: the system is singular, or a column amplifies rounding by more than `MOST_AMPLIFIED`; `facts` names the columns
            that are nearly parallel, if any are, and `columns` those to leave out.
    """
    K = K.double()
    GK = G.apply(K)
    system = K.T @ GK
    system = (system + system.T) / 2
    system.diagonal().add_(slack)
    factor, info = torch.linalg.cholesky_ex(system)
    bad = [int(info) - 1] if int(info) else _degenerate(K, GK, system, factor, slack)
    if bad:
        raise SingularError(len(system), _parallel(system), bad)
    return torch.cholesky_solve(GK.T.contiguous(), factor)


def _degenerate(K: Tensor, GK: Tensor, system: Tensor, factor: Tensor, slack: float) -> list[int]:
    """Columns that only rounding keeps regular: not finite, a pivot lost to cancellation, or keys outside the range of G."""
    pivots = factor.diagonal() ** 2 / system.diagonal()
    bad = ~torch.isfinite(factor).all(dim=1) | (pivots < 1 / MOST_AMPLIFIED)
    if slack == 0:
        bad |= system.diagonal() / (K.norm(dim=0) * GK.norm(dim=0)) < 1e-10
    return bad.nonzero().flatten().tolist()


def _parallel(system: Tensor) -> tuple[int, ...]:
    """Columns whose keys are (nearly) parallel to another one's in the inner product of G."""
    size = system.diagonal().clamp(min=torch.finfo(system.dtype).tiny).sqrt()
    cosine = (system / size / size[:, None]).abs().fill_diagonal_(0)
    return tuple((cosine > 1 - 1e-9).any(dim=1).nonzero().flatten().tolist())
