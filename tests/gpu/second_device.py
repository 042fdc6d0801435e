"""A second device made of main memory, and an edit on it: `python second_device.py FOLDER wide|narrow|split RECIPE` prints how far dW is from the CPU's.

As on a GPU, an operation on tensors of two devices is an error, unless one is a single number or an index. With "narrow" the device has no
float64, as MPS. With "split" the model lies on both devices, as `device_map` spreads one over GPUs. It registers a backend with torch, for the whole process, so tests run it in a process of its own.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "second"
ACROSS = ("aten::copy_", "aten::_to_copy")  # may see two devices
ON_THE_HOST = ("aten::_local_scalar_dense", "aten::equal")


class Second(torch.Tensor):
    """A tensor on the second device; `raw` holds its values in main memory."""

    raw: torch.Tensor

    @staticmethod
    def __new__(cls, raw: torch.Tensor) -> Second:
        made = torch.Tensor._make_wrapper_subclass(
            cls, raw.size(), raw.stride(), raw.storage_offset(), dtype=raw.dtype, device=torch.device(NAME, 0)
        )
        made.raw = raw
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(function, args, kwargs or {})

    def tolist(self) -> Any:
        return self.raw.tolist()

    def new_tensor(self, data: Any) -> torch.Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return torch.tensor(data, dtype=self.dtype, device=self.device)

    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(with_tensors(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(with_tensors(index), value)


def with_tensors(index: Any) -> Any:
    """Lists in an index as tensors; torch would make these in C++, past this file."""
    parts = index if isinstance(index, tuple) else (index,)
    return tuple(torch.tensor(list(part)) if isinstance(part, (list, range)) else part for part in parts)


def raw(value: Any) -> Any:
    return value.raw if isinstance(value, Second) else value


def computed(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """The operation in main memory, its results on the device that they belong to."""
    name, tensors = function._schema.name, [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    here = [isinstance(t, Second) for t in tensors]
    alone = all(mine or t.dim() == 0 for mine, t in zip(here, tensors, strict=True))
    if any(here) and not alone and name not in ACROSS and "index" not in name:
        raise RuntimeError(f"{name}: expected all tensors to be on the same device")
    if "index" in name and any(here) and not here[0]:
        raise RuntimeError(f"{name}: indices should be either on cpu or on the same device as the indexed tensor (cpu)")
    inner, options = tree_map(raw, args), tree_map(raw, kwargs)
    on_second = any(here)
    if options.get("device") is not None:
        on_second = torch.device(options["device"]).type == NAME
        options["device"] = torch.device("cpu")
    if name == "aten::copy_":
        on_second = isinstance(args[0], Second)
    out = function(*inner, **options)
    if name in ON_THE_HOST or not on_second:
        return out
    known = {id(raw(t)): t for t in tensors}

    def placed(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        return known[id(value)] if id(value) in known else made(value)

    return tree_map(placed, out)


def made(values: torch.Tensor) -> Second:
    if NARROW and values.dtype == torch.float64:
        raise TypeError("the second device has no float64")
    return Second(values)


def set_up() -> None:
    """Register the device. Backward passes stay in the calling thread, where Python can run."""
    global LIBRARY
    _setup_privateuseone_for_python_backend(NAME)
    torch.autograd.set_multithreading_enabled(False)
    LIBRARY = torch.library.Library("_", "IMPL")
    LIBRARY.fallback(lambda function, *args, **kwargs: computed(function, args, kwargs), "PrivateUse1")
    tensor, generator = torch.tensor, torch.Generator

    def there(*args: Any, device: Any = None, **options: Any) -> torch.Tensor:
        return tensor(*args, **options) if device is None else tensor(*args, **options).to(device)

    class Generator(generator):
        def __new__(cls, device: Any = "cpu") -> Generator:
            return super().__new__(cls)

    torch.tensor, torch.Generator = there, Generator


def refused_unconnected(model: Any) -> None:
    from bluedit.errors import ModelError
    from bluedit.model.editable import EditableModel
    from toys import toy_tokenizer

    try:
        EditableModel.of(model, toy_tokenizer())
    except ModelError as error:
        assert str(error).startswith("the model's weights lie on cpu and second:0, and nothing moves activations"), (
            error
        )
    else:
        raise AssertionError("not refused")


def split(model: Any) -> Any:
    """The model with every other part on the second device, in the form that `device_map` gives it."""
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module

    class Moves(AlignDevicesHook):
        def init_hook(self, module: Any) -> Any:
            return module  # its weights are in place

    names = [
        "model.embed_tokens",
        *(f"model.layers.{i}" for i in range(3)),
        "model.norm",
        "lm_head",
        "model.rotary_emb",
    ]
    places = {name: torch.device("cpu" if number % 2 else NAME) for number, name in enumerate(names)}
    for name, place in places.items():
        model.get_submodule(name).to(place)
    refused_unconnected(model)
    for name, place in places.items():
        for module in model.get_submodule(name).modules():
            add_hook_to_module(module, Moves(place, skip_keys="past_key_values"))
    return add_hook_to_module(model, Moves(torch.device(NAME), io_same_device=True))


def changed(device: str, recipe: str, folder: Path) -> list[torch.Tensor]:
    """dW of an edit, after it was undone and the model verified."""
    from gpu_help import changes, edit, editor_of

    from toys import FACTS, toy_llama

    os.environ["BLUEDIT_CACHE"] = str(folder / device)
    model = toy_llama(dtype=torch.float32, layers=3)
    model = split(model) if device == "split" else model.to(device)
    editor = editor_of(model, folder / device)
    found = changes(edit(editor, recipe, FACTS[:1], layers=LAYERS, **{"objective.steps": 2, "update.epochs": 2}))
    editor.undo()
    editor.verify()
    return found


if __name__ == "__main__":
    place, kind, recipe = Path(sys.argv[1]), *sys.argv[2:4]
    NARROW, LAYERS = kind == "narrow", [0, 1] if kind == "split" else [1]
    set_up()
    if NARROW:
        from bluedit.model import devices

        devices._WITHOUT_FLOAT64 = (NAME,)
    expected, found = (changed(device, recipe, place) for device in ("cpu", "split" if kind == "split" else NAME))
    apart = [float((a - b).norm() / a.norm()) for a, b in zip(expected, found, strict=True)]
    sys.stdout.write(json.dumps(apart) + "\n")
