"""Watching a batch being written."""

from __future__ import annotations

from dataclasses import dataclass

from bluedit.maths.schedule import Step
from bluedit.model.sites import Site
from bluedit.shapes import Bool, Float, Tensor
from bluedit.writing.batch import Batch
from bluedit.writing.target import Targets


@dataclass(frozen=True, eq=False)
class Write:
    """One step of the loop, after it was taken.

    Attributes:
        step: layer, target and share.
        number: which round of the batch it belongs to, from 0.
        missing: what the target still lacked before the step, d_value x n.
        residual: what was to be added at the step's layer: the share of `missing` for the facts that were due, zero for the others.
        keys: keys at the step's layer before the write, d_key x n.
        R, A: the factors that were written; R differs from `residual` where a filter spares directions, or its dropped part comes back.
        due: which facts were written.
        reach: share of each residual that was delivered at its own key.
    """

    step: Step
    number: int
    missing: Float[Tensor, "d_value n"]
    residual: Float[Tensor, "d_value n"]
    keys: Float[Tensor, "d_key n"]
    R: Float[Tensor, "d_value n"]
    A: Float[Tensor, "n d_key"]
    due: Bool[Tensor, "n"]
    reach: Float[Tensor, "n"]


class Trace:
    """Told what the loop does, as it does it. Override what is of interest; tensors may be kept, but not changed.

    Whatever a method raises ends the edit, which is then rolled back.
    """

    def on_target(self, site: Site, targets: Targets) -> None:
        """Targets of the batch at a site were optimised, or found in a store."""

    def on_write(self, write: Write) -> None:
        """A layer was written."""

    def on_batch(self, batch: Batch) -> None:
        """A batch is complete: filters were applied and the keys of the edited model were read."""

    def on_taken_back(self, batch: Batch | None) -> None:
        """The last batch was taken back, because a guard did not let it pass; None for one that failed before it was complete."""
