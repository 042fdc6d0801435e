"""Which part of a fact's key an update is solved for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bluedit.methods.part import Part
from bluedit.options import number

if TYPE_CHECKING:
    from bluedit.maths.moment import SecondMoment
    from bluedit.shapes import Float, Tensor


class Keys(Part, slot="keys"):
    """Says what keys have in common, which the solver is not shown.

    Attributes:
        common: whether there is such a part, so that the second moment of well-known names' keys is needed.
        stored: whether the directions are kept on the disk, under the class and its options. For a class whose code may still change: no.
    """

    common: ClassVar[bool] = False
    stored: ClassVar[bool] = False

    def directions(self, names: SecondMoment) -> Float[Tensor, "d_key k"]:
        """Orthonormal directions, float64, that are left out of the keys of a layer. Asked for only if `common` is set.

        Args:
            names: the second moment of the keys of well-known names.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class WholeKeys(Keys, kind="whole"):
    """The whole key, as most papers do."""


@dataclass(frozen=True)
class SpecificKeys(Keys, kind="specific"):
    """The key without what it shares with the keys of well-known names (SUIT, arXiv 2509.24502)."""

    common: ClassVar[bool] = True
    stored: ClassVar[bool] = True
    energy: float = number(
        0.5, "share of the energy of well-known names' keys that the left-out directions carry", high=1.0, positive=True
    )

    def directions(self, names: SecondMoment) -> Float[Tensor, "d_key k"]:
        return names.leading(self.energy)
