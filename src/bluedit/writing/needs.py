"""The memory that an edit takes, estimated before it starts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from bluedit.errors import EditError
from bluedit.forward import LEAST_TOKENS, bytes_per_token
from bluedit.model.editable import EditableModel
from bluedit.model.memory import gigabytes, known_free_memory

log = logging.getLogger(__name__)
_DOUBLE = 8  # bytes
_WORKSPACE = 3  # matrices in float64 while one weight is written: the change, the sum, the new weight


@dataclass(frozen=True)
class Needs:
    """Bytes on top of the model.

    Attributes:
        operators: a factor of C for each layer that has none yet, in float64; a Cholesky factor takes half of a matrix.
        weights: for each weight that is changed for the first time the original, the sum of its updates in float64, a snapshot, and the
            workspace of writing one.
        activations: of the smallest step of the optimisation.
    """

    operators: int
    weights: int
    activations: int

    @classmethod
    def of(cls, lm: EditableModel, built: int, changed: Sequence[int]) -> Needs:
        """Needs of an edit.

        Args:
            lm: the model.
            built: how many operators have to be built.
            changed: layers whose weights are changed for the first time.
        """
        return cls(built * lm.d_key**2 * _DOUBLE // 2, weights_needed(lm, changed), LEAST_TOKENS * bytes_per_token(lm))

    def check(self, lm: EditableModel, solve_device: torch.device) -> None:
        """Log the needs.

        Raises:
            EditError: they are larger than the memory that is free.
        """
        if len(lm.devices) > 1:  # each holds a part of all this
            log.info("the edit needs at least %s in all", gigabytes(self.weights + self.activations + self.operators))
            return
        apart = solve_device != lm.device
        places = [(lm.device, self.weights + self.activations + (0 if apart else self.operators))]
        places += [(solve_device, self.operators)] if apart else []
        parts = (
            f"operators {gigabytes(self.operators)}, changed weights {gigabytes(self.weights)}, "
            f"activations at least {gigabytes(self.activations)}"
        )
        for device, need in places:
            free = known_free_memory(device)
            if free is None or need <= free:
                known = "" if free is None else f", {gigabytes(free)} are free"
                log.info("the edit needs at least %s on %s (%s)%s", gigabytes(need), device, parts, known)
                continue
            hint = "" if apart else "keep statistics on another device (execution.statistics_device=cpu), "
            raise EditError(
                f"the edit needs at least {gigabytes(need)} on {device} ({parts}), but {gigabytes(free)} are free there; {hint}"
                "write fewer layers, load the model in bfloat16, or free memory"
            )


def weights_needed(lm: EditableModel, changed: Sequence[int]) -> int:
    """Bytes that changing the weights of these layers for the first time takes."""
    sizes = [lm.projection(layer).matrix() for layer in changed]
    kept = sum(weight.numel() * (_DOUBLE + 2 * weight.element_size()) for weight in sizes)
    return kept + max((weight.numel() * _WORKSPACE * _DOUBLE for weight in sizes), default=0)
