"""Where a decoder keeps its memories: blocks, MLP output projections and the head, found from the structure.

Nothing here knows a model family by name. The list of blocks is the module list as long as the configuration says; the
projection of a block is the linear map with the widest input that writes to the residual stream when the block runs (attention's own
aside), found by running it on two tokens. Whether a value added there reaches the block's output unchanged (it does not in Gemma 2/3, which
normalise it first) is measured in the same run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from bluedit.errors import ModelError
from bluedit.model.hooks import StopForward, first_tensor, hooked
from bluedit.shapes import Float, Tensor

_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")


@dataclass(frozen=True, eq=False)
class Projection:
    """One MLP output projection W (d_value x d_key), whatever the orientation its module stores it in.

    Conv1D (GPT-2) stores the transpose; that is decided by the module's type, never by its shape.
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
        head: the output embedding, whose input is the normalised last hidden state; None if the model names none.
        additive: whether a block's output is the residual stream plus the projection's output, so that a value wanted
            at the block's output can be written by the projection.
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


def dissect(model: PreTrainedModel) -> Anatomy:
    """Find blocks, projections and head of a causal language model (any decoder with one MLP per block).

    Raises:
        ModelError: encoder-decoder, mixture of experts, packed quantised weights, or no recognisable blocks.
    """
    _refuse_unsupported(model)
    blocks = _find_blocks(model)
    names = {module: name for name, module in model.named_modules()}
    modules = _trace_projections(model, blocks)
    for layer, module in enumerate(modules):
        _check_projection(module, names.get(module, "?"), layer)
    projections = tuple(Projection(names[module], module) for module in modules)
    head = model.get_output_embeddings()
    attentions = tuple(map(_find_attention, blocks))
    return Anatomy(blocks, projections, attentions, head, _is_additive(model, blocks, projections))


def _refuse_unsupported(model: PreTrainedModel) -> None:
    config = model.config.get_text_config()
    if getattr(model.config, "is_encoder_decoder", False):
        raise ModelError("this is an encoder-decoder model; bluedit edits decoder-only causal language models")
    dense = getattr(config, "is_moe", None) is False  # some families count experts that a checkpoint does not have
    for key, count in () if dense else _entries(config.to_dict()):
        if key in _EXPERTS and isinstance(count, int) and count > 1:
            raise ModelError(
                f"this model is a mixture of experts ({key}={count}): a fact has no single projection there, "
                "so bluedit does not edit it; use a dense model"
            )


def _entries(config: Mapping[Any, Any]) -> Iterator[tuple[Any, Any]]:
    """Keys and values of a configuration and of those inside it."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _entries(value)
        else:
            yield key, value


def _find_blocks(model: PreTrainedModel) -> tuple[nn.Module, ...]:
    depth = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == depth]
    if not lists:
        raise ModelError(
            f"cannot find the transformer blocks of {type(model).__name__}: no module list of {depth} blocks; "
            "bluedit needs a decoder whose blocks are a torch.nn.ModuleList"
        )
    largest = max(lists, key=lambda blocks: sum(p.numel() for p in blocks.parameters()))
    return tuple(largest)


def _find_attention(block: nn.Module) -> nn.Module | None:
    """The outermost module of a block that calls itself attention, as every family's does."""
    inside = (m for m in block.modules() if m is not block)
    return next((m for m in inside if "attention" in type(m).__name__.lower()), None)


def _probe_ids(model: PreTrainedModel) -> Tensor:
    vocabulary = model.config.get_text_config().vocab_size
    return torch.tensor([[3 % vocabulary, 5 % vocabulary]], device=model.device)


def _trace_projections(model: PreTrainedModel, blocks: Sequence[nn.Module]) -> list[nn.Module]:
    """The linear-like module of each block whose output is as wide as the residual stream and whose input is the widest, and of
    several the last to run; one inside the attention only where there is no other."""
    width = model.config.get_text_config().hidden_size
    last: dict[int, nn.Module] = {}
    best: dict[int, tuple[bool, int]] = {}

    def watch(layer: int):
        attention = _find_attention(blocks[layer])
        inside = set(attention.modules()) if attention else set()

        def hook(module: nn.Module, args: tuple[Any, ...], output: object) -> None:
            if isinstance(output, Tensor) and output.shape[-1] == width:
                rank = (module not in inside, args[0].shape[-1])
                if rank >= best.get(layer, rank):
                    last[layer], best[layer] = module, rank

        return hook

    hooks = [
        (module, "forward", watch(layer))
        for layer, block in enumerate(blocks)
        for module in block.modules()
        if _is_linear_like(module)
    ]
    with torch.no_grad(), hooked(hooks):
        model(input_ids=_probe_ids(model), use_cache=False)
    missing = [layer for layer in range(len(blocks)) if layer not in last]
    if missing:
        raise ModelError(
            f"no linear projection of width {width} ran in block {missing[0]} of {type(model).__name__}; bluedit cannot edit it"
        )
    return [last[layer] for layer in range(len(blocks))]


def _is_linear_like(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(module, (nn.Linear, Conv1D)) or (isinstance(weight, Tensor) and "Linear" in type(module).__name__)


def _check_projection(module: nn.Module, name: str, layer: int) -> None:
    weight = module.weight
    # adapters and quantised layers of other packages are subclasses too: only torch's and transformers' own are plain
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

    A model that answers NaN is taken to be: what is wrong with it is said when it is edited.
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
                model(input_ids=_probe_ids(model), use_cache=False)
            scale = seen[0].abs().mean()
            if not torch.isfinite(scale):
                return True
            push["delta"] = scale * torch.linspace(-1, 1, seen[0].shape[-1], device=seen[0].device)
    moved, wanted = seen[1] - seen[0], push["delta"].expand_as(seen[0])
    return bool((moved - wanted).norm() < 0.02 * wanted.norm())
