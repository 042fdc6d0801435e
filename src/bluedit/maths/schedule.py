"""Which layers are written, for which target, with which share of the residual."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """Write `layer` so that it adds `share` of the residual still missing at the hidden state of `target`."""

    layer: int
    target: int
    share: float


def spread(layers: Sequence[int], power: float = 1.0) -> tuple[Step, ...]:
    """One target at the last layer, its residual shared by all layers: (layers left)^-power of what is still missing.

    Power 1 spreads it evenly (MEMIT, arXiv 2210.07229, eq. 20), power 1/2 is PMET's.
    """
    last, count = layers[-1], len(layers)
    return tuple(Step(layer, last, (count - i) ** -power) for i, layer in enumerate(layers))


def boundary(layers: Sequence[int], first: float = 1.0) -> tuple[Step, ...]:
    """The first and the last layer, each with its own target (BLUE, arXiv 2502.03748).

    All of the last layer's residual is written, and the share `first` of the first one's.
    """
    if layers[0] == layers[-1]:
        return single(layers)
    return Step(layers[0], layers[0], first), Step(layers[-1], layers[-1], 1.0)


def own(layers: Sequence[int]) -> tuple[Step, ...]:
    """All layers, each with its own target and all of its residual."""
    return tuple(Step(layer, layer, 1.0) for layer in layers)


def single(layers: Sequence[int]) -> tuple[Step, ...]:
    """The first layer alone."""
    return (Step(layers[0], layers[0], 1.0),)
