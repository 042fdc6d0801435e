"""What two tokens say about a model: whether it is causal, and how the output of each block's projection reaches the residual stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from bluedit.errors import ModelError
from bluedit.model._blocks import probe_ids, run_until
from bluedit.model.anatomy import Projection
from bluedit.model.devices import widened
from bluedit.model.hooks import first_tensor, hooked
from bluedit.shapes import Int, Tensor

_LEAK = {torch.float64: 1e-6, torch.float32: 1e-4}  # of the hidden state's length; 2e-2 in 16 bits
_PUSH = 4.0  # lengths of a block's output
_UNLIKE = 0.02  # relative error of a push that arrives as a multiple of itself, from rounding alone


def two_continuations(model: PreTrainedModel) -> Int[Tensor, "2 2"]:
    """Two rows of two tokens that differ in the second."""
    ids = probe_ids(model).repeat(2, 1)
    ids[1, 1] = (ids[1, 1] + 2) % model.config.get_text_config().vocab_size
    return ids


def refuse_not_causal(model: PreTrainedModel, states: Tensor) -> None:
    """Raises ModelError where a later token changes what the model computes at an earlier one, as in BERT.

    Args:
        states: hidden states of `two_continuations`, which may have further axes in front of rows x tokens x width (Gemma 3n).
    """
    one, other = widened(states.reshape(-1, 2, 2, states.shape[-1])[:, :, 0]).unbind(1)
    change, dtype = float((one - other).norm() / one.norm()), next(model.parameters()).dtype
    if change > _LEAK.get(dtype, 2e-2):
        raise ModelError(
            f"{type(model).__name__} is not causal: another second token changes the hidden state at the first by {change:.2g} of its length; "
            "bluedit edits decoders, which read from left to right. Load a decoder, or set is_decoder=True in the configuration of a "
            "model that was trained as one"
        )


@torch.no_grad()
def residual_scales(
    model: PreTrainedModel, blocks: Sequence[nn.Module], projections: Sequence[Projection]
) -> tuple[float, ...] | None:
    """By how much each block multiplies its projection's output before adding it to the residual stream; 1 in most families.

    Each block runs a second time with a vector added at its projection, which is compared with the change of the block's output.

    Returns:
        None where the vector arrives as something else than a multiple of itself: normalised, as in Gemma 2. A model that computes NaN
        has scales of 1; the error comes when it is edited.
    """
    scales: dict[nn.Module, float | None] = {}
    push: dict[nn.Module, Tensor] = {}
    of_block = {block: projection.module for block, projection in zip(blocks, projections, strict=True)}

    def add(module: nn.Module, _args: object, output: Tensor) -> Tensor:
        return output + push[module].to(output) if module in push else output

    def compare(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        before = widened(first_tensor(output))
        size = _PUSH * before.abs().mean()
        if not torch.isfinite(size):
            scales[block] = 1.0
            return
        delta = size * torch.linspace(-1, 1, before.shape[-1], dtype=before.dtype, device=before.device)
        push[of_block[block]] = delta
        moved = widened(first_tensor(block.forward(*args, **kwargs))) - before
        push.clear()
        scale = float((moved @ delta).mean() / (delta @ delta))
        apart = float((moved - scale * delta).norm() / (scale * delta.expand_as(moved)).norm())
        scales[block] = scale if apart < _UNLIKE else None

    hooks = [(module, "forward", add) for module in dict.fromkeys(of_block.values())]
    with hooked([*hooks, *((block, "call", compare) for block in of_block)]):
        run_until(blocks[-1], model, probe_ids(model))
    found = [scales.get(block) for block in blocks]
    if any(scale is None for scale in found):
        return None
    return tuple(1.0 if abs(scale - 1) < _UNLIKE else scale for scale in found if scale is not None)
