"""Places in a model where a vector is read or added."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from torch import nn

from bluedit.model.editable import EditableModel
from bluedit.model.hooks import Hook, first_tensor
from bluedit.shapes import Tensor


class Place(StrEnum):
    """Where in a block: the projection's input, its output, the attention's output, or the block's output."""

    KEY = "key"
    MLP = "mlp"
    ATTENTION = "attention"
    BLOCK = "block"


_MODULES: dict[str, Callable[[EditableModel, int], nn.Module]] = {
    Place.KEY: lambda lm, layer: lm.projection(layer).module,
    Place.MLP: lambda lm, layer: lm.projection(layer).module,
    Place.ATTENTION: lambda lm, layer: lm.attention(layer),
    Place.BLOCK: lambda lm, layer: lm.anatomy.blocks[layer],
}


@dataclass(frozen=True, order=True)
class Site:
    """A place in one layer where a vector is read or added."""

    kind: str
    layer: int

    @property
    def is_input(self) -> bool:
        """Whether it is what a module receives rather than what it returns."""
        return self.kind == Place.KEY

    @property
    def is_projection_output(self) -> bool:
        """Whether it is what the MLP's output projection returns."""
        return self.kind == Place.MLP

    @property
    def is_block_output(self) -> bool:
        """Whether it is what the block returns."""
        return self.kind == Place.BLOCK

    @property
    def at_projection(self) -> Site:
        """The output of the same layer's projection."""
        return Site(Place.MLP, self.layer)


def site_hook(lm: EditableModel, site: Site, receive: Callable[[Tensor], Any]) -> Hook:
    """A hook that calls `receive(tensor)` with the activations (rows x tokens x width, or as `by_row` says) at a site."""
    if site.is_input:
        return output_module(lm, site), "pre", lambda _m, args: receive(args[0])
    return output_module(lm, site), "forward", lambda _m, _a, output: receive(first_tensor(output))


def output_module(lm: EditableModel, site: Site) -> nn.Module:
    """The module that a site belongs to."""
    return _MODULES[site.kind](lm, site.layer)
