"""The norm anchor (NAS, arXiv 2602.02543): values as long as the unedited model's, however many edits came before."""

from __future__ import annotations

from dataclasses import replace

import torch

from bluedit.shapes import Float, Tensor
from bluedit.writing.target import Targets


def written_values(targets: Targets, mlp: Float[Tensor, "d_value n"]) -> Float[Tensor, "d_value n"]:
    """v*: what the MLP must put out, its present output plus what the target adds."""
    return mlp + (targets.z - targets.start)


def hold_norm(targets: Targets, mlp: Float[Tensor, "d_value n"], norm: float) -> Targets:
    """Targets whose v* keep their direction and have length `norm`.

    NAS's public code leaves out facts whose v* is over twice as long; here every fact is written. A v* of zero, which has no direction,
    stays zero.

    Args:
        targets: as optimised.
        mlp: the MLP's output on the bare prompts.
        norm: mean |v*| on the unedited model.
    """
    v = written_values(targets, mlp)
    size = v.norm(dim=0)
    return replace(targets, z=targets.start + v * torch.where(size > 0, norm / size, 1.0) - mlp)


def anchor_norm(values: Float[Tensor, "d_value n"]) -> float:
    """Mean |v*| without the longest twentieth, as NAS's public code measures it."""
    sizes = values.norm(dim=0).sort().values
    return float(sizes[: len(sizes) - len(sizes) // 20].mean())
