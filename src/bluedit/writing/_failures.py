"""Facts of a batch that cannot be written, found before they are."""

from __future__ import annotations

import torch

from bluedit.errors import FailedFactsError
from bluedit.shapes import Float, Tensor
from bluedit.writing.target import Targets

_NAMED = 6


def check_converged(targets: Targets, most: float) -> None:
    """Raises FailedFactsError for targets whose loss is above `most`, in nats."""
    bad = (targets.loss > most).nonzero().flatten().tolist()
    if bad:
        losses = ", ".join(f"{float(targets.loss[i]):.2f}" for i in bad[:_NAMED])
        raise FailedFactsError(
            f"the targets of {len(bad)} facts did not converge: their losses are {losses} nats, and the most is {most:g}",
            "take more steps (objective.steps), or a larger bound (objective.clamp)",
            bad,
        )


def check_finite(layer: int, residual: Float[Tensor, "d_value n"], keys: Float[Tensor, "d_key n"]) -> None:
    """Raises FailedFactsError for columns with numbers that are not finite."""
    bad = ~(torch.isfinite(residual).all(dim=0) & torch.isfinite(keys).all(dim=0))
    if bad.any():
        raise FailedFactsError(
            f"the update of layer {layer} is not finite",
            "check the model's weights and the recipe's numbers (objective.learning_rate, preserve.lambda)",
            bad.nonzero().flatten().tolist(),
        )
