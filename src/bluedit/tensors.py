"""Files of tensors that carry a digest of all they say, so that a damaged one is found when it is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from bluedit.files import replacing
from bluedit.shapes import Tensor

UNREADABLE = (SafetensorError, OSError, KeyError, ValueError, TypeError, AttributeError, RecursionError)
"""What reading a damaged file, or using what it says, may raise."""
_DIGEST = "digest"


def write_tensors(file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Replace or create a file of tensors at once.

    Raises:
        OSError: the disk is full or the place not writable.
    """
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(file) as temporary:
        try:
            save_file(stored, temporary, {**metadata, _DIGEST: _digest(stored, metadata)})
        except SafetensorError as error:
            raise OSError(str(error)) from error


def read_metadata(file: Path) -> tuple[dict[str, str], dict[str, tuple[int, ...]]]:
    """The metadata of a file and the shapes of its tensors, from its header alone. Raises one of UNREADABLE."""
    _check_regular(file)
    with safe_open(file, "pt") as stored:
        shapes = {name: tuple(stored.get_slice(name).get_shape()) for name in stored.keys()}  # noqa: SIM118
        return dict(stored.metadata() or {}), shapes


def read_tensors(file: Path, device: torch.device | str = "cpu") -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors and the metadata of a file. Raises one of UNREADABLE; ValueError if they are not what was written."""
    _check_regular(file)
    with safe_open(file, "pt") as stored:
        metadata = dict(stored.metadata() or {})
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    digest = metadata.pop(_DIGEST, None)
    if digest != _digest(tensors, metadata):
        raise ValueError("it was changed after it was written")
    return {name: tensor.to(device) for name, tensor in tensors.items()}, metadata


def _check_regular(file: Path) -> None:
    if not file.is_file():
        raise OSError(f"{file} is not a regular file" if file.exists() else f"{file} is missing")


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    found = hashlib.blake2b(json.dumps(dict(metadata), sort_keys=True).encode(), digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name]
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
