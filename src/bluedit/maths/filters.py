"""Post-processing of updates: RECT and PRUNE, as pure functions of matrices."""

from __future__ import annotations

import torch

from bluedit.shapes import Float, Tensor


def rect(
    W: Float[Tensor, "d_value d_key"], dW: Float[Tensor, "d_value d_key"], keep: float
) -> Float[Tensor, "d_value d_key"]:
    """dW with only its entries of largest relative change |dW / W|; the rest is zero (RECT, arXiv 2401.04700, section 4).

    Args:
        W: the weight before the batch.
        dW: the batch's change.
        keep: share of entries kept, rounded to a whole number of entries.
    """
    change = dW.abs() / W.abs().clamp(min=torch.finfo(W.dtype).tiny)
    count = max(1, round(keep * change.numel()))
    kept = change.flatten().topk(count).indices
    mask = torch.zeros(change.numel(), dtype=torch.bool, device=dW.device)
    mask[kept] = True
    return torch.where(mask.view_as(dW), dW, torch.zeros_like(dW))


def prune(
    W0: Float[Tensor, "d_value d_key"], dW: Float[Tensor, "d_value d_key"], base: float
) -> Float[Tensor, "d_value d_key"]:
    """The cumulative change dW with its singular values above W0's largest, s0, mapped to log_base(s) - log_base(s0) + s0.

    PRUNE (arXiv 2405.16821, eq. 8; its base is 1.2, its public code takes e). W0 + prune(W0, dW) is the edited weight. Only the few
    directions above s0 are touched: the others keep their exact values. A spectrum that never exceeds s0 is returned as it is.
    The formula restrains only where s0 > 1 / ln(base), the logarithm's slope at s0 being 1 / (s0 ln(base)): with base 1.2 a W0 with
    s0 below 5.5 has values just above s0 enlarged, with e (its public code's) one with s0 below 1.
    """
    limit = torch.linalg.eigvalsh(W0 @ W0.T)[-1].sqrt()
    squares, U = torch.linalg.eigh(dW @ dW.T)
    over = squares > limit**2
    if not over.any():
        return dW
    size, U = squares[over].sqrt(), U[:, over]
    capped = torch.log(size / limit) / torch.log(torch.tensor(base, dtype=size.dtype)) + limit
    return dW + U @ ((capped / size - 1)[:, None] * (U.T @ dW))
