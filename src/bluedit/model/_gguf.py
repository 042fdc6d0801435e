"""Converts GGUF files to Hugging Face folders, once, and keeps these in the cache."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from bluedit.errors import ModelError, out_of_memory
from bluedit.files import cache_dir, remove_stale, write_folder
from bluedit.model._checkpoint import quiet, read_model
from bluedit.model.gguf_header import check_header
from bluedit.progress import Progress

log = logging.getLogger(__name__)


def converted(gguf: Path, progress: Progress | None = None) -> Path:
    """The Hugging Face folder made of a GGUF file: from the cache, or converted now. It appears there only when it is complete.

    Args:
        progress: where to report the conversion.

    Raises:
        ModelError: the file cannot be read or converted, or the folder cannot be written.
    """
    try:
        with gguf.open("rb") as stream:
            content = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=8)).hexdigest()
    except OSError as error:
        raise ModelError(f"cannot read {gguf}: {error.strerror or error}") from error
    folder = cache_dir() / "models" / f"{gguf.stem}-{content}"
    if (folder / "config.json").is_file():
        remove_stale(folder.parent)
        return folder
    if importlib.util.find_spec("gguf") is None or importlib.util.find_spec("accelerate") is None:
        raise ModelError(
            f"reading {gguf.name} needs the packages gguf and accelerate; run: pip install gguf accelerate"
        )
    log.info("converting %s once; kept in %s", gguf.name, folder)
    shutil.rmtree(folder, ignore_errors=True)  # one that lacks its configuration
    try:
        with _headers_parsed_once(), quiet(), _tensors_counted(progress or Progress(), f"converting {gguf.name}"):
            write_folder(folder, functools.partial(_convert, gguf), keep=True)
    except Exception as error:  # readers of damaged files raise whatever the damage leads to
        if isinstance(error, OSError) and error.errno is not None:
            raise ModelError(
                f"cannot convert {gguf.name} into {folder}: {error}; free some disk space or set BLUEDIT_CACHE to another folder"
            ) from error
        if out_of_memory(error):
            raise
        raise ModelError(
            f"{gguf.name} is damaged, or is not a model that transformers can read ({type(error).__name__}: {error}); get the file again"
        ) from error
    return folder


def _convert(gguf: Path, folder: Path) -> None:
    from transformers import AutoTokenizer

    check_header(gguf)
    _check_size(gguf)
    model = read_model(gguf.parent, gguf.name, gguf_file=gguf.name, dtype=torch.float32)
    for config in (model.config, model):
        for attribute in ("quantization_config", "hf_quantizer"):
            if hasattr(config, attribute):
                delattr(config, attribute)
    if hasattr(model, "is_quantized"):
        model.is_quantized = False
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, trust_remote_code=False)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)


def _check_size(file: Path) -> None:
    """Raise ValueError if the header describes a much larger model than the file has: transformers would make it all before it looks for weights."""
    import gguf
    from transformers import AutoConfig, AutoModelForCausalLM

    reader = gguf.GGUFReader(str(file))
    held = {tensor.name.split(".")[1] for tensor in reader.tensors if tensor.name.startswith("blk.")}
    for name, field in reader.fields.items():
        if name.endswith(".block_count") and int(field.contents()) > 2 * len(held):
            raise ValueError(f"{name} is {field.contents()}, and there are weights of {len(held)}")
    config = AutoConfig.from_pretrained(file.parent, gguf_file=file.name)
    with torch.device("meta"):
        described = sum(weight.numel() for weight in AutoModelForCausalLM.from_config(config).parameters())
    stored = sum(int(tensor.n_elements) for tensor in reader.tensors)
    if described > 2 * stored:
        raise ValueError(f"its header describes a model of {described:,} weights, and it holds {stored:,}")


@contextmanager
def _headers_parsed_once() -> Iterator[None]:
    """transformers parses the header of a GGUF file, with the whole vocabulary, three times: configuration, weights, tokenizer."""
    import gguf

    with _replaced(gguf, "GGUFReader", functools.cache(gguf.GGUFReader)):
        yield


@contextmanager
def _tensors_counted(progress: Progress, title: str) -> Iterator[None]:
    """transformers draws a bar of its own while it converts tensors, whatever its settings are and also outside a terminal."""
    from transformers import modeling_gguf_pytorch_utils

    def counted(tensors: Sequence[Any], **_options: Any) -> Iterator[Any]:
        with progress.task(title, len(tensors), "tensors") as advance:
            for tensor in tensors:
                yield tensor
                advance()

    with _replaced(modeling_gguf_pytorch_utils, "tqdm", counted):
        yield


@contextmanager
def _replaced(module: Any, name: str, new: Any) -> Iterator[None]:
    """A name of a library's module stands for something else inside the `with`."""
    old = getattr(module, name)
    setattr(module, name, new)
    try:
        yield
    finally:
        setattr(module, name, old)
