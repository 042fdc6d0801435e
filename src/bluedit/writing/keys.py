"""Keys and values of facts, from what a layer shows at the subject's last token of their prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch

from bluedit.shapes import Float, Tensor
from bluedit.text.rows import Row


def average_keys(rows: Sequence[Row], activations: Float[Tensor, "rows d_key"], n: int) -> Float[Tensor, "d_key n"]:
    """Half the bare prompt's key, half the mean over the prefixed ones; the bare key alone where there are no prefixes.

    Where facts share a subject (MEMIT-Merge), "the bare prompt's" is the mean over theirs.
    """
    prefixed = {row.fact for row in rows if row.kind == "prefixed"}
    shares = {"bare": 0.5, "prefixed": 0.5, "drift": 0.0}
    alone = {"bare": 1.0, "prefixed": 0.0, "drift": 0.0}
    return _average(rows, activations, n, [(shares if r.fact in prefixed else alone)[r.kind] for r in rows])


def average_values(
    rows: Sequence[Row], activations: Float[Tensor, "rows d_value"], n: int
) -> Float[Tensor, "d_value n"]:
    """The bare prompt's value (the mean where facts share a subject)."""
    return _average(rows, activations, n, [float(row.kind == "bare") for row in rows])


def _average(rows: Sequence[Row], activations: Tensor, n: int, shares: Sequence[float]) -> Tensor:
    """Weighted sums by fact; each kind's share is divided among the fact's rows of that kind."""
    count = Counter((row.fact, row.kind) for row in rows)
    weights = [share / count[row.fact, row.kind] for row, share in zip(rows, shares, strict=True)]
    owner = torch.tensor([row.fact for row in rows], device=activations.device)
    weight = torch.tensor(weights, device=activations.device, dtype=activations.dtype)
    sums = activations.new_zeros(n, activations.shape[1]).index_add_(0, owner, activations * weight[:, None])
    # with the strides that a file gives back, for one fact too: products of other strides may round otherwise
    return sums.T.clone(memory_format=torch.contiguous_format)
