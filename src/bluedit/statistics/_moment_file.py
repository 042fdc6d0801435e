"""Stored second moments: one file per layer, which records what it belongs to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from bluedit.errors import StatisticsError
from bluedit.files import replacing
from bluedit.maths.moment import SecondMoment
from bluedit.shapes import Tensor

_NAME = "second_moment"
UNREADABLE = (SafetensorError, OSError, KeyError, ValueError, TypeError)
Identity = Mapping[str, str | int]


def write_tensors(file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Replace or create a file of tensors at once, without a copy of them in memory.

    Raises:
        OSError: the disk is full or the place not writable.
    """
    with replacing(file) as temporary:
        try:
            save_file({name: tensor.cpu() for name, tensor in tensors.items()}, temporary, dict(metadata))
        except SafetensorError as error:
            raise OSError(str(error)) from error


def write_moment(file: Path, moment: SecondMoment, identity: Identity, storage: torch.dtype) -> None:
    """Store a second moment in the given dtype. Raises OSError as `write_tensors`."""
    metadata = {
        "identity": json.dumps(identity),
        "tokens_seen": str(moment.tokens),
        "layer": str(moment.layer),
    }
    write_tensors(file, {_NAME: moment.matrix.to(storage)}, metadata)


def check_moment(file: Path, identity: Identity) -> None:
    """Make sure that a stored second moment is whole and belongs to this model and corpus; only its header is read.

    Raises:
        StatisticsError: unreadable, or made for something else; the parts that differ are named.
    """
    _header(file, identity)


def read_moment(file: Path, identity: Identity, device: torch.device) -> SecondMoment:
    """A stored second moment, in float64 on `device`. Raises StatisticsError as `check_moment`."""
    tokens, layer = _header(file, identity)
    try:
        with safe_open(file, "pt") as stored:
            matrix = stored.get_tensor(_NAME)
    except UNREADABLE as error:
        raise _unreadable(file, error) from error
    return SecondMoment(matrix.to(device).double(), tokens, layer)


def _header(file: Path, identity: Identity) -> tuple[int, int]:
    """Tokens and layer of a stored second moment."""
    try:
        with safe_open(file, "pt") as stored:
            metadata = stored.metadata()
            if _NAME not in stored.keys():  # noqa: SIM118  # a safetensors file is no mapping
                raise KeyError(_NAME)
        found, tokens, layer = json.loads(metadata["identity"]), int(metadata["tokens_seen"]), int(metadata["layer"])
        differing = [part for part in identity if found.get(part) != identity[part]]
    except UNREADABLE as error:
        raise _unreadable(file, error) from error
    if differing:
        raise StatisticsError(
            f"the key statistics {file} belong to something else: {', '.join(differing)} differ from this model's; delete the file and they are computed again"
        )
    return tokens, layer


def _unreadable(file: Path, error: Exception) -> StatisticsError:
    return StatisticsError(
        f"the key statistics {file} are unreadable ({error}); delete the file and they are computed again"
    )
