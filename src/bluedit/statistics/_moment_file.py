"""Stored second moments: one file per layer, which records what it belongs to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch

from bluedit.errors import StatisticsError
from bluedit.maths.moment import SecondMoment
from bluedit.tensors import UNREADABLE, read_metadata, read_tensors, write_tensors

_NAME = "second_moment"
Identity = Mapping[str, str | int]


def write_moment(file: Path, moment: SecondMoment, identity: Identity, storage: torch.dtype) -> None:
    """Store a second moment in the given dtype. Raises OSError as `write_tensors`."""
    metadata = {
        "identity": json.dumps(identity),
        "tokens_seen": str(moment.tokens),
        "layer": str(moment.layer),
    }
    write_tensors(file, {_NAME: moment.matrix.to(storage)}, metadata)


def check_moment(file: Path, identity: Identity, layer: int, d_key: int) -> None:
    """Make sure that a stored second moment belongs to this layer, model and corpus; only its header is read.

    Raises:
        StatisticsError: unreadable, or made for something else; the parts that differ are named.
    """
    try:
        metadata, shapes = read_metadata(file)
        found = json.loads(metadata["identity"]) | {"layer": int(metadata["layer"]), "shape": shapes[_NAME]}
        wanted = {**identity, "layer": layer, "shape": (d_key, d_key)}
        differing = [part for part in wanted if found.get(part) != wanted[part]]
    except UNREADABLE as error:
        raise _unreadable(file, error) from error
    if differing:
        raise StatisticsError(
            f"the key statistics {file} belong to something else: {', '.join(differing)} differ from this model's; delete the file and they are computed again"
        )


def read_moment(file: Path, identity: Identity, layer: int, d_key: int, device: torch.device) -> SecondMoment:
    """A stored second moment, in float64 on `device`. Raises StatisticsError as `check_moment`, and if any of it was changed."""
    check_moment(file, identity, layer, d_key)
    try:
        tensors, metadata = read_tensors(file)
        return SecondMoment(tensors[_NAME].to(device).double(), int(metadata["tokens_seen"]), layer)
    except UNREADABLE as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> StatisticsError:
    return StatisticsError(
        f"the key statistics {file} are unreadable ({error}); delete the file and they are computed again"
    )
