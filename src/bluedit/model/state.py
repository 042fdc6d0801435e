"""The state of a caller's model: restored after use, and changed by one thread at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import nn
from transformers import PreTrainedModel

from bluedit.errors import EditError

_REGISTRY_LOCK = threading.Lock()
_LOCKS: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()  # pyright: ignore[reportInvalidTypeArguments]


@contextmanager
def frozen(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode, no gradients for weights and no compiled forward inside the `with`; all of it is restored after it.

    Compiled code would pass by the hooks that read and change activations.
    """
    # torch has no public name for what model.compile() leaves in a module
    compiled = [(m, m._compiled_call_impl) for m in model.modules() if m._compiled_call_impl is not None]
    training = [module for module in model.modules() if module.training]
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for module, _ in compiled:
            module._compiled_call_impl = None
        for module in training:
            module.training = False
        for parameter in trainable:
            parameter.requires_grad_(False)
        yield
    finally:
        for module in training:
            module.training = True
        for parameter in trainable:
            parameter.requires_grad_(True)
        for module, call in compiled:
            module._compiled_call_impl = call


@contextmanager
def exclusive(model: nn.Module) -> Iterator[None]:
    """Only one thread at a time changes a model's weights. The same thread may enter again, also through another editor.

    Raises:
        EditError: another thread is inside; it is not waited for.
    """
    with _REGISTRY_LOCK:
        lock = _LOCKS.setdefault(model, threading.RLock())
    if not lock.acquire(blocking=False):
        raise EditError(
            "another thread is editing this model; only one thread at a time can change its weights, so wait until that edit has finished"
        )
    try:
        yield
    finally:
        lock.release()


def refuse_inference_mode(model: nn.Module) -> None:
    """Raises EditError where gradients cannot be computed: inside `torch.inference_mode()`, and for a model that was made or loaded in it."""
    if torch.is_inference_mode_enabled():
        raise EditError(
            "an edit needs gradients, which torch.inference_mode() rules out; edit outside it (torch.no_grad() is fine)"
        )
    made = next((name for name, parameter in model.named_parameters() if parameter.is_inference()), None)
    if made is not None:
        raise EditError(
            f"the parameter {made} was created inside torch.inference_mode(), so it can be neither differentiated nor changed; "
            "load the model outside of it"
        )
