"""Faster linear maps and attention while targets are optimised, for the current thread only."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from transformers import PreTrainedConfig
from transformers.pytorch_utils import Conv1D

from bluedit.model.editable import EditableModel
from bluedit.model.hooks import replaced_forwards
from bluedit.shapes import Float, Tensor

# nats by which two ways to run a model may differ, by its dtype: more than rounding can cause, and less than any wrong position does
TOLERANCE = {torch.float64: 2e-3, torch.float32: 2e-3, torch.bfloat16: 0.2, torch.float16: 0.1}


def fast_bfloat16(device: torch.device) -> bool:
    """Whether a device has native matrix products in bfloat16 (AVX-512 BF16, AMX, tensor cores)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    # torch has these under private names only
    known = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(check() for check in known if check)


class ReducedLinears:
    """The linear maps of some blocks with bfloat16 copies of their weights, taken when this is made.

    Those of a block return the dtype they are given; the head's logits stay in bfloat16, or with `exact_logits` are those of the model,
    and only their gradient is computed in bfloat16. A head may be on another device than what it is given: the hook that moves that there
    belongs to the forward that is replaced.
    """

    def __init__(
        self, blocks: Sequence[nn.Module], head: nn.Module | None = None, *, exact_logits: bool = False
    ) -> None:
        modules = [m for block in blocks for m in _linears(block)]
        self._forwards = [(module, _reduced(module)) for module in modules]
        of_head = _exact if exact_logits else _narrow
        self._forwards += [(module, of_head(module)) for module in (_linears(head) if head is not None else ())]

    def active(self) -> AbstractContextManager[None]:
        """These maps run in bfloat16 inside the `with`."""
        return replaced_forwards(self._forwards)


def _linears(block: nn.Module) -> list[nn.Module]:
    return [module for module in block.modules() if type(module) in (nn.Linear, Conv1D)]


def _reduced(module: Any) -> Callable[..., Any]:
    short, bias = _short(module), module.bias

    def forward(hidden: Tensor) -> Tensor:
        out = _ReducedLinear.apply(hidden, short, hidden.dtype)
        return out if bias is None else out + bias  # pyright: ignore[reportOperatorIssue, reportReturnType]

    return forward


def _narrow(module: Any) -> Callable[..., Any]:
    short = _short(module)
    bias = None if module.bias is None else module.bias.detach().to(torch.bfloat16)

    def forward(hidden: Tensor) -> Tensor:
        return _ReducedLinear.apply(hidden.to(short.device), short, torch.bfloat16, bias)  # pyright: ignore[reportReturnType]

    return forward


def _exact(module: Any) -> Callable[..., Any]:
    short, weight = _short(module), module.weight.detach()
    whole = weight.T if isinstance(module, Conv1D) else weight

    def forward(hidden: Tensor) -> Tensor:
        return _ReducedGradient.apply(hidden.to(whole.device), whole, short, module.bias)  # pyright: ignore[reportReturnType]

    return forward


def _short(module: Any) -> Float[Tensor, "d_out d_in"]:
    weight = module.weight.detach()
    return (weight.T if isinstance(module, Conv1D) else weight).to(torch.bfloat16).contiguous()


