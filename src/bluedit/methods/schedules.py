"""Which layers are written, and for which target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from bluedit.maths.schedule import Step, boundary, own, single, spread
from bluedit.methods.part import Part
from bluedit.options import flag, number


class Schedule(Part, slot="schedule"):
    """Turns the critical layers into the steps of the loop.

    Attributes:
        observes: whether only the first step's target is optimised, and the others are what is seen at their layers with it in place.
    """

    observes: ClassVar[bool] = False

    def steps(self, layers: Sequence[int]) -> tuple[Step, ...]:
        """The steps, in the order they are taken.

        Args:
            layers: the critical layers, ascending.
        """
        raise NotImplementedError

    def portion(self, layers: int) -> float:  # noqa: ARG002
        """How much of the objective's step size and clamp a target has when those of so many layers are optimised together."""
        return 1.0

    @property
    def summary(self) -> str:
        """Which layers, in a few words."""
        return self.about()


@dataclass(frozen=True)
class Spread(Schedule, kind="spread"):
    """All layers, one target at the last: each takes a share of the residual (MEMIT, arXiv 2210.07229, eq. 20)."""

    power: float = number(1.0, "the share of a layer is (layers left)^-power: 1 is MEMIT's, 0.5 PMET's", positive=True)

    def steps(self, layers: Sequence[int]) -> tuple[Step, ...]:
        return spread(layers, self.power)

    @property
    def summary(self) -> str:
        return "all layers, one target" + ("" if self.power == 1 else f", shares to the power {self.power:g}")


@dataclass(frozen=True)
class Boundary(Schedule, kind="boundary"):
    """The first and the last layer, each with its own target and all of its residual (BLUE, arXiv 2502.03748)."""

    first: float = number(1.0, "share of the first layer's residual that is written", positive=True)

    def steps(self, layers: Sequence[int]) -> tuple[Step, ...]:
        return boundary(layers, self.first)

    @property
    def summary(self) -> str:
        return "first and last layer, own targets" + ("" if self.first == 1 else f", {self.first:g} of the first")


@dataclass(frozen=True)
class Own(Schedule, kind="own"):
    """All layers, each with its own target and all of its residual.

    With `objective.together`, step size and clamp of a target are 2/(number of layers) of the objective's, so that all layers together move as far
    as BLUE's two. What the layers write adds up at the subject, while what it does at unrelated keys differs from layer to layer: the same answer
    costs less elsewhere.
    """

    def steps(self, layers: Sequence[int]) -> tuple[Step, ...]:
        return own(layers)

    def portion(self, layers: int) -> float:
        """As `Schedule.portion`."""
        return min(1.0, 2 / layers)

    @property
    def summary(self) -> str:
        return "all layers, own targets"


@dataclass(frozen=True)
class Replay(Schedule, kind="replay"):
    """One target, at the first layer; the targets of the others are what is seen there with it in place (arXiv 2605.00358)."""

    observes: ClassVar[bool] = True
    every: bool = flag(False, "write all critical layers, not only the first and the last")

    def steps(self, layers: Sequence[int]) -> tuple[Step, ...]:
        return own(layers) if self.every else boundary(layers)

    @property
    def summary(self) -> str:
        return f"{'all layers' if self.every else 'first and last layer'}, one target, the others observed"


@dataclass(frozen=True)
class Single(Schedule, kind="single"):
    """The first layer alone."""

    def steps(self, layers: Sequence[int]) -> tuple[Step, ...]:
        return single(layers)

    @property
    def summary(self) -> str:
        return "first layer"
