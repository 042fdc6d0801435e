"""Which layers are written, and for which target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bluedit.maths.schedule import Step, boundary, single, spread
from bluedit.methods.part import Part
from bluedit.options import number


class Schedule(Part, slot="schedule"):
    """Turns the critical layers into the steps of the loop."""

    def steps(self, layers: Sequence[int]) -> tuple[Step, ...]:
        """The steps, in the order they are taken.

        Args:
            layers: the critical layers, ascending.
        """
        raise NotImplementedError

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

    def steps(self, layers: Sequence[int]) -> tuple[Step, ...]:
        return boundary(layers)

    @property
    def summary(self) -> str:
        return "first and last layer, own targets"


@dataclass(frozen=True)
class Single(Schedule, kind="single"):
    """The first layer alone."""

    def steps(self, layers: Sequence[int]) -> tuple[Step, ...]:
        return single(layers)

    @property
    def summary(self) -> str:
        return "first layer"
