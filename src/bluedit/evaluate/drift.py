"""How far an edited model has moved from the unedited one where nothing was to change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch

from bluedit.evaluate.answers import check_numbers, logits_at, passage_rows
from bluedit.forward import observe
from bluedit.model.editable import EditableModel
from bluedit.model.sites import Site
from bluedit.model.state import frozen
from bluedit.progress import Progress
from bluedit.shapes import Tensor
from bluedit.text.prompts import encode
from bluedit.text.rows import Row, chunks_by_cost

Unedited = Callable[[], AbstractContextManager[None]]
_TOKENS_PER_PASS = 2048


def next_token_drift(
    lm: EditableModel, prompts: Sequence[str], unedited: Unedited, progress: Progress | None = None
) -> dict[str, tuple[float, float]]:
    """(KL(unedited || edited) in nats, 1 if the first choice is the same) of the token after each prompt."""
    rows = [encode(lm.tokenizer, prompt)[0] for prompt in prompts]
    moved: dict[str, tuple[float, float]] = {}
    with (progress or Progress()).task("comparing with the unedited model", len(prompts), "prompts") as advance:
        for chunk in chunks_by_cost([len(row) for row in rows], _TOKENS_PER_PASS):
            part = [rows[i] for i in chunk]
            kl, same = _compare(lm, part, range(len(part)), [len(row) - 1 for row in part], unedited)
            moved.update({prompts[i]: (k, s) for i, k, s in zip(chunk, kl.tolist(), same.tolist(), strict=True)})
            advance(len(chunk))
    return moved


def passage_drift(lm: EditableModel, texts: Sequence[str], tokens: int, unedited: Unedited) -> dict[str, float]:
    """The metrics passage_kl and passage_same: means over all places of about `tokens` tokens of the texts."""
    rows = passage_rows(lm, texts, tokens)
    total, agree, count = 0.0, 0.0, 0
    for chunk in chunks_by_cost([len(row) for row in rows], _TOKENS_PER_PASS // 4):
        part = [rows[i] for i in chunk]
        lanes = [lane for lane, row in enumerate(part) for _ in row[1:]]
        kl, same = _compare(lm, part, lanes, [t for row in part for t in range(len(row) - 1)], unedited)
        total, agree, count = total + float(kl.sum()), agree + float(same.sum()), count + len(kl)
    return {"passage_kl": total / max(1, count), "passage_same": agree / max(1, count)}


@torch.no_grad()
def _compare(
    lm: EditableModel, rows: Sequence[Sequence[int]], lanes: Sequence[int], places: Sequence[int], unedited: Unedited
) -> tuple[Tensor, Tensor]:
    now = logits_at(lm, rows, lanes, places).log_softmax(dim=-1)
    with unedited():
        before = logits_at(lm, rows, lanes, places).log_softmax(dim=-1)
    terms = torch.where(before == -torch.inf, 0, before.exp() * (before - now))  # what never was cannot be missed
    kl = terms.sum(dim=-1).clamp(min=0)
    return kl, (before.argmax(dim=-1) == now.argmax(dim=-1)).to(kl.dtype)


def hidden_drift(lm: EditableModel, prompts: Sequence[str], unedited: Unedited) -> dict[str, Any]:
    """What editing does to the hidden states of known facts: the last block's output at each prompt's last token, before and after.

    Returns:
        `layer`; `shift`, the distance of the two means over the root mean square distance of the states before from their mean;
        `before` and `after`, prompts x 2, on the two principal axes of the states before; `explained`, the share of variance on each axis.
    """
    rows = [_as_row(encode(lm.tokenizer, prompt)[0]) for prompt in prompts]
    site = Site("block", lm.anatomy.n_layers - 1)
    with frozen(lm.model):
        after = observe(lm, rows, [site])[site].double().cpu()
        with unedited():
            before = observe(lm, rows, [site])[site].double().cpu()
    for states in (before, after):
        check_numbers(lm, states)
    middle = before.mean(dim=0)
    spread = (before - middle).norm() / len(before) ** 0.5
    _, sizes, axes = torch.linalg.svd(before - middle, full_matrices=False)
    flat = [((x - middle) @ axes[:2].T).tolist() for x in (before, after)]
    return {
        "layer": site.layer,
        "shift": float((after.mean(dim=0) - middle).norm() / spread.clamp(min=1e-30)),
        "before": flat[0],
        "after": flat[1],
        "explained": (sizes[:2] ** 2 / (sizes**2).sum().clamp(min=1e-30)).tolist(),
    }


def _as_row(ids: list[int]) -> Row:
    return Row(fact=0, kind="bare", ids=tuple(ids), subject_last=len(ids) - 1)
