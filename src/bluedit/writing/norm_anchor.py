"""The norm anchor (NAS, arXiv 2602.02543): values as long as the unedited model's, however many edits came before."""

from __future__ import annotations

from dataclasses import replace

from bluedit.shapes import Float, Tensor
from bluedit.writing.targets import Targets


def written_values(targets: Targets, mlp: Float[Tensor, "d_value n"]) -> Float[Tensor, "d_value n"]:
    """v*: what the MLP must put out, its present output plus what the target adds."""
    return mlp + (targets.z - targets.start)


def hold_norm(targets: Targets, mlp: Float[Tensor, "d_value n"], norm: float) -> Targets:
    """Targets whose v* keep their direction and have length `norm`.

    NAS's public code leaves out facts whose v* is over twice as long; here every fact is written.

    Args:
        targets: as optimised.
        mlp: the MLP's output on the bare prompts.
        norm: mean |v*| on the unedited model.
    """
    v = written_values(targets, mlp)
    return replace(targets, z=targets.start + v * (norm / v.norm(dim=0)) - mlp)
