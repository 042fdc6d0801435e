"""The editable parts of a decoder: blocks, MLP output projections and the head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from bluedit.errors import ModelError
from bluedit.shapes import Float, Tensor


@dataclass(frozen=True, eq=False)
class Projection:
    """One MLP output projection W (d_value x d_key), in whichever orientation its module stores it.

    Conv1D (GPT-2) stores the transpose. The module's type decides, never the shape.
    """

    name: str
    module: nn.Module

    @property
    def parameter(self) -> nn.Parameter:
        """The stored parameter, in the module's own orientation."""
        return self.module.weight  # pyright: ignore[reportReturnType]

    @property
    def transposed(self) -> bool:
        """Whether the module stores the transpose of W."""
        return isinstance(self.module, Conv1D)

    def matrix(self) -> Float[Tensor, "d_value d_key"]:
        """W as a view of the parameter: writing to it changes the model."""
        weight = self.parameter.detach()
        return weight.T if self.transposed else weight

    def holding(self, weight: Tensor) -> Projection:
        """A projection of the same kind with this weight (in the module's orientation) and nothing else; the model is not changed."""
        kind: Any = type(self.module)
        module = kind.__new__(kind)
        nn.Module.__init__(module)
        module.register_parameter("weight", nn.Parameter(weight, requires_grad=False))
        return Projection(self.name, module)

    @property
    def d_key(self) -> int:
        """Width of a key: of the projection's input."""
        return self.matrix().shape[1]


@dataclass(frozen=True, eq=False)
class Anatomy:
    """The editable parts of a decoder.

    Attributes:
        blocks: transformer blocks in order of execution.
        projections: each block's MLP output projection.
        attentions: each block's attention, the module whose output joins the residual stream; None where none is found.
        head: the output embedding, whose input is the normalised last hidden state; None if the model has none.
        additive: whether a block's output is the residual stream plus a multiple of the projection's output, so that a target at the
            block's output can be written by the projection.
        scales: those multiples, block by block; empty where all are 1.
    """

    blocks: tuple[nn.Module, ...]
    projections: tuple[Projection, ...]
    attentions: tuple[nn.Module | None, ...]
    head: nn.Module | None
    additive: bool
    scales: tuple[float, ...] = ()

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    def scale(self, layer: int) -> float:
        """What a block multiplies its projection's output by before adding it to the residual stream."""
        return self.scales[layer] if self.scales else 1.0

    def check_layers(self, layers: Sequence[int]) -> None:
        """Raises ModelError when a layer does not exist in this model."""
        wrong = [layer for layer in layers if not 0 <= layer < self.n_layers]
        if wrong:
            named = f"layers {', '.join(map(str, wrong))} are" if len(wrong) > 1 else f"layer {wrong[0]} is"
            raise ModelError(
                f"{named} out of range: this model has layers 0 to {self.n_layers - 1}; set 'layers' to existing ones"
            )
