"""How a target's loss is brought down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bluedit.methods.part import Part
from bluedit.options import number

if TYPE_CHECKING:
    from bluedit.maths.descent import Optimiser
    from bluedit.shapes import Float, Tensor


class Descent(Part, slot="descent"):
    """Makes the optimiser of a batch's vectors.

    Attributes:
        curved: whether it needs the Fisher information of the sites.
    """

    curved: ClassVar[bool] = False

    def optimiser(
        self,
        start: Float[Tensor, "sites n d_value"],
        learning_rate: float,
        fisher: Float[Tensor, "sites d_value d_value"] | None = None,
    ) -> Optimiser:
        """A fresh optimiser of one vector for each activation in `start`; `fisher` is given to those that ask for it."""
        raise NotImplementedError


@dataclass(frozen=True)
class Adam(Descent, kind="adam"):
    """Adam with an absolute step size, as in the papers."""

    def optimiser(
        self,
        start: Float[Tensor, "sites n d_value"],
        learning_rate: float,
        fisher: Float[Tensor, "sites d_value d_value"] | None = None,  # noqa: ARG002
    ) -> Optimiser:
        from bluedit.maths.descent import AdamSteps

        return AdamSteps(start, learning_rate)


@dataclass(frozen=True)
class RelativeAdam(Descent, kind="relative-adam"):
    """Adam with `objective.learning_rate` in units of |h| / sqrt(d_value), so that one value fits activations of any scale."""

    def optimiser(
        self,
        start: Float[Tensor, "sites n d_value"],
        learning_rate: float,
        fisher: Float[Tensor, "sites d_value d_value"] | None = None,  # noqa: ARG002
    ) -> Optimiser:
        from bluedit.maths.descent import AdamSteps

        return AdamSteps(start, learning_rate * start.norm(dim=-1, keepdim=True) / start.shape[-1] ** 0.5)


@dataclass(frozen=True)
class Momentum(Descent, kind="momentum"):
    """Steps along the running mean of normalised gradients, `objective.learning_rate` x |h| long: shorter vectors and fewer steps for the same loss."""

    decay: float = number(0.8, "share of the running mean that a step keeps", high=0.99)

    def optimiser(
        self,
        start: Float[Tensor, "sites n d_value"],
        learning_rate: float,
        fisher: Float[Tensor, "sites d_value d_value"] | None = None,  # noqa: ARG002
    ) -> Optimiser:
        from bluedit.maths.descent import MomentumSteps

        return MomentumSteps(start, start.norm(dim=-1), learning_rate, self.decay)


@dataclass(frozen=True)
class NaturalGradient(Descent, kind="natural-gradient"):
    """Momentum along natural gradients: short steps where ordinary text is sensitive to the hidden state, so that less of it changes.

    The metric is the Fisher information of the site on the text of the key statistics, as in K-FAC (arXiv 1503.05671).
    """

    curved: ClassVar[bool] = True
    decay: float = number(0.8, "share of the running mean that a step keeps", high=0.99)
    damping: float = number(
        0.5,
        "added to the Fisher information's eigenvalues, in units of their mean; a large one gives momentum",
        positive=True,
    )

    def optimiser(
        self,
        start: Float[Tensor, "sites n d_value"],
        learning_rate: float,
        fisher: Float[Tensor, "sites d_value d_value"] | None = None,
    ) -> Optimiser:
        """As `Descent.optimiser`. Raises ValueError without `fisher`."""
        from bluedit.maths.descent import NaturalSteps

        if fisher is None:
            raise ValueError("descent=natural-gradient needs the Fisher information of its sites")
        return NaturalSteps(start, start.norm(dim=-1), learning_rate, self.decay, fisher, self.damping)
