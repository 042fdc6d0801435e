"""How a model computes while targets are optimised: what is faster on this machine, put in place for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from bluedit.model.editable import EditableModel
from bluedit.shapes import Tensor


def fast_bfloat16(device: torch.device) -> bool:
    """Whether matrix products in bfloat16 are native to this device (AVX-512 BF16, AMX, tensor cores)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    known = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(check() for check in known if check)


class ReducedLinears:
    """The linear maps of some blocks, with their weights copied in bfloat16.

    The copies are of the weights as they are when this is made.
    """

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        modules = [m for block in blocks for m in block.modules() if type(m) in (nn.Linear, Conv1D)]
        self._forwards: list[tuple[nn.Module, Callable[..., Any]]] = [(m, _reduced(m)) for m in modules]

    @contextmanager
    def active(self) -> Iterator[None]:
        """These maps run in bfloat16 inside the `with`."""
        before = [(module, module.__dict__.get("forward")) for module, _ in self._forwards]  # other packages' hooks
        try:
            for module, forward in self._forwards:
                module.forward = forward
            yield
        finally:
            for module, forward in before:
                module.__dict__.pop("forward", None)
                if forward is not None:
                    module.forward = forward


@contextmanager
def attention_implementation(lm: EditableModel, kind: str, instead_of: str | None = None) -> Iterator[None]:
    """All attention layers of a model compute by `kind` (transformers' name) inside the `with`; or only those that now do by `instead_of`."""
    configs: dict[int, Any] = {id(m.config): m.config for m in lm.model.modules() if hasattr(m, "config")}
    before = [(config, getattr(config, "_attn_implementation", None)) for config in configs.values()]
    changed = [(config, now) for config, now in before if instead_of in (None, now)]
    try:
        for config, _ in changed:
            config._attn_implementation = kind
        yield
    finally:
        for config, now in changed:
            config._attn_implementation = now


def short_attention(lm: EditableModel) -> AbstractContextManager[None]:
    """Attention as plain matrix products, for float32 models on a CPU: with a few queries a row they are faster than the fused kernels,
    backwards above all. (Wider models would lose precision: the plain form takes the softmax in float32.)"""
    plain = lm.device.type == "cpu" and lm.dtype == torch.float32
    return attention_implementation(lm, "eager", "sdpa") if plain else nullcontext()


def reduced_linears(lm: EditableModel, precision: str, blocks: Sequence[nn.Module]) -> ReducedLinears | None:
    """What `precision` asks for: "bf16" always, "auto" where it is native and the model is float32, "full" never."""
    wanted = precision == "bf16" or (precision == "auto" and lm.dtype == torch.float32 and fast_bfloat16(lm.device))
    return ReducedLinears(blocks) if wanted and lm.dtype in (torch.float32, torch.float64) else None


def _reduced(module: Any) -> Callable[..., Any]:
    weight = module.weight.detach()
    short = (weight.T if isinstance(module, Conv1D) else weight).to(torch.bfloat16).contiguous()
    bias = module.bias

    def forward(hidden: Tensor) -> Tensor:
        out = nn.functional.linear(hidden.to(torch.bfloat16), short).to(hidden.dtype)
        return out if bias is None else out + bias

    return forward
