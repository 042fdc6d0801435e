"""Keys: what the projection of a layer receives at the subject's last token."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bluedit.lm.prompts import Row
from bluedit.shapes import Float, Tensor


def average_keys(rows: Sequence[Row], activations: Float[Tensor, "rows d_key"], n: int) -> Float[Tensor, "d_key n"]:
    """Half the bare prompt's key, half the mean over the prefixed ones; the bare key alone where there are no prefixes."""
    prefixes = [0] * n
    for row in rows:
        prefixes[row.fact] += row.kind == "prefixed"
    weights = [_weight(row, prefixes[row.fact]) for row in rows]
    owner = torch.tensor([row.fact for row in rows], device=activations.device)
    weight = torch.tensor(weights, device=activations.device, dtype=activations.dtype)
    keys = activations.new_zeros(n, activations.shape[1]).index_add_(0, owner, activations * weight[:, None])
    return keys.T.contiguous()


def _weight(row: Row, prefixes: int) -> float:
    if row.kind == "drift":
        return 0.0
    if row.kind == "bare":
        return 0.5 if prefixes else 1.0
    return 0.5 / prefixes
