"""Matrices that follow from stored second moments and take long to compute, kept beside them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import torch

from bluedit.shapes import Tensor
from bluedit.tensors import UNREADABLE, read_tensors, write_tensors

_NAME = "matrix"


def kept_matrix(
    file: Path, identity: Mapping[str, str | int], compute: Callable[[], Tensor], device: torch.device
) -> Tensor:
    """The matrix of a file, if it is sound and belongs to this identity; otherwise it is computed, and stored where that is possible."""
    with suppress(*UNREADABLE):
        tensors, metadata = read_tensors(file, device)
        if json.loads(metadata["identity"]) == identity:
            return tensors[_NAME]
    found = compute()
    with suppress(OSError):  # the next process computes it again
        write_tensors(file, {_NAME: found}, {"identity": json.dumps(identity)})
    return found
