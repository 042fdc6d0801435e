"""The second moment of keys over ordinary text, and what derives from it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from bluedit.errors import StatisticsError
from bluedit.shapes import Float, Tensor


@dataclass(frozen=True, eq=False)
class SecondMoment:
    """C of one layer, with what derives from it once: its Cholesky factor and its spectrum."""

    matrix: Float[Tensor, "d_key d_key"]
    tokens: int
    layer: int
    _derived: dict[str, tuple[Tensor, ...]] = field(default_factory=dict, repr=False)

    @property
    def cholesky(self) -> Float[Tensor, "d_key d_key"]:
        """Lower factor L of C = L L^T, float64.

        Raises:
            StatisticsError: C is singular, as it is with fewer tokens than d_key.
        """
        if "cholesky" not in self._derived:
            factor, info = torch.linalg.cholesky_ex(self.matrix)
            if int(info):
                raise StatisticsError(
                    f"the key statistics of layer {self.layer} are singular: {self.tokens} tokens for d_key {len(self.matrix)}; "
                    f"use at least {2 * len(self.matrix)} tokens (--tokens) of varied text"
                )
            self._derived["cholesky"] = (factor,)
        return self._derived["cholesky"][0]

    @property
    def spectrum(self) -> tuple[Float[Tensor, "d_key"], Float[Tensor, "d_key d_key"]]:
        """Eigenvalues, ascending, and eigenvectors (columns) of C, float64."""
        if "spectrum" not in self._derived:
            self._derived["spectrum"] = tuple(torch.linalg.eigh(self.matrix))
        values, vectors = self._derived["spectrum"]
        return values, vectors
