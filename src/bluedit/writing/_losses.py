"""Log-probabilities and norms that the loss of a target is made of."""

from __future__ import annotations

import torch

from bluedit.shapes import Float, Int, Tensor


def log_probability(
    logits: Float[Tensor, "positions vocabulary"], tokens: Int[Tensor, "positions"]
) -> Float[Tensor, "positions"]:
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return -torch.nn.functional.cross_entropy(wide, tokens, reduction="none")


def log_softmax(logits: Float[Tensor, "n vocabulary"]) -> Float[Tensor, "n vocabulary"]:
    """Finite also where the model rules a token out (logit -inf): in KL, 0 log 0 is then 0."""
    return logits.log_softmax(dim=-1).clamp(min=torch.finfo(logits.dtype).min)


def norm(delta: Float[Tensor, "sites n d_value"]) -> Float[Tensor, "sites n"]:
    """|delta| with gradient 0, not NaN, at 0."""
    squared = (delta * delta).sum(dim=-1)
    return torch.where(squared > 0, squared.clamp(min=torch.finfo(delta.dtype).tiny).sqrt(), squared)
