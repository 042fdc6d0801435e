"""How a target's loss is brought down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bluedit.methods.part import Part
from bluedit.options import number

if TYPE_CHECKING:
    from bluedit.maths.descent import Optimiser
    from bluedit.shapes import Float, Tensor


class Descent(Part, slot="descent"):
    """Makes the optimiser of a batch's vectors."""

    def optimiser(self, start: Float[Tensor, "sites n d_value"], learning_rate: float) -> Optimiser:
        """A fresh optimiser of one vector for each activation in `start`."""
        raise NotImplementedError


@dataclass(frozen=True)
class Adam(Descent, kind="adam"):
    """Adam with an absolute step size, as in the papers."""

    def optimiser(self, start: Float[Tensor, "sites n d_value"], learning_rate: float) -> Optimiser:
        from bluedit.maths.descent import AdamSteps

        return AdamSteps(start, learning_rate)


@dataclass(frozen=True)
class RelativeAdam(Descent, kind="relative-adam"):
    """Adam with `objective.learning_rate` in units of |h| / sqrt(d_value), so that one value fits activations of any scale."""

    def optimiser(self, start: Float[Tensor, "sites n d_value"], learning_rate: float) -> Optimiser:
        from bluedit.maths.descent import AdamSteps

        return AdamSteps(start, learning_rate * start.norm(dim=-1, keepdim=True) / start.shape[-1] ** 0.5)


@dataclass(frozen=True)
class Momentum(Descent, kind="momentum"):
    """Steps along the running mean of normalised gradients, `objective.learning_rate` x |h| long: shorter vectors and fewer steps for the same loss."""

    decay: float = number(0.8, "share of the running mean that a step keeps", high=0.99)

    def optimiser(self, start: Float[Tensor, "sites n d_value"], learning_rate: float) -> Optimiser:
        from bluedit.maths.descent import MomentumSteps

        return MomentumSteps(start, start.norm(dim=-1), learning_rate, self.decay)
