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
        losses = [f"{float(targets.loss[i]):.2f}" for i in bad]
        many = f"the targets of {len(bad)} facts" if len(bad) > 1 else "the target of 1 fact"
        last = f"last losses are {', '.join(losses[:_NAMED])}" if len(bad) > 1 else f"last loss is {losses[0]}"
        raise FailedFactsError(
            f"{many} did not converge: the {last} nats a token, and the most is {most:g}",
            "take more steps (objective.steps), or a larger bound (objective.clamp)",
            bad,
            reasons=[
                f"its target did not converge: the last loss is {loss} nats a token, and the most is {most:g}"
                for loss in losses
            ],
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
