"""How likely a model finds the targets of some prompts: the loss that weights are trained on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from bluedit.model.editable import EditableModel
from bluedit.model.hooks import hooked, logits_of, only_at
from bluedit.shapes import Float, Tensor
from bluedit.text.rows import Row


def target_loss(lm: EditableModel, rows: Sequence[Row], dtype: torch.dtype, *, at_prompt_end: bool = False) -> Tensor:
    """Mean of `row_losses`."""
    return row_losses(lm, rows, dtype, at_prompt_end=at_prompt_end).sum() / len(rows)


def row_losses(
    lm: EditableModel, rows: Sequence[Row], dtype: torch.dtype, *, at_prompt_end: bool = False
) -> Float[Tensor, "rows"]:
    """The mean -log p of each row's target tokens, in nats, on the model as it is.

    Args:
        dtype: of the loss.
        at_prompt_end: every target token is predicted at the prompt's last token (FT-L), not at its own position.
    """
    ids, mask = lm.pad([row.ids for row in rows])
    lanes = [lane for lane, row in enumerate(rows) for _ in row.targets]
    steps = [0 if at_prompt_end else t for row in rows for t in range(len(row.targets))]
    at = [rows[lane].target_start - 1 + t for lane, t in zip(lanes, steps, strict=True)]
    lane, place = torch.tensor(lanes, device=ids.device), torch.tensor(at, device=ids.device)
    head = lm.anatomy.head
    with hooked(only_at(head, (lane, place))):
        logits = lm.run(input_ids=ids, attention_mask=mask, use_cache=False).logits
    predicted = logits_of(logits, head, (lane, place)).to(dtype)
    tokens = torch.tensor([token for row in rows for token in row.targets], device=ids.device)
    weight = torch.tensor([1 / len(row.targets) for row in rows for _ in row.targets], dtype=dtype, device=ids.device)
    losses = nn.functional.cross_entropy(predicted, tokens, reduction="none") * weight
    return losses.new_zeros(len(rows)).index_add(0, lane, losses)
