"""Reading and changing activations of a live model, for the current thread only and never beyond the end of a `with`.

Other threads may run the same model meanwhile. For them no hook does anything, and every replaced forward is the original one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from bluedit.shapes import Float, Tensor

Hook = tuple[nn.Module, str, Callable[..., Any]]
_REPLACING = threading.Lock()
_REGISTER: dict[str, Callable[[nn.Module, Callable[..., Any]], Any]] = {
    "forward": lambda module, hook: module.register_forward_hook(hook),
    "call": lambda module, hook: module.register_forward_hook(hook, with_kwargs=True),
    "pre": lambda module, hook: module.register_forward_pre_hook(hook),
}


class StopForward(Exception):
    """Raised inside a hook to end a forward pass that has computed all that is needed; caught by the code that set the hook."""


@contextmanager
def hooked(hooks: Iterable[Hook]) -> Iterator[None]:
    """Register (module, kind, function) hooks for the duration of the `with`.

    Kinds: "forward" calls function(module, args, output), "call" function(module, args, kwargs, output), "pre" function(module, args).
    """
    handles = []
    try:
        for module, kind, function in hooks:
            handles.append(_REGISTER[kind](module, _of_this_thread(function)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _of_this_thread(function: Callable[..., Any]) -> Callable[..., Any]:
    """A hook that other threads pass through unchanged."""
    owner = threading.get_ident()

    def hook(*args: Any) -> Any:
        return function(*args) if threading.get_ident() == owner else None

    return hook


class _Forward:
    """Stands in for the forward of a module while one or more threads have replaced it, each for itself."""

    def __init__(self, module: nn.Module) -> None:
        self.attribute = module.__dict__.get("forward")  # set on the instance by another package, such as accelerate
        self._original: Callable[..., Any] = module.forward
        self.own: dict[int, list[Callable[..., Any]]] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        own = self.own.get(threading.get_ident())
        return own[-1](*args, **kwargs) if own else self._original(*args, **kwargs)


@contextmanager
def replaced_forwards(pairs: Iterable[tuple[nn.Module, Callable[..., Any]]]) -> Iterator[None]:
    """Each module computes its function instead of its own forward inside the `with`; of nested replacements the innermost counts."""
    thread, replaced = threading.get_ident(), []
    try:
        for module, function in pairs:
            with _REPLACING:
                standing = module.__dict__.get("forward")
                if not isinstance(standing, _Forward):
                    module.forward = standing = _Forward(module)
                standing.own.setdefault(thread, []).append(function)
            replaced.append((module, standing))
        yield
    finally:
        for module, standing in reversed(replaced):
            with _REPLACING:
                standing.own[thread].pop()
                if not standing.own[thread]:
                    del standing.own[thread]
                if not standing.own:
                    _restore(module, standing)


def _restore(module: nn.Module, standing: _Forward) -> None:
    if standing.attribute is None:
        module.__dict__.pop("forward", None)
    else:
        module.forward = standing.attribute


def first_tensor(output: Any) -> Tensor:
    """The hidden state in a block's output: blocks return a tensor or, in some families, a tuple or list that starts with it."""
    return output[0] if isinstance(output, (tuple, list)) else output


def with_first_tensor(output: Any, hidden: Tensor) -> Any:
    """`output` with its hidden state replaced, in the shape it had."""
    hidden = hidden.view_as(first_tensor(output))
    return type(output)([hidden, *output[1:]]) if isinstance(output, (tuple, list)) else hidden


def returning(state: Tensor | None, as_tuple: bool) -> Callable[..., Any]:
    """A block's forward that returns `state`, or else its own input, in the form the family's blocks return it."""

    def forward(hidden_states: Tensor, *_args: Any, **_kwargs: Any) -> Any:
        output = hidden_states if state is None else state
        return (output,) if as_tuple else output

    return forward


def taken(states: Tensor, places: Tensor | tuple[Tensor, ...]) -> Tensor:
    """`states[places]`, where the places may be kept on another device: layers of one model can lie on several."""
    index = (places,) if isinstance(places, Tensor) else places
    return states[tuple(place.to(states.device) for place in index)]


def added_at(hidden: Tensor, places: tuple[Tensor, ...], vectors: Tensor) -> Tensor:
    """Hidden states with vectors added at places, each of which occurs once. Places and vectors may be on another device."""
    here = tuple(place.to(hidden.device) for place in places)
    return hidden.index_put(here, hidden[here] + vectors.to(hidden))


def only_at(head: nn.Module | None, places: tuple[Tensor, ...]) -> list[Hook]:
    """Hooks that give a head these places only, as one row; without a head none."""
    if head is None:
        return []
    return [(head, "pre", lambda _module, args: (taken(args[0], places).unsqueeze(0), *args[1:]))]


def logits_of(logits: Tensor, head: nn.Module | None, places: tuple[Tensor, ...]) -> Tensor:
    """Logits at these places, where the head has seen nothing else (`only_at`), on the places' device."""
    found = taken(logits, places) if head is None else logits.squeeze(0)
    return found.to(places[0].device)


def by_row(hidden: Tensor, rows: int) -> Float[Tensor, "rows tokens width"]:
    """Hidden states split by row. Some families (OPT) pass the tokens of all rows through their MLP as one list."""
    return hidden.reshape(rows, -1, hidden.shape[-1])
