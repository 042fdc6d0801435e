"""Linear maps in float32 through oneDNN, for the current thread, where those of torch are slower than the processor.

torch leaves float32 products to MKL. On AMD processors with AVX-512 that takes kernels for older ones: measured with torch 2.13 on one core of an
AMD EPYC, 107 GFLOP/s where oneDNN reaches 240 at the same precision (`benchmarks/products.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from bluedit.shapes import Float, Tensor

_PLAIN = (torch.Tensor, torch.nn.Parameter)  # other classes of tensors have products of their own
_LEAST_ROWS = 16
_LEAST_WEIGHTS = 2**16
_BLOCK = 1024  # rows of one product
# up to so many rows, their number is rounded up to a multiple of the second: oneDNN keeps 2 MB for each shape of a product
_STEPS = ((64, 16), (256, 32), (_BLOCK, 128))


def fast_products(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Inside the `with`, large linear maps of this thread that are in float32 on the CPU run through oneDNN where that is faster."""
    return _FastProducts() if device.type == "cpu" and dtype == torch.float32 and worthwhile() else nullcontext()


@cache
def worthwhile() -> bool:
    """Whether this processor is one on which MKL is slow, and torch has what is needed. It depends on the machine alone, not on a timing: the
    same machine always gives the same bits."""
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        return False
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise") or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and "AuthenticAMD" in cpuinfo.read_text("utf-8", errors="replace")


def linear(
    rows: Float[Tensor, "*batch n"], weight: Float[Tensor, "m n"], bias: Float[Tensor, "m"] | None = None
) -> Float[Tensor, "*batch m"]:
    """`torch.nn.functional.linear` through oneDNN, with gradients."""
    return _Linear.apply(rows, weight, bias)  # pyright: ignore[reportReturnType]


class _FastProducts(TorchFunctionMode):
    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if function is torch.nn.functional.linear and not kwargs and _fits(args[0], args[1]):
            return linear(*args)
        if function is torch.addmm and not kwargs and len(args) == 3 and args[0].dim() == 1 and _fits(args[1], args[2]):
            return linear(args[1], args[2].t(), args[0])
        return function(*args, **(kwargs or {}))


def _fits(rows: Tensor, weight: Tensor) -> bool:
    return (
        rows.dtype == weight.dtype == torch.float32
        and rows.device.type == "cpu"
        and type(rows) in _PLAIN
        and type(weight) in _PLAIN
        and weight.numel() >= _LEAST_WEIGHTS
        and rows.numel() >= _LEAST_ROWS * rows.shape[-1]
    )


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows if ctx.needs_input_grad[1] else None, weight)
        return _product(rows, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        rows, weight = ctx.saved_tensors
        flat = gradient.reshape(-1, gradient.shape[-1])
        of_rows = _product(gradient, weight.t(), None) if ctx.needs_input_grad[0] else None
        of_weight = flat.t() @ rows.reshape(-1, rows.shape[-1]) if ctx.needs_input_grad[1] else None
        return of_rows, of_weight, flat.sum(dim=0) if ctx.needs_input_grad[2] else None


def _product(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    flat = rows.reshape(-1, rows.shape[-1])
    parts = [_block(part, weight, bias) for part in flat.split(_BLOCK)]
    out = parts[0] if len(parts) == 1 else torch.cat(parts)
    return out.reshape(*rows.shape[:-1], len(weight))


def _block(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    count = len(rows)
    step = next(step for most, step in _STEPS if count <= most)
    extra = -count % step
    padded = torch.nn.functional.pad(rows, (0, 0, 0, extra)) if extra else rows.contiguous()
    return torch.ops.mkldnn._linear_pointwise(padded, weight, bias, "none", [], "")[:count]
