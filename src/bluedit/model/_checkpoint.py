"""Reading a checkpoint with transformers. All weights must be there, and code that comes with the model runs only if the user trusts it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from bluedit.errors import ModelError

log = logging.getLogger(__name__)
_NAMED = 3  # weights named in a message, at most


def read_checkpoint(
    source: Path | str, name: str, dtype: torch.dtype | None, *, trust_remote_code: bool = False
) -> tuple[Any, Any]:
    """Model and tokenizer of a folder or hub id.

    Args:
        source: the folder or hub id.
        name: what the user called it, for messages.
        dtype: of the weights; None keeps the checkpoint's.
        trust_remote_code: whether Python code that comes with the model may run.

    Raises:
        ModelError: not readable, not complete, or it comes with code of its own that is not trusted.
    """
    from transformers import AutoTokenizer

    if trust_remote_code:
        log.warning("Python code that comes with the model %s may run on this machine (trust_remote_code)", name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=trust_remote_code)
        model = read_model(source, name, dtype=dtype or "auto", trust_remote_code=trust_remote_code)
    except ModelError:
        raise
    except Exception as error:  # hub, tokenizer and checkpoint readers raise many kinds of their own
        check_own_code(name, error)
        raise ModelError(f"cannot load the model {name!r}: {' '.join(str(error).split())[:300]}") from error
    return model, tokenizer


def check_own_code(name: str, error: Exception) -> None:
    """Raises ModelError if an error of transformers is about code that comes with the model."""
    if "trust_remote_code" in str(error):
        raise ModelError(
            f"the model {name!r} comes with Python code of its own, which was not run; read that code, and if you trust it, "
            "load the model with --trust-remote-code (from Python: trust_remote_code=True)"
        ) from error


def read_model(source: Path | str, name: str, *, trust_remote_code: bool = False, **options: Any) -> Any:
    """The model alone, with every weight from the checkpoint.

    Raises:
        ModelError: weights are missing, unexpected, or of another shape than the configuration says.
    """
    if isinstance(source, Path) and not list(source.glob("*.safetensors")) and list(source.glob("pytorch_model*.bin*")):
        log.info("%s has pickled weights (pytorch_model.bin); only tensors are read from them, no code is run", name)
    # shapes that differ are let through, since transformers' own error does not name them
    loaded: Any = auto_class(source, trust_remote_code, options.get("gguf_file")).from_pretrained(
        source,
        trust_remote_code=trust_remote_code,
        weights_only=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
        **options,
    )
    model, report = loaded
    shapes = {key: f"{key} {tuple(found)} instead of {tuple(due)}" for key, found, due in report["mismatched_keys"]}
    faults = [
        f"{len(keys)} {fault}: {_some(keys)}"
        for fault, keys in (
            ("missing", sorted(set(report["missing_keys"]) - set(shapes))),
            ("unexpected", sorted(report["unexpected_keys"])),
            ("of another shape", sorted(shapes.values())),
        )
        if keys
    ]
    if faults:
        raise ModelError(
            f"the weights of {name!r} do not fit its configuration ({type(model).__name__}): {'; '.join(faults)}. "
            "Weights that are missing would be random numbers: get the whole checkpoint, or the config.json that belongs to it"
        )
    return model


def auto_class(source: Path | str, trust_remote_code: bool, gguf_file: str | None) -> Any:
    """transformers' loader: that of causal language models, or of vision-language models where it knows the model only as one."""
    import transformers

    if gguf_file:  # holds a language model, and its folder no configuration
        return transformers.AutoModelForCausalLM
    config = type(transformers.AutoConfig.from_pretrained(source, trust_remote_code=trust_remote_code))
    seeing = config in transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    if seeing and config not in transformers.MODEL_FOR_CAUSAL_LM_MAPPING:
        return transformers.AutoModelForImageTextToText
    return transformers.AutoModelForCausalLM


def _some(keys: Iterable[str]) -> str:
    shown = list(keys)
    more = f" and {len(shown) - _NAMED} more" if len(shown) > _NAMED else ""
    return ", ".join(shown[:_NAMED]) + more


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' own bars and notices inside the `with`; the user's settings are restored after it."""
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
