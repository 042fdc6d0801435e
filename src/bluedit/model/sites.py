"""Places in a model where a vector is read or added."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from bluedit.model.editable import EditableModel
from bluedit.model.hooks import Hook, first_tensor
from bluedit.shapes import Tensor


@dataclass(frozen=True, order=True)
class Site:
    """A place where a vector is read or added.

    `kind` is "key" (input of the projection), "mlp" (its output), "attention" (the attention's output) or "block" (the block's).
    """

    kind: str
    layer: int


def site_hook(lm: EditableModel, site: Site, receive: Callable[[Tensor], Any]) -> Hook:
    """A hook that calls `receive(tensor)` with the activations (rows x tokens x width, or as `by_row` says) at a site."""
    if site.kind == "key":
        return lm.projection(site.layer).module, "pre", lambda _m, args: receive(args[0])
    return output_module(lm, site), "forward", lambda _m, _a, output: receive(first_tensor(output))


def output_module(lm: EditableModel, site: Site) -> nn.Module:
    """The module whose output is at a site."""
    if site.kind == "attention":
        return lm.attention(site.layer)
    return lm.projection(site.layer).module if site.kind == "mlp" else lm.anatomy.blocks[site.layer]
