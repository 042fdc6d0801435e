"""G whose lambda can be changed between batches, and the drift that it is changed by."""

from __future__ import annotations

from bluedit.maths.cholesky import Cholesky
from bluedit.maths.preserve import Factored, Preservation
from bluedit.shapes import Float, Tensor


class ScaledPreservation(Preservation):
    """G with S = scale x C + M. C is factored once for every scale.

    Attributes:
        scale: lambda times what a controller made of it.
    """

    def __init__(self, cholesky: Cholesky, scale: float) -> None:
        super().__init__(Factored(cholesky, scale))
        self._cholesky, self.scale = cholesky, scale

    def fresh(self) -> ScaledPreservation:
        """The same operator with nothing in M."""
        return self.scaled(self.scale)

    def scaled(self, scale: float) -> ScaledPreservation:
        """An operator of another scale with nothing in M."""
        return ScaledPreservation(self._cholesky, scale)

    def drift(self, dW: Float[Tensor, "d_value d_key"]) -> float:
        """tr(dW C dW^T), the mean of |dW k|^2 over ordinary keys."""
        moved = dW.T.to(self._cholesky.rows[0].device)
        return float((moved * self._cholesky.times(moved)).sum())