class _ReducedLinear(torch.autograd.Function):
    """A linear map in bfloat16 whose weights get no gradient. Each way takes one copy in and one copy out."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, short: Tensor, dtype: torch.dtype, bias: Tensor | None = None) -> Tensor:
        ctx.short, ctx.dtype = short, hidden.dtype
        return _product(hidden, short, dtype, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _product(gradient, ctx.short.T, ctx.dtype), None, None, None


class _ReducedGradient(torch.autograd.Function):
    """A linear map as it is, whose input's gradient is computed in bfloat16; weights get none."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, short: Tensor, bias: Tensor | None) -> Tensor:
        ctx.short, ctx.dtype = short, hidden.dtype
        return nn.functional.linear(hidden, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _product(gradient, ctx.short.T, ctx.dtype), None, None, None


def _product(
    states: Float[Tensor, "*batch n"], short: Float[Tensor, "m n"], dtype: torch.dtype, bias: Tensor | None = None
) -> Float[Tensor, "*batch m"]:
    flat = states.reshape(-1, states.shape[-1])
    count = len(flat)
    size = _rounded_up(count) if flat.device.type == "cpu" else count
    rows = flat.new_empty(size, flat.shape[-1], dtype=torch.bfloat16)
    rows[:count], rows[count:] = flat, 0
    out = nn.functional.linear(rows, short, bias)[:count].to(dtype)
    return out.reshape(*states.shape[:-1], len(short))


def _rounded_up(rows: int) -> int:
    """A number of rows that is at most 1/16 larger above 256, and else a multiple of 16.

    oneDNN compiles a kernel of 0.5 MB in some 5 ms for each shape of a bfloat16 product, and torch keeps a thousand of them. Texts have
    all lengths, so without this a process grows by 500 MB.
    """
    step = max(16, 1 << max(0, (rows - 1).bit_length() - 5))
    return -(-rows // step) * step


def reduced_linears(
    lm: EditableModel,
    precision: str,
    blocks: Sequence[nn.Module],
    head: nn.Module | None = None,
    *,
    exact_logits: bool = False,
) -> ReducedLinears | None:
    """The linear maps of these blocks in bfloat16, or None if `precision` does not ask for it.

    Args:
        lm: the model.
        precision: "bf16", "full", or "auto": bfloat16 for a float32 model on a device with native bfloat16 products.
        blocks: whose linear maps.
        head: whose logits, in bfloat16, are wanted as well.
        exact_logits: the head's logits are the model's own, and only their gradient is computed in bfloat16.
    """
    worth_it = lm.dtype == torch.float32 and fast_bfloat16(lm.device)
    reduce = {"bf16": True, "auto": worth_it, "full": False}[precision]
    return (
        ReducedLinears(blocks, head, exact_logits=exact_logits)
        if reduce and lm.dtype in (torch.float32, torch.float64)
        else None
    )


_OVERRIDES = threading.local()  # .names: id of a configuration -> attention implementation in this thread


@contextmanager
def attention_implementation(lm: EditableModel, kind: str, instead_of: str | None = None) -> Iterator[None]:
    """The model's attention layers and masks use the implementation `kind` (transformers' name) inside the `with`.

    With `instead_of`, only those that would use that one.
    """
    _make_overridable()
    before: dict[int, str] = getattr(_OVERRIDES, "names", {})
    # the property that `_make_overridable` replaces; transformers has no public one
    chosen = {id(c): kind for c in _configs(lm) if instead_of in (None, getattr(c, "_attn_implementation", None))}
    try:
        _OVERRIDES.names = before | chosen
        yield
    finally:
        _OVERRIDES.names = before


def _configs(lm: EditableModel) -> list[Any]:
    """The configurations that the model's modules read, each once, with those inside them."""
    found: dict[int, Any] = {}

    def add(config: Any) -> None:
        if id(config) not in found:
            found[id(config)] = config
            for name in getattr(config, "sub_configs", ()):
                if (inner := getattr(config, name, None)) is not None:
                    add(inner)

    for module in lm.model.modules():
        if hasattr(module, "config"):
            add(module.config)
    return list(found.values())


def _make_overridable() -> None:
    """Let a thread see another attention implementation than the one in a configuration.

    transformers reads the name from a property of the configuration, which all threads share. The property is replaced once per
    process by one that asks for an override of the current thread first; without overrides it returns what it always did.
    """
    usual: Any = PreTrainedConfig._attn_implementation
    if isinstance(usual, _OverridableName):
        return

    def read(config: Any) -> Any:
        name = getattr(_OVERRIDES, "names", {}).get(id(config))
        return usual.fget(config) if name is None else name

    PreTrainedConfig._attn_implementation = _OverridableName(read, usual.fset)  # pyright: ignore[reportAttributeAccessIssue]


class _OverridableName(property):
    pass


def short_attention(lm: EditableModel) -> AbstractContextManager[None]:
    """Attention as plain matrix products, for float32 models on a CPU: with few queries per row they are faster than the fused kernel,
    above all backwards. Other dtypes keep theirs: the plain form computes the softmax in float32, and float64 would lose precision."""
    plain = lm.device.type == "cpu" and lm.dtype == torch.float32
    return attention_implementation(lm, "eager", "sdpa") if plain else nullcontext()
