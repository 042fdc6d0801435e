"""Finds the blocks of a decoder from its structure, without a list of model families."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from bluedit.errors import ModelError
from bluedit.model.hooks import StopForward, first_tensor, hooked
from bluedit.shapes import Int, Tensor

_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")


def refuse_unsupported(model: PreTrainedModel) -> None:
    """Raises ModelError for encoder-decoders and mixtures of experts."""
    config = model.config.get_text_config()
    if getattr(model.config, "is_encoder_decoder", False):
        raise ModelError("this is an encoder-decoder model; bluedit edits decoder-only causal language models")
    if not _has_experts(model):  # some configurations count experts that the checkpoint does not have
        return
    for key, count in _entries(config.to_dict()):
        if key in _EXPERTS and isinstance(count, int) and count > 1:
            raise ModelError(
                f"this model is a mixture of experts ({key}={count}): a fact has no single projection there, "
                "so bluedit does not edit it; use a dense model"
            )


def _has_experts(model: PreTrainedModel) -> bool:
    names = [name.lower() for name, _ in model.named_parameters()]
    return any(word in name for name in names for word in ("expert", "moe", "router"))


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
    """The outermost module of a block whose name says that it is attention, as in every family."""
    inside = (m for m in block.modules() if m is not block)
    return next((m for m in inside if "attention" in type(m).__name__.lower()), None)


def probe_ids(model: PreTrainedModel) -> Int[Tensor, "1 2"]:
    """Two tokens to run a model on."""
    vocabulary = model.config.get_text_config().vocab_size
    return torch.tensor([[3 % vocabulary, 5 % vocabulary]], device=model.device)


@torch.no_grad()
def run_until(block: nn.Module, model: PreTrainedModel, ids: Int[Tensor, "rows 2"]) -> Tensor:
    """The hidden states that come out of a block. What comes after it, the head above all, does not run."""
    states: list[Tensor] = []

    def stop(_module: nn.Module, _args: object, output: Any) -> None:
        states.append(first_tensor(output))
        raise StopForward

    with hooked([(block, "forward", stop)]), suppress(StopForward):
        model(input_ids=ids, use_cache=False)
    return states[0]
