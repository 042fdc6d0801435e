"""Targets of a batch, and where they may come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch

from bluedit.methods.objective import Objective
from bluedit.model.editable import EditableModel
from bluedit.model.sites import Site
from bluedit.shapes import Float, Int, Tensor
from bluedit.text.rows import Row


@dataclass(frozen=True, eq=False)
class Targets:
    """Optimised targets of n facts at one site.

    Attributes:
        z: target activations, d_value x n, float32 or wider.
        start: activations before, on the bare prompt, d_value x n.
        steps: steps taken per fact.
        loss: last loss per fact, in nats.
        later: vectors for the targets of later layers that were optimised at the same time, later x d_value x n; None without such.
    """

    z: Float[Tensor, "d_value n"]
    start: Float[Tensor, "d_value n"]
    steps: Int[Tensor, "n"]
    loss: Float[Tensor, "n"]
    later: Float[Tensor, "later d_value n"] | None = None

    def some(self, columns: Int[Tensor, "m"]) -> Targets:
        """The targets of some columns."""
        found = (part[..., columns].contiguous() for part in (self.z, self.start, self.steps, self.loss))
        return Targets(*found, later=None if self.later is None else self.later[..., columns].contiguous())


@runtime_checkable
class TargetSource(Protocol):
    """Where the targets of a batch come from: a store on disk, or values of one's own."""

    def get(
        self,
        lm: EditableModel,
        rows: Sequence[Row],
        site: Site,
        objective: Objective,
        optimise: Callable[[], Targets],
        *,
        later: Sequence[Site] = (),
    ) -> Targets:
        """The targets of the facts in `rows` on the model's weights as they are; `optimise` computes them.

        `later` is passed only for objectives that optimise the targets of several layers together.
        """
        ...


@dataclass(frozen=True, eq=False)
class Fixed:
    """A `TargetSource` of targets that are given, not optimised.

    Attributes:
        read: the values at a site on the weights as they are, d_value x n.
        value: z at a site, given these values.
    """

    read: Callable[[Site], Float[Tensor, "d_value n"]]
    value: Callable[[Site, Float[Tensor, "d_value n"]], Float[Tensor, "d_value n"]]

    def get(
        self,
        lm: EditableModel,
        rows: Sequence[Row],
        site: Site,
        objective: Objective,
        optimise: Callable[[], Targets],
        *,
        later: Sequence[Site] = (),
    ) -> Targets:
        del lm, rows, objective, optimise, later
        start = self.read(site)
        return fixed(self.value(site, start), start)


def fixed(z: Float[Tensor, "d_value n"], start: Float[Tensor, "d_value n"]) -> Targets:
    """Targets that were not optimised: no steps, and no loss."""
    n = z.shape[1]
    return Targets(z, start, torch.zeros(n, dtype=torch.long), torch.full((n,), torch.nan))
