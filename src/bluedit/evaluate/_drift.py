"""How far an edited model's next-token distributions have moved from the unedited model's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import torch

from bluedit.evaluate.answers import TOKENS_PER_PASS, logits_at
from bluedit.evaluate.passages import passage_rows
from bluedit.progress import Progress
from bluedit.text.prompts import encode
from bluedit.text.rows import chunks_by_cost

if TYPE_CHECKING:
    from torch import Tensor

    from bluedit.model.editable import EditableModel

Unedited = Callable[[], AbstractContextManager[None]]


def next_token_drift(
    lm: EditableModel,
    prompts: Sequence[str],
    unedited: Unedited,
    progress: Progress | None = None,
    *,
    tokens_per_pass: int = TOKENS_PER_PASS,
) -> dict[str, tuple[float, float]]:
    """For each prompt: KL(unedited || edited) of the next token in nats, and 1 if both models have the same first choice, else 0.

    Args:
        unedited: gives a context manager inside which the model has its unedited weights.
    """
    rows = [encode(lm.tokenizer, prompt)[0] for prompt in prompts]
    found: dict[str, tuple[float, float]] = {}
    with (progress or Progress()).task("comparing with the unedited model", len(prompts), "prompts") as advance:
        for chunk in chunks_by_cost([len(row) for row in rows], tokens_per_pass):
            part = [rows[i] for i in chunk]
            kl, same = _compare(lm, part, range(len(part)), [len(row) - 1 for row in part], unedited)
            found.update({prompts[i]: (k, s) for i, k, s in zip(chunk, kl.tolist(), same.tolist(), strict=True)})
            advance(len(chunk))
    return found


def passage_drift(lm: EditableModel, texts: Sequence[str], tokens: int, unedited: Unedited) -> dict[str, float]:
    """The metrics passage_kl and passage_same: means over all positions of the first `tokens` tokens of the texts."""
    rows = passage_rows(lm, texts, tokens)
    total, agree, count = 0.0, 0.0, 0
    for chunk in chunks_by_cost([len(row) for row in rows], TOKENS_PER_PASS // 4):
        part = [rows[i] for i in chunk]
        lanes = [lane for lane, row in enumerate(part) for _ in row[1:]]
        kl, same = _compare(lm, part, lanes, [t for row in part for t in range(len(row) - 1)], unedited)
        total, agree, count = total + float(kl.sum()), agree + float(same.sum()), count + len(kl)
    return {"passage_kl": total / max(1, count), "passage_same": agree / max(1, count)}


@torch.no_grad()
def _compare(
    lm: EditableModel, rows: Sequence[Sequence[int]], lanes: Sequence[int], positions: Sequence[int], unedited: Unedited
) -> tuple[Tensor, Tensor]:
    """KL(unedited || edited) and whether the first choices agree, at each position."""
    now = logits_at(lm, rows, lanes, positions).log_softmax(dim=-1)
    with unedited():
        before = logits_at(lm, rows, lanes, positions).log_softmax(dim=-1)
    terms = torch.where(before == -torch.inf, 0, before.exp() * (before - now))  # 0 log 0 is 0
    kl = terms.sum(dim=-1).clamp(min=0)
    return kl, (before.argmax(dim=-1) == now.argmax(dim=-1)).to(kl.dtype)
