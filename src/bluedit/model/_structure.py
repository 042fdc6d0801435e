"""Finding the parts of a decoder from its structure and from what two tokens do in it; no model family is known by name.

The projection of a block is, of the linear maps that write to the residual stream when the block runs and are part of no token mixer
(attention, state space, convolution), the one with the widest input. Which modules mix tokens is measured: the first token of their
input is changed, and the second token of their output is compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from bluedit.errors import ModelError
from bluedit.model.hooks import first_tensor, hooked
from bluedit.shapes import Int, Tensor

_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
_MIXED = (
    1e-4  # relative change of a token's output when an earlier token's input changes; rounding alone stays far below
)


def refuse_unsupported(model: PreTrainedModel) -> None:
    """Raises ModelError for encoder-decoders and mixtures of experts."""
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


def find_blocks(model: PreTrainedModel) -> tuple[nn.Module, ...]:
    """The transformer blocks: of the module lists as long as the configuration says, the one with the most parameters.

    Raises:
        ModelError: there is none.
    """
    depth = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == depth]
    if not lists:
        raise ModelError(
            f"cannot find the transformer blocks of {type(model).__name__}: no module list of {depth} blocks; "
            "bluedit needs a decoder whose blocks are a torch.nn.ModuleList"
        )
    largest = max(lists, key=lambda blocks: sum(p.numel() for p in blocks.parameters()))
    return tuple(largest)


def find_attention(block: nn.Module) -> nn.Module | None:
    """The outermost module of a block that calls itself attention, as every family's does."""
    inside = (m for m in block.modules() if m is not block)
    return next((m for m in inside if "attention" in type(m).__name__.lower()), None)


def probe_ids(model: PreTrainedModel) -> Int[Tensor, "1 2"]:
    """Two tokens to run a model on."""
    vocabulary = model.config.get_text_config().vocab_size
    return torch.tensor([[3 % vocabulary, 5 % vocabulary]], device=model.device)


def find_projections(model: PreTrainedModel, blocks: Sequence[nn.Module]) -> list[nn.Module]:
    """The MLP output projection of each block.

    Raises:
        ModelError: a block has none; the message names what it has instead.
    """
    writers = residual_writers(model, blocks)
    mixing = _token_mixing(model, [_containers(block, found) for block, found in zip(blocks, writers, strict=True)])
    return [
        _projection_of(model, layer, block, found, mixing)
        for layer, (block, found) in enumerate(zip(blocks, writers, strict=True))
    ]


def residual_writers(model: PreTrainedModel, blocks: Sequence[nn.Module]) -> list[dict[nn.Module, int]]:
    """For each block, the linear maps that ran and whose output is as wide as the residual stream, in order, with their input widths."""
    width = model.config.get_text_config().hidden_size
    found: list[dict[nn.Module, int]] = [{} for _ in blocks]

    def recorder(layer: int):
        def record(module: nn.Module, args: tuple[Any, ...], output: object) -> None:
            if isinstance(output, Tensor) and output.shape[-1] == width:
                found[layer].pop(module, None)
                found[layer][module] = args[0].shape[-1]

        return record

    hooks = [
        (module, "forward", recorder(layer))
        for layer, block in enumerate(blocks)
        for module in block.modules()
        if _is_linear_like(module)
    ]
    with torch.no_grad(), hooked(hooks):
        model(input_ids=probe_ids(model), use_cache=False)
    return found


def _is_linear_like(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(module, (nn.Linear, Conv1D)) or (isinstance(weight, Tensor) and "Linear" in type(module).__name__)


def _containers(block: nn.Module, inside: Mapping[nn.Module, int]) -> list[nn.Module]:
    """The modules of a block, itself aside, that contain at least one of these, outermost first."""
    return [
        m
        for m in block.modules()
        if m is not block and m not in inside and any(inner in inside for inner in m.modules())
    ]


def _token_mixing(model: PreTrainedModel, containers: Sequence[Sequence[nn.Module]]) -> set[nn.Module]:
    """Those modules whose output at the second token depends on their input at the first, measured in one forward pass."""
    mixing: set[nn.Module] = set()
    inside = False

    def compare(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        nonlocal inside
        if inside:  # a second run of a module around this one
            return
        inside = True
        try:
            if _second_token_moves(module, args, kwargs, output):
                mixing.add(module)
        finally:
            inside = False

    hooks = [(module, "call", compare) for block in containers for module in block]
    with torch.no_grad(), hooked(hooks):
        model(input_ids=probe_ids(model), use_cache=False)
    return mixing


def _second_token_moves(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> bool:
    given: dict[Any, Any] = {**dict(enumerate(args)), **kwargs}
    place = next((key for key, value in given.items() if _is_two_tokens(value)), None)
    before = first_tensor(output)
    if place is None or not _is_two_tokens(before):
        return False
    changed = given[place].clone()
    first = changed.view(2, -1)[0]
    first.copy_(first.roll(1))
    given[place] = changed
    after = first_tensor(
        module.forward(*(given[i] for i in range(len(args))), **{name: given[name] for name in kwargs})
    )
    was, now = (states.view(2, -1)[1].float() for states in (before.contiguous(), after.contiguous()))
    return bool(
        (now - was).norm() > _MIXED * was.norm()
    )  # False for NaN: what is wrong with such a model is said when it is edited


def _is_two_tokens(value: object) -> bool:
    """Whether it can be the hidden states of one row of two tokens (1 x 2 x width or 2 x width)."""
    return isinstance(value, Tensor) and value.is_floating_point() and value.dim() in (2, 3) and value.shape[-2] == 2


def _projection_of(
    model: PreTrainedModel, layer: int, block: nn.Module, writers: Mapping[nn.Module, int], mixing: set[nn.Module]
) -> nn.Module:
    """The widest writer outside all mixers, of several the last to run."""
    containers = _containers(block, writers)
    # a module around a mixer mixes as well; the mixer is the innermost
    mixers = [m for m in containers if m in mixing and not any(o in mixing for o in m.modules() if o is not m)]
    if attention := find_attention(block):
        mixers.append(attention)
    holder = {writer: mixer for mixer in mixers for writer in writers if writer in set(mixer.modules())}
    free = {
        writer: width
        for writer, width in writers.items()
        # directly in a block without mixers it may itself be part of one
        if writer not in holder and (mixers or any(writer in set(c.modules()) for c in containers))
    }
    if free:
        return max(reversed(free), key=lambda writer: free[writer])
    raise ModelError(
        f"block {layer} of {type(model).__name__} has no MLP that writes to the residual stream "
        f"(found: {_widest(model, writers, holder)}); bluedit edits the output projection of an MLP. "
        "Use a model whose blocks have one, or name the projections with anatomy="
    )


def _widest(model: PreTrainedModel, writers: Mapping[nn.Module, int], holder: Mapping[nn.Module, nn.Module]) -> str:
    """The widest linear map, and what it is part of, in words."""
    if not writers:
        return "no linear map"
    names = {module: name for name, module in model.named_modules()}
    widest = max(writers, key=lambda writer: writers[writer])
    shown = f"{names[widest]} ({writers[widest]} -> {model.config.get_text_config().hidden_size})"
    if widest in holder:
        shown += f", part of the token mixer {names[holder[widest]]} ({type(holder[widest]).__name__})"
    return shown
