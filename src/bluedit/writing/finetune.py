"""Fine-tuning one projection: the baselines that editing is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

import torch
from torch import nn

from bluedit.errors import EditError
from bluedit.forward import tokens_per_step
from bluedit.methods.update import FineTune
from bluedit.model.editable import EditableModel
from bluedit.model.hooks import hooked
from bluedit.model.memory import run_chunks
from bluedit.progress import Advance
from bluedit.shapes import Float, Tensor
from bluedit.text.rows import Row, chunks_by_cost
from bluedit.writing.target_loss import target_loss


@torch.enable_grad()
def finetune(
    lm: EditableModel, rows: Sequence[Row], layer: int, settings: FineTune, tokens: int, advance: Advance
) -> Float[Tensor, "d_value d_key"]:
    """dW of one projection by Adam on the likelihood of the facts' targets. The model itself is not changed.

    FT-L (Zhu et al., arXiv 2012.00363, as ROME's section 3.1 runs it): every target token at the prompt's last token, and no weight
    may change by more than `norm`. LocFT-BF (arXiv 2509.22072): the usual loss, mini-batches, several epochs over all facts.

    Args:
        lm: the model.
        rows: prompts; only the bare ones are used.
        layer: whose projection is trained.
        settings: loss, step size, epochs, mini-batch, norm.
        tokens: a step's gradient is summed over chunks of so many tokens, padding included; 0 means as many as targets get.
        advance: called once for each epoch.

    Raises:
        EditError: the loss is not finite.
    """
    rows = [row for row in rows if row.is_bare]
    matrix = lm.projection(layer).matrix()
    wide = torch.float64 if matrix.dtype == torch.float64 else torch.float32
    dW = torch.zeros(matrix.shape, dtype=wide, device=matrix.device, requires_grad=True)
    adam = torch.optim.Adam([dW], lr=settings.learning_rate)
    tokens = tokens or tokens_per_step(lm)
    order = torch.Generator().manual_seed(settings.seed)
    size = settings.minibatch or len(rows)
    for _ in range(settings.epochs):
        losses: list[tuple[Tensor, int]] = []
        shuffled = torch.randperm(len(rows), generator=order).tolist() if settings.minibatch else list(range(len(rows)))
        for start in range(0, len(rows), size):
            part = [rows[i] for i in shuffled[start : start + size]]
            adam.zero_grad()
            dW.grad = torch.zeros_like(dW)
            chunks = chunks_by_cost([len(row.ids) for row in part], tokens)
            losses += _summed(lm, part, chunks, layer, dW, settings)
            adam.step()
            if settings.norm:
                with torch.no_grad():
                    dW.clamp_(-settings.norm, settings.norm)
        values = torch.stack([loss for loss, _ in losses]).tolist()  # the epoch's only wait for the device
        mean = sum(value * count for value, (_, count) in zip(values, losses, strict=True)) / len(rows)
        if not isfinite(mean):
            raise EditError(
                "the loss of fine-tuning is not finite; check the model's weights, or lower update.learning_rate"
            )
        advance()
        if mean < settings.stop_loss:
            break
    return dW.detach()


def _summed(
    lm: EditableModel, part: Sequence[Row], chunks: Sequence[Sequence[int]], layer: int, dW: Tensor, settings: FineTune
) -> list[tuple[Tensor, int]]:
    """Add the gradient of a mini-batch to `dW.grad`; the shares of its loss, each with the number of its rows."""
    losses: list[tuple[Tensor, int]] = []

    def run(chunk: Sequence[int]) -> None:
        loss = _loss(lm, [part[i] for i in sorted(chunk)], layer, dW, settings) * (len(chunk) / len(part))
        (gradient,) = torch.autograd.grad(loss, dW)
        assert dW.grad is not None
        dW.grad += gradient
        losses.append((loss.detach(), len(part)))

    run_chunks(chunks, run, "rows", lm.device)
    return losses


def _loss(lm: EditableModel, rows: Sequence[Row], layer: int, dW: Tensor, settings: FineTune) -> Tensor:
    """The loss with dW added to a layer's projection."""

    def changed(_module: nn.Module, args: Any, output: Tensor) -> Tensor:
        return output + nn.functional.linear(args[0].to(output.device), dW.to(args[0].dtype))

    with hooked([(lm.projection(layer).module, "forward", changed)]):
        return target_loss(lm, rows, dW.dtype, at_prompt_end=settings.at_prompt_end)
