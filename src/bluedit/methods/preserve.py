"""What an update leaves alone: U and S of the equation dW = R A, G = U (U^T S U)^-1 U^T."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from bluedit.methods.part import Part
from bluedit.options import choice, number, whole

if TYPE_CHECKING:
    from bluedit.maths.control import ScaledPreservation
    from bluedit.maths.moment import SecondMoment
    from bluedit.maths.preserve import GrowingOperator
    from bluedit.shapes import Float, Tensor


# texts besides the ordinary one; no paths, so that a folder of the user's may have these names
NAMES, CHAT = "bundled:names", "model:chat"


@dataclass(frozen=True)
class Control:
    """How firmly a batch held ordinary keys at a layer, and what became of them.

    Attributes:
        weight: multiple of lambda that the batch was solved with.
        drift: mean of |(W - W0) k|^2 over ordinary keys when the batch was complete.
    """

    weight: float
    drift: float


class Preserve(Part, slot="preserve"):
    """Builds G of a layer from the second moment C of its keys."""

    def operator(self, C: SecondMoment) -> GrowingOperator:
        """G without any memory of earlier edits.

        Raises:
            StatisticsError: C cannot be used in this way, e.g. it is singular.
        """
        raise NotImplementedError

    def adapted(self, operator: GrowingOperator, earlier: Sequence[Control]) -> tuple[GrowingOperator, float]:
        """(the operator for the next batch, its multiple of lambda): `operator`, or another without memory.

        Args:
            operator: what this part made, or returned last.
            earlier: what earlier batches of this layer recorded, oldest first.
        """
        del earlier
        return operator, 1.0

    def drift(self, operator: GrowingOperator, dW: Float[Tensor, "d_value d_key"]) -> float | None:
        """What to record of a batch: the mean of |dW k|^2 over ordinary keys; None records nothing.

        Args:
            operator: of the layer.
            dW: the whole change of the layer's weight since W0, float64.
        """
        del operator, dW

    @property
    def beside(self) -> dict[str, float]:
        """Weights in C of the second moments of further texts' keys, by the text's name (NAMES, CHAT); ordinary text has 1."""
        return {}

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
    chat: float = number(
        0.0,
        "weight in C of the keys of chat turns that the model writes, if it has a chat template, against those of ordinary text",
    )
    shrink: float = number(
        0.0, "share by which C's eigenvalues are moved towards their mean: (1 - t) C + t tr(C) / d_key I", high=1.0
    )

    def operator(self, C: SecondMoment) -> GrowingOperator:
        from bluedit.maths.preserve import Factored, Preservation

        return Preservation(Factored(C.shrunk(self.shrink).cholesky(), self.lambda_))

    @property
    def beside(self) -> dict[str, float]:
        return {NAMES: self.names, CHAT: self.chat}

    @property
    def summary(self) -> str:
        return "lambda C"


@dataclass(frozen=True)
class Controlled(Preserve, kind="controlled"):
    """S = z lambda C, where z of a layer follows the drift that earlier batches measured there (LyapLock, arXiv 2505.15702).

    D is the mean of |(W - W0) k|^2 over ordinary keys after a batch, and D_0 that after the first one. For the next batch
    z <- max(1, z + rate (D / (tolerance D_0) - 1)), starting from 1.
    """

    lambda_: float = number(2000.0, "weight of C against the new keys, before it is controlled", positive=True)
    tolerance: float = number(
        60.0, "drift up to this multiple of that after the first batch does not raise lambda", positive=True
    )
    rate: float = number(1.0, "by how much the multiple of lambda grows when the drift is twice as large as tolerated")

    def operator(self, C: SecondMoment) -> ScaledPreservation:
        from bluedit.maths.control import ScaledPreservation

        return ScaledPreservation(C.cholesky(), self.lambda_)

    def adapted(self, operator: GrowingOperator, earlier: Sequence[Control]) -> tuple[GrowingOperator, float]:
        weight, operator = self.weight_after(earlier), cast("ScaledPreservation", operator)
        same = operator.scale == weight * self.lambda_
        return (operator if same else operator.scaled(weight * self.lambda_)), weight

    def drift(self, operator: GrowingOperator, dW: Float[Tensor, "d_value d_key"]) -> float:
        return cast("ScaledPreservation", operator).drift(dW)

    def weight_after(self, earlier: Sequence[Control]) -> float:
        """z for the batch after those that were recorded."""
        if not earlier:
            return 1.0
        tolerated = self.tolerance * earlier[0].drift
        over = earlier[-1].drift / tolerated - 1 if tolerated else 0.0
        return max(1.0, earlier[-1].weight + self.rate * over)

    @property
    def summary(self) -> str:
        return "lambda C, lambda by drift"


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
    leakage: float = number(
        0.0, "weight of C on the null space, where its eigenvalues are small but not zero (BetaEdit, arXiv 2605.09285)"
    )
    refresh: int = whole(
        0, "edited keys after which the null space is found anew, with all of them in C; 0 means never (BetaEdit)"
    )

    def operator(self, C: SecondMoment) -> GrowingOperator:
        from bluedit.maths.leakage import NullSpaceRule, RefreshedNullSpace
        from bluedit.maths.preserve import Preservation, Projected, null_space

        rule = NullSpaceRule(self.threshold, self.unit, self.l2, self.leakage)
        if self.refresh:
            return RefreshedNullSpace(C, rule, self.refresh)
        if self.leakage:
            return Preservation(rule.base(C))
        return Preservation(Projected(*null_space(C, self.threshold, self.unit), self.l2))

    @property
    def summary(self) -> str:
        parts = ["the null space of C only; L2 I", *["leakage x C"] * bool(self.leakage)]
        return " + ".join(parts) + (f", found anew every {self.refresh} keys" if self.refresh else "")


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
