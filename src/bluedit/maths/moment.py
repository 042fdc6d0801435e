"""The second moment of keys over ordinary text, and what derives from it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import torch

from bluedit.errors import StatisticsError
from bluedit.maths.cholesky import Cholesky
from bluedit.shapes import Float, Tensor

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class SecondMoment:
    """C of one layer, with what derives from it once: its Cholesky factor and its spectrum."""

    matrix: Float[Tensor, "d_key d_key"]
    tokens: int
    layer: int
    _derived: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def regular(self) -> Float[Tensor, "d_key d_key"]:
        """C, where neurons that never fired on the text (a ReLU's may not) have the second moment of one that fired once."""
        if "regular" not in self._derived:
            energy = self.matrix.diagonal()
            silent = energy == 0
            if found := int(silent.sum()):
                log.info(
                    "layer %d: %d of %d neurons never fired on the text of the statistics",
                    self.layer,
                    found,
                    len(energy),
                )
                once = energy.sum() / max(1, len(energy) - found) / self.tokens
                self._derived["regular"] = self.matrix + torch.diag(torch.where(silent, once, 0.0))
            else:
                self._derived["regular"] = self.matrix
        return self._derived["regular"]

    @property
    def cholesky(self) -> Cholesky:
        """L of C = L L^T.

        Raises:
            StatisticsError: C is singular, as it is with fewer tokens than d_key.
        """
        if "cholesky" not in self._derived:
            try:
                self._derived["cholesky"] = Cholesky.of(self.regular)
            except ValueError:
                raise StatisticsError(
                    f"the key statistics of layer {self.layer} are singular: {self.tokens} tokens for d_key {len(self.matrix)}; "
                    f"use at least {2 * len(self.matrix)} tokens (--tokens) of varied text"
                ) from None
        return self._derived["cholesky"]

    @property
    def spectrum(self) -> tuple[Float[Tensor, "d_key"], Float[Tensor, "d_key d_key"]]:
        """Eigenvalues, ascending, and eigenvectors (columns) of C, float64."""
        if "spectrum" not in self._derived:
            self._derived["spectrum"] = tuple(torch.linalg.eigh(self.matrix))
        values, vectors = self._derived["spectrum"]
        return values, vectors
