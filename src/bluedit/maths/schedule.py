"""Which layers are written, for which target, with which share of the residual."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """Write `layer` so that `share` of the residual still missing at `target`'s hidden state is added there."""

    layer: int
    target: int
    share: float


Schedule = Callable[[Sequence[int], float], tuple[Step, ...]]


def spread(layers: Sequence[int], power: float = 1.0) -> tuple[Step, ...]:
    """One target at the last layer, the residual shared evenly by all (MEMIT, arXiv 2210.07229, eq. 20); power 1/2 is PMET's."""
    last, count = layers[-1], len(layers)
    return tuple(Step(layer, last, (count - i) ** -power) for i, layer in enumerate(layers))


def boundary(layers: Sequence[int], power: float = 1.0) -> tuple[Step, ...]:  # noqa: ARG001
    """The first and the last layer, each with a target of its own and all of the residual (BLUE, arXiv 2502.03748)."""
    return tuple(Step(layer, layer, 1.0) for layer in sorted({layers[0], layers[-1]}))


def single(layers: Sequence[int], power: float = 1.0) -> tuple[Step, ...]:  # noqa: ARG001
    """The first layer alone."""
    return (Step(layers[0], layers[0], 1.0),)


SCHEDULES: dict[str, Schedule] = {"spread": spread, "boundary": boundary, "single": single}
