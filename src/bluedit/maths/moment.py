"""The second moment of a layer's keys over ordinary text."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch

from bluedit.errors import StatisticsError
from bluedit.maths.cholesky import Cholesky
from bluedit.maths.filters import leading
from bluedit.shapes import Float, Tensor

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class SecondMoment:
    """C = E[k k^T] of one layer. What is derived from it is computed when asked for and not kept here.

    Attributes:
        matrix: C, symmetric.
        tokens: tokens it was measured on.
        layer: which layer.
    """

    matrix: Float[Tensor, "d_key d_key"]
    tokens: int
    layer: int

    def beside(self, other: SecondMoment, weight: float) -> SecondMoment:
        """C + weight x the other's."""
        return SecondMoment(self.matrix + weight * other.matrix, self.tokens, self.layer)

    def shrunk(self, share: float) -> SecondMoment:
        """(1 - share) C + share tr(C) / d_key I: the eigenvalues move towards their mean."""
        if not share:
            return self
        matrix = (1 - share) * self.matrix
        matrix.diagonal().add_(share * self.matrix.diagonal().mean())
        return SecondMoment(matrix, self.tokens, self.layer)

    def regular(self) -> Float[Tensor, "d_key d_key"]:
        """C, where a neuron that never fired on the text (a ReLU's may not) has the second moment of one that fired once."""
        energy = self.matrix.diagonal()
        silent = energy == 0
        found = int(silent.sum())
        if not found:
            return self.matrix
        log.info("layer %d: %d of %d neurons never fired on the text of the statistics", self.layer, found, len(energy))
        once = energy.sum() / max(1, len(energy) - found) / self.tokens
        return self.matrix + torch.diag(torch.where(silent, once, 0.0))

    def cholesky(self) -> Cholesky:
        """L of C = L L^T.

        Raises:
            StatisticsError: C is singular, as it is with fewer tokens than d_key.
        """
        try:
            return Cholesky.of(self.regular())
        except ValueError:
            raise StatisticsError(
                f"the key statistics of layer {self.layer} are singular: {self.tokens} tokens for d_key {len(self.matrix)}; "
                f"use at least {2 * len(self.matrix)} tokens (--tokens) of varied text"
            ) from None

    def leading(self, energy: float) -> Float[Tensor, "d_key k"]:
        """The fewest eigenvectors of C, largest eigenvalues first, that carry at least this share of its trace; float64."""
        values, vectors = self.spectrum()
        return vectors.flip(1)[:, : leading(values.clamp(min=0).flip(0), energy)].contiguous()

    def spectrum(self) -> tuple[Float[Tensor, "d_key"], Float[Tensor, "d_key d_key"]]:
        """Eigenvalues, ascending, and eigenvectors (columns) of C, float64."""
        values, vectors = torch.linalg.eigh(self.matrix.double())
        return values, vectors
