"""The memory that key statistics need, reported before it is allocated."""

from __future__ import annotations

import logging

import torch

from bluedit.errors import StatisticsError
from bluedit.model.memory import gigabytes, known_free_memory

log = logging.getLogger(__name__)

_DOUBLE = 8  # bytes
_WORKSPACE = (
    5  # d_key x d_key matrices, at most, while one layer is solved: C, eigenvectors, their copy and LAPACK's workspace
)


def memory_needed(d_key: int, layers: int) -> int:
    """Bytes that key statistics of so many layers take at their peak.

    One d_key x d_key matrix in float64 for each layer: the sums while text is read, afterwards what an update is solved with (a
    Cholesky factor takes half of it). On top of these comes the workspace of the one layer whose second moment is being factored.
    """
    return (layers + _WORKSPACE) * d_key**2 * _DOUBLE


def check_memory(d_key: int, layers: int, device: torch.device) -> None:
    """Log the need before sums are allocated.

    Raises:
        StatisticsError: the sums alone are larger than the memory that is free on the device.
    """
    need, free = memory_needed(d_key, layers), known_free_memory(device)
    known = "" if free is None else f", {gigabytes(free)} are free"
    log.info(
        "key statistics of %d layer(s) with d_key %d need up to %s on %s%s",
        layers,
        d_key,
        gigabytes(need),
        device,
        known,
    )
    sums = layers * d_key**2 * _DOUBLE
    if free is not None and sums > free:
        raise StatisticsError(
            f"the key statistics of {layers} layers with d_key {d_key} take {gigabytes(sums)} in float64, but {gigabytes(free)} are free "
            f"on {device}; keep them on another device (execution.statistics_device=cpu), write fewer layers, or free memory"
        )
