"""Reading and changing activations through hooks that never outlive their `with`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from bluedit.shapes import Float, Tensor

Hook = tuple[nn.Module, str, Callable[..., Any]]


class StopForward(Exception):
    """Raised inside a hook to end a forward pass that has computed all that is needed; caught by whoever set the hook."""


@contextmanager
def hooked(hooks: Iterable[Hook]) -> Iterator[None]:
    """Register (module, kind, function) hooks for the duration of the `with`; kind is 'forward' or 'pre'."""
    handles = []
    try:
        for module, kind, function in hooks:
            if kind == "forward":
                handles.append(module.register_forward_hook(function))
            else:
                handles.append(module.register_forward_pre_hook(function))
        yield
    finally:
        for handle in handles:
            handle.remove()


def first_tensor(output: Any) -> Tensor:
    """The hidden state in a block's output: blocks return a tensor or, in some families, a tuple that starts with it."""
    return output[0] if isinstance(output, tuple) else output


def with_first_tensor(output: Any, hidden: Tensor) -> Any:
    """`output` with its hidden state replaced, in the shape it had."""
    hidden = hidden.view_as(first_tensor(output))
    return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


def by_row(hidden: Tensor, rows: int) -> Float[Tensor, "rows tokens width"]:
    """Hidden states of so many rows; some families (OPT) run the tokens of all rows through their MLP as one list."""
    return hidden.reshape(rows, -1, hidden.shape[-1])
