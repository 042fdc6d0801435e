"""The editable parts of a decoder: blocks, MLP output projections and the head.

They are found from the structure (see `_structure`), or named by the caller. Whether a value added at a projection reaches its block's
output unchanged is measured: Gemma 2/3 normalise it first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from bluedit.errors import ModelError, did_you_mean
from bluedit.model._structure import (
    find_attention,
    find_blocks,
    find_projections,
    probe_ids,
    refuse_unsupported,
    residual_writers,
)
from bluedit.model.hooks import StopForward, first_tensor, hooked
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
        return isinstance(self.module, Conv1D)

    def matrix(self) -> Float[Tensor, "d_value d_key"]:
        """W as a view of the parameter: writing to it changes the model."""
        weight = self.parameter.detach()
        return weight.T if self.transposed else weight

    @property
    def d_key(self) -> int:
        return self.matrix().shape[1]


@dataclass(frozen=True, eq=False)
class Anatomy:
    """The editable parts of a decoder.

    Attributes:
        blocks: transformer blocks in order of execution.
        projections: each block's MLP output projection.
        attentions: each block's attention, the module whose output joins the residual stream; None where none is found.
        head: the output embedding, whose input is the normalised last hidden state; None if the model has none.
        additive: whether a block's output is the residual stream plus the projection's output, so that a target at the block's
            output can be written by the projection.
    """

    blocks: tuple[nn.Module, ...]
    projections: tuple[Projection, ...]
    attentions: tuple[nn.Module | None, ...]
    head: nn.Module | None
    additive: bool

    @property
    def n_layers(self) -> int:
        return len(self.blocks)

    def check_layers(self, layers: Sequence[int]) -> None:
        """Raises ModelError when a layer does not exist in this model."""
        wrong = [layer for layer in layers if not 0 <= layer < self.n_layers]
        if wrong:
            raise ModelError(
                f"layer {', '.join(map(str, wrong))} is out of range: this model has layers 0 to {self.n_layers - 1}; "
                "set 'layers' to existing ones"
            )


def dissect(model: PreTrainedModel, projections: str | Sequence[str] | None = None) -> Anatomy:
    """Find blocks, projections and head of a causal language model (any decoder with one MLP per block).

    Args:
        model: the model; it is run on two tokens.
        projections: names of the projections instead of those found: a pattern with {} for the block's number, such as
            "model.layers.{}.mlp.down_proj", or one name for each block.

    Raises:
        ModelError: encoder-decoder, mixture of experts, quantised weights, no recognisable blocks, a block without an MLP, or a
            name that is not a linear map from a key to the residual stream.
    """
    refuse_unsupported(model)
    names = {module: name for name, module in model.named_modules()}
    if projections is None:
        blocks = find_blocks(model)
        modules = find_projections(model, blocks)
    else:
        blocks, modules = _named_projections(model, projections)
    for layer, module in enumerate(modules):
        _check_projection(module, names.get(module, "?"), layer)
    found = tuple(Projection(names[module], module) for module in modules)
    attentions = tuple(map(find_attention, blocks))
    return Anatomy(blocks, found, attentions, model.get_output_embeddings(), _is_additive(model, blocks, found))


def _named_projections(
    model: PreTrainedModel, given: str | Sequence[str]
) -> tuple[tuple[nn.Module, ...], list[nn.Module]]:
    """The blocks, and the modules that the caller names in them."""
    modules: dict[str, nn.Module] = {name: module for name, module in model.named_modules()}  # noqa: C416
    if isinstance(given, str):
        blocks, names = _by_pattern(modules, given)
    else:
        blocks, names = find_blocks(model), list(given)
        if len(names) != len(blocks):
            raise ModelError(
                f"anatomy names {len(names)} projections, but the model has {len(blocks)} blocks; name one each"
            )
    for layer, (name, block) in enumerate(zip(names, blocks, strict=True)):
        if name not in modules:
            near = [known for known, module in modules.items() if hasattr(module, "weight")]
            raise ModelError(
                f"anatomy names the projection {name!r}, which this model does not have; {did_you_mean(name, near)}"
            )
        if modules[name] not in set(block.modules()):
            raise ModelError(
                f"anatomy names {name!r} for block {layer}, but it is not in that block; name them in order of the blocks"
            )
    found = [modules[name] for name in names]
    for layer, writers in enumerate(residual_writers(model, blocks)):
        if found[layer] not in writers:
            raise ModelError(
                f"anatomy names {names[layer]!r} for block {layer}, which is no linear map that runs and writes to the residual stream "
                f"(width {model.config.get_text_config().hidden_size})"
            )
    return blocks, found


def _by_pattern(modules: dict[str, nn.Module], pattern: str) -> tuple[tuple[nn.Module, ...], list[str]]:
    before, marker, after = pattern.partition("{}")
    if not marker or not before.endswith(".") or not after.startswith(".") or "{}" in after:
        raise ModelError(
            f"the anatomy {pattern!r} needs one {{}} in place of the block's number, as in 'model.layers.{{}}.mlp.down_proj'"
        )
    count = 0
    while f"{before}{count}" in modules:
        count += 1
    if not count:
        raise ModelError(f"this model has no block {before}0, which the anatomy {pattern!r} asks for")
    return tuple(modules[f"{before}{i}"] for i in range(count)), [f"{before}{i}{after}" for i in range(count)]


def _check_projection(module: nn.Module, name: str, layer: int) -> None:
    weight = module.weight
    # adapters and quantised layers of other packages are subclasses too; only torch's and transformers' own classes are plain
    plain = isinstance(module, (nn.Linear, Conv1D)) and type(module).__module__.split(".")[0] in (
        "torch",
        "transformers",
    )
    if not plain or not weight.is_floating_point() or weight.dim() != 2:  # pyright: ignore[reportCallIssue]
        raise ModelError(
            f"block {layer}: {name} is a {type(module).__name__} with {str(weight.dtype).removeprefix('torch.')} weights, which cannot be edited in place; "
            "load the model unquantised (float32, bfloat16 or float16) and without adapters (merge them first)"
        )


def _is_additive(model: PreTrainedModel, blocks: Sequence[nn.Module], projections: Sequence[Projection]) -> bool:
    """Whether a vector added to the first projection's output arrives at its block's output unchanged.

    A model that computes NaN counts as one: what is wrong with it is said when it is edited.
    """
    push: dict[str, Tensor] = {}
    seen: list[Tensor] = []

    def add(_module: nn.Module, _args: object, output: Tensor) -> Tensor:
        return output + push["delta"].to(output) if push else output

    def record(_module: nn.Module, _args: object, output: object) -> None:
        seen.append(first_tensor(output).float())
        raise StopForward

    with torch.no_grad(), hooked([(projections[0].module, "forward", add), (blocks[0], "forward", record)]):
        for _ in range(2):
            with contextlib.suppress(StopForward):
                model(input_ids=probe_ids(model), use_cache=False)
            scale = seen[0].abs().mean()
            if not torch.isfinite(scale):
                return True
            push["delta"] = scale * torch.linspace(-1, 1, seen[0].shape[-1], device=seen[0].device)
    moved, pushed = seen[1] - seen[0], push["delta"].expand_as(seen[0])
    return bool((moved - pushed).norm() < 0.02 * pushed.norm())
