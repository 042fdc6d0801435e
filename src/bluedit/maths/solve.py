"""The solver: every closed form of the field is dW = R A with A = (s I + K^T G K)^-1 K^T G."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch

from bluedit.errors import SingularError
from bluedit.shapes import Float, Tensor


@runtime_checkable
class PreservationOperator(Protocol):
    """G = U (U^T S U)^-1 U^T, applied to keys without ever being formed."""

    def apply(self, K: Float[Tensor, "d_key n"]) -> Float[Tensor, "d_key n"]: ...


def solve(K: Float[Tensor, "d_key n"], G: PreservationOperator, slack: float) -> Float[Tensor, "n d_key"]:
    """A of the update dW = R A, in float64.

    Slack 1 is least squares (MEMIT eq. 14, AlphaEdit eq. 14), slack 0 the equality constraint (ROME eq. 2, EMMET eq. 9); a little
    above 0 is the ridge that EMMET's code adds. The system is n x n; its matrix is symmetric positive definite unless slack is 0
    and keys are (nearly) dependent.

    Raises:
        SingularError: the system is singular; `facts` names the columns that are nearly parallel, if any are.
    """
    K = K.double()
    GK = G.apply(K)
    system = K.T @ GK
    system = (system + system.T) / 2
    system.diagonal().add_(slack)
    factor, info = torch.linalg.cholesky_ex(system)
    if int(info) or not torch.isfinite(factor).all() or (slack == 0 and _degenerate(K, GK, system, factor)):
        raise SingularError(len(system), _parallel(system))
    return torch.cholesky_solve(GK.T.contiguous(), factor)


def _degenerate(K: Tensor, GK: Tensor, system: Tensor, factor: Tensor) -> bool:
    """Whether only rounding keeps the system regular: a pivot lost to cancellation, or keys outside the range of G."""
    pivots = factor.diagonal() ** 2 / system.diagonal()
    seen = system.diagonal() / (K.norm(dim=0) * GK.norm(dim=0))
    return bool((pivots < 1e-12).any() or (seen < 1e-10).any())


def _parallel(system: Tensor) -> tuple[int, ...]:
    """Columns whose keys are (nearly) parallel to another one's in the inner product of G."""
    size = system.diagonal().clamp(min=torch.finfo(system.dtype).tiny).sqrt()
    cosine = (system / size / size[:, None]).abs().fill_diagonal_(0)
    return tuple((cosine > 1 - 1e-9).any(dim=1).nonzero().flatten().tolist())
