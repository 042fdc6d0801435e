"""The norm anchor (NAS, arXiv 2602.02543): values as long as the unedited model's, however many edits came before."""

from __future__ import annotations

from dataclasses import replace

from bluedit.shapes import Float, Tensor
from bluedit.writing.targets import Targets

TOO_LONG = 2.0


def written_values(targets: Targets, mlp: Float[Tensor, "d_value n"]) -> Float[Tensor, "d_value n"]:
    """v*: what the MLP has to put out, its present output plus what the target adds."""
    return mlp + (targets.z - targets.start)


def hold_norm(targets: Targets, mlp: Float[Tensor, "d_value n"], norm: float) -> Targets:
    """Targets whose v* are `norm` long, in the same direction; facts whose v* is over twice as long are left out (z* = start).

    Args:
        targets: as optimised.
        mlp: the MLP's output on the bare prompts.
        norm: mean |v*| on the unedited model.
    """
    v = written_values(targets, mlp)
    size = v.norm(dim=0)
    z = targets.start + v * (norm / size) - mlp
    return replace(targets, z=z.where(size <= TOO_LONG * norm, targets.start))
