"""What batches change in each weight, one layer at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from bluedit.errors import ExportError
from bluedit.model.anatomy import Projection
from bluedit.shapes import Float, Tensor
from bluedit.writing.batch import Batch
from bluedit.writing.weights import EditedWeights, Projections


@dataclass(frozen=True, eq=False)
class Change:
    """The change of one weight.

    Attributes:
        layer, name, transposed: the layer, the name of its projection, and whether its module stores the transpose.
        original, edited: the weight before and after, d_value x d_key, in its own dtype.
        total: what was added, after filters and before rounding, float64.
        factors: (R, A) with total = R A, where the batches have no filters; else None.
    """

    layer: int
    name: str
    transposed: bool
    original: Float[Tensor, "d_value d_key"]
    edited: Float[Tensor, "d_value d_key"]
    total: Float[Tensor, "d_value d_key"]
    factors: tuple[Float[Tensor, "d_value rank"], Float[Tensor, "rank d_key"]] | None

    @property
    def rounded(self) -> float:
        """By how much rounding to the weight's dtype moves the change, as a share of its norm."""
        apart = self.edited.double() - self.original.double() - self.total
        return float(apart.norm() / self.total.norm().clamp(min=torch.finfo(torch.float64).tiny))

    @property
    def stored(self) -> Tensor:
        """The edited weight in the orientation of its module."""
        return (self.edited.T if self.transposed else self.edited).contiguous()


class _One:
    """A copy of one projection."""

    def __init__(self, projection: Projection) -> None:
        self._projection = projection.holding(projection.parameter.detach().clone())

    def projection(self, layer: int) -> Projection:  # noqa: ARG002
        return self._projection


def changes(base: Projections, batches: Sequence[Batch]) -> Iterator[Change]:
    """The change of every layer that the batches write, in order of layers. One layer is in memory at a time.

    Args:
        base: the unedited projections; they are not changed.
        batches: all that the model is to carry, in order.

    Raises:
        ExportError: factors of another shape than the weight.
        EditError: the result is not finite.
    """
    for layer in sorted({layer for batch in batches for layer in batch.layers}):
        one = _One(base.projection(layer))
        projection = one.projection(layer)
        original = projection.matrix().clone()
        _check_shapes(projection, layer, batches)
        weights = EditedWeights(one)
        for batch in batches:
            weights.repeat(batch, {layer})
        yield Change(
            layer,
            projection.name,
            projection.transposed,
            original,
            projection.matrix(),
            weights.change(layer),
            _factors(layer, batches),
        )


def _check_shapes(projection: Projection, layer: int, batches: Sequence[Batch]) -> None:
    due = tuple(projection.matrix().shape)
    for update in (update for batch in batches for update in batch.updates if update.layer == layer):
        found = (update.R.shape[0], update.A.shape[1])
        if found != due:
            raise ExportError(
                f"the patch changes {found[0]} x {found[1]} weights at layer {layer}, but {projection.name} has {due[0]} x {due[1]}; "
                "it was made for another model"
            )


def _factors(layer: int, batches: Sequence[Batch]) -> tuple[Tensor, Tensor] | None:
    touching = [batch for batch in batches if layer in batch.layers]
    if any(batch.filters for batch in touching):
        return None
    updates = [update for batch in touching for update in batch.updates if update.layer == layer]
    return torch.cat([u.R.double() for u in updates], dim=1), torch.cat([u.A.double() for u in updates], dim=0)
