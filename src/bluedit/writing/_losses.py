"""Log-probabilities and norms that the loss of a target is made of."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from bluedit.shapes import Float, Int, Tensor

# elements of logits that are computed with at once: on a CPU, few enough to stay in its caches
_ELEMENTS = {"cpu": 2**20}
_ELEMENTS_ELSEWHERE = 2**26


def log_probabilities(
    logits: Float[Tensor, "positions vocabulary"],
    target: Int[Tensor, "n"],
    token: Int[Tensor, "n"],
    whole: Int[Tensor, "m"],
) -> tuple[Float[Tensor, "n"], Float[Tensor, "m vocabulary"]]:
    """log p(token) at the positions `target`, and all log-probabilities at the positions `whole`.

    One pass over the logits forwards and one backwards, where indexing and a softmax take several, and copies as large as the logits.
    """
    return _LogProbabilities.apply(logits, target, token, whole)  # pyright: ignore[reportReturnType]


class _LogProbabilities(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, token: Tensor, whole: Tensor) -> tuple[Tensor, Tensor]:
        total = torch.cat([_wide(part).logsumexp(dim=-1) for part in _parts(logits)])
        ctx.save_for_backward(logits, total, target, token, whole)
        return _wide(logits[target, token]) - total[target], _finite(_wide(logits[whole]) - total[whole, None])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_token: Tensor, of_whole: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        logits, total, target, token, whole = ctx.saved_tensors
        share = torch.zeros_like(total).index_add_(0, target, of_token).index_add_(0, whole, of_whole.sum(dim=-1))
        gradient = torch.empty_like(logits)
        rows = zip(
            _parts(gradient), _parts(logits), _parts(total, like=logits), _parts(share, like=logits), strict=True
        )
        for found, part, total_of_part, share_of_part in rows:
            softmax = torch.sub(part, total_of_part[:, None]).exp_()
            torch.mul(softmax, -share_of_part[:, None], out=found)
        gradient.index_put_((target, token), of_token.to(gradient), accumulate=True)
        gradient.index_add_(0, whole, of_whole.to(gradient))
        return gradient, None, None, None


def _parts(rows: Tensor, like: Tensor | None = None) -> tuple[Tensor, ...]:
    """Rows, a few at a time: as many as of `like`, or of themselves."""
    model = rows if like is None else like
    at_once = _ELEMENTS.get(model.device.type, _ELEMENTS_ELSEWHERE) // model.shape[-1]
    return rows.split(max(1, at_once))


def log_softmax(logits: Float[Tensor, "n vocabulary"]) -> Float[Tensor, "n vocabulary"]:
    """Finite also where the model rules a token out (logit -inf): in KL, 0 log 0 is then 0."""
    return _finite(logits.log_softmax(dim=-1))


def norm(delta: Float[Tensor, "sites n d_value"]) -> Float[Tensor, "sites n"]:
    """|delta| with gradient 0, not NaN, at 0."""
    squared = (delta * delta).sum(dim=-1)
    return torch.where(squared > 0, squared.clamp(min=torch.finfo(delta.dtype).tiny).sqrt(), squared)


def _wide(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def _finite(log_p: Tensor) -> Tensor:
    return log_p.clamp(min=torch.finfo(log_p.dtype).min)
