"""Directions of one layer that writes spare."""

from __future__ import annotations

from dataclasses import dataclass

from bluedit.maths.filters import Shield
from bluedit.model.devices import widened
from bluedit.shapes import Float, Tensor


@dataclass(frozen=True, eq=False)
class Space:
    """What is special about the directions of one layer.

    Attributes:
        common: what the keys of well-known names share, d_key x k; None where whole keys are solved for.
        shields: of the recipe's filters in factor form, in order.
    """

    common: Float[Tensor, "d_key k"] | None = None
    shields: tuple[Shield, ...] = ()

    def specific(self, keys: Float[Tensor, "d_key n"]) -> Float[Tensor, "d_key n"]:
        """The part of keys that the solver is shown."""
        if self.common is None:
            return keys
        keys = keys.double()
        return keys - self.common @ (self.common.T @ keys)

    def spared(
        self, R: Float[Tensor, "d_value n"], A: Float[Tensor, "n d_key"]
    ) -> tuple[Float[Tensor, "d_value n"], Float[Tensor, "n d_key"]]:
        """The factors after the filters, in the dtype that they came in."""
        if not self.shields:
            return R, A
        left, right = widened(R), widened(A)
        for shield in self.shields:
            left, right = shield.spare(left, right)
        return left.to(R), right.to(A)
