"""Post-processing of updates: RECT, PRUNE, REVIVE and SPHERE, as pure functions of matrices."""

from __future__ import annotations

from dataclasses import dataclass

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
    The slope of the logarithm at s0 is 1 / (s0 ln(base)), so the formula shrinks values only where s0 > 1 / ln(base). With a smaller
    s0 (below 5.5 for base 1.2, below 1 for base e) it enlarges those just above s0.
    """
    limit = torch.linalg.eigvalsh(W0 @ W0.T)[-1].sqrt()
    squares, U = torch.linalg.eigh(dW @ dW.T)
    over = squares > limit**2
    if not over.any():
        return dW
    size, U = squares[over].sqrt(), U[:, over]
    capped = torch.log(size / limit) / torch.log(torch.tensor(base, dtype=size.dtype)) + limit
    return dW + U @ ((capped / size - 1)[:, None] * (U.T @ dW))


@dataclass(frozen=True, eq=False)
class Shield:
    """Directions that an update spares: dW becomes (I - s U U^T) dW (I - s V V^T). U and V have orthonormal columns.

    Attributes:
        strength: s; 1 takes out all of the update along these directions.
        right: V, directions of key space.
        left: U, directions of value space; None spares none.
    """

    strength: float
    right: Float[Tensor, "d_key k"]
    left: Float[Tensor, "d_value k"] | None = None

    def spare(
        self, R: Float[Tensor, "d_value n"], A: Float[Tensor, "n d_key"]
    ) -> tuple[Float[Tensor, "d_value n"], Float[Tensor, "n d_key"]]:
        """The factors of the new update, given those of dW = R A."""
        A = A - self.strength * (A @ self.right) @ self.right.T
        return R if self.left is None else R - self.strength * self.left @ (self.left.T @ R), A


def dominant(W0: Float[Tensor, "d_value d_key"], energy: float) -> Shield:
    """The fewest singular directions of W0, on both sides, that carry at least `energy` of the sum of squared singular values.

    REVIVE (arXiv 2601.11042).
    """
    U, s, V = torch.linalg.svd(W0, full_matrices=False)
    count = leading(s**2, energy)
    return Shield(1.0, V[:count].T.contiguous(), U[:, :count].contiguous())


def hyperspherical(W0: Float[Tensor, "d_value d_key"], energy: float, strength: float) -> Shield:
    """The leading directions of key space of W0's rows, each row scaled to length 1: SPHERE (arXiv 2510.01172, section 4).

    As in its public code: as many directions as carry at most `energy` of the squared singular values, and one more.
    """
    rows = W0 / W0.norm(dim=1, keepdim=True).clamp(min=1e-8)
    _, s, V = torch.linalg.svd(rows, full_matrices=False)
    share = (s**2).cumsum(0) / (s**2).sum()
    count = min(int((share <= energy).sum()) + 1, len(s))
    return Shield(strength, V[:count].T.contiguous())


def leading(energies: Float[Tensor, "d"], share: float) -> int:
    """How many of the energies, largest first, it takes to reach this share of their sum."""
    carried = energies.cumsum(0)
    return min(int((carried < share * carried[-1]).sum()) + 1, len(energies))
