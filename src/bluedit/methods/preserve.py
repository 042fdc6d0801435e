"""What an update leaves alone: U and S of the equation dW = R A, G = U (U^T S U)^-1 U^T."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bluedit.methods.part import Part
from bluedit.options import choice, number

if TYPE_CHECKING:
    from bluedit.maths.moment import SecondMoment
    from bluedit.maths.preserve import GrowingOperator


class Preserve(Part, slot="preserve"):
    """Builds G of a layer from the second moment C of its keys."""

    def operator(self, C: SecondMoment) -> GrowingOperator:
        """G without any memory of earlier edits.

        Raises:
            StatisticsError: C cannot be used in this way, e.g. it is singular.
        """
        raise NotImplementedError

    @property
    def weight_of_names(self) -> float:
        """Weight of the second moment of well-known names' keys in C."""
        return 0.0

    @property
    def summary(self) -> str:
        """S in a few words, for tables."""
        raise NotImplementedError


@dataclass(frozen=True)
class Covariance(Preserve, kind="covariance"):
    """S = lambda C on the whole key space (MEMIT, ROME, EMMET, PMET)."""

    lambda_: float = number(2000.0, "weight of C against the new keys", positive=True)
    names: float = number(
        0.0,
        "weight in C of the keys of well-known names, in prompts that ask about them, against those of ordinary text",
    )

    def operator(self, C: SecondMoment) -> GrowingOperator:
        from bluedit.maths.preserve import Factored, Preservation

        return Preservation(Factored(C.cholesky(), self.lambda_))

    @property
    def weight_of_names(self) -> float:
        return self.names

    @property
    def summary(self) -> str:
        return "lambda C"


@dataclass(frozen=True)
class NullSpace(Preserve, kind="null-space"):
    """S = L2 I on the null space of C; nothing outside it changes (AlphaEdit, arXiv 2410.02355)."""

    l2: float = number(10.0, "weight of the identity", positive=True)
    threshold: float = number(
        0.02, "the null space has the smallest eigenvalues of C, up to this; see unit", positive=True
    )
    unit: str = choice(
        "absolute",
        "absolute: the threshold is an eigenvalue; energy: a share of C's trace; rank: a share of d_key",
        *("absolute", "energy", "rank"),
    )

    def operator(self, C: SecondMoment) -> GrowingOperator:
        from bluedit.maths.preserve import Preservation, Projected, null_space

        return Preservation(Projected(*null_space(C, self.threshold, self.unit), self.l2))

    @property
    def summary(self) -> str:
        return "the null space of C only; L2 I"


@dataclass(frozen=True)
class StrongNeurons(Preserve, kind="neurons"):
    """S = lambda C; only the neurons that the batch uses most may change (NSE, arXiv 2410.04045)."""

    lambda_: float = number(2000.0, "weight of C against the new keys", positive=True)
    share: float = number(0.8, "share of the batch's summed |k| that the chosen neurons carry", high=1.0, positive=True)

    def operator(self, C: SecondMoment) -> GrowingOperator:
        from bluedit.maths.preserve import NeuronPreservation

        return NeuronPreservation(self.lambda_ * C.regular(), self.share)

    @property
    def summary(self) -> str:
        return "the strongest neurons only; lambda C"
