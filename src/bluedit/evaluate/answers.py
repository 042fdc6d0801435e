"""Scoring answers to prompts and text, in batches by length. The head runs only at the positions that are scored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from bluedit.errors import ModelError
from bluedit.evaluate.data import Answer, Pair
from bluedit.evaluate.passages import passage_rows
from bluedit.model.devices import widened
from bluedit.model.hooks import hooked, logits_of, only_at
from bluedit.model.state import frozen
from bluedit.progress import Progress
from bluedit.text.prompts import encode_answer
from bluedit.text.rows import chunks_by_cost

if TYPE_CHECKING:
    from torch import Tensor

    from bluedit.forward import Past
    from bluedit.model.editable import EditableModel

TOKENS_PER_PASS = 2048
MOST_NATS = 700.0  # exp of more overflows


def score(
    lm: EditableModel,
    pairs: Sequence[Pair],
    progress: Progress | None = None,
    *,
    tokens_per_pass: int = TOKENS_PER_PASS,
) -> list[Answer]:
    """Score each (prompt, answer) pair. Results do not depend on the batching, up to rounding.

    Args:
        pairs: a third part says whether the answer is joined to its prompt without a space; None lets the text decide.
        tokens_per_pass: most tokens of one forward pass, padding included.

    Raises:
        FactError: a prompt is longer than the model's context.
        ModelError: the model's logits are not finite.
    """
    encoded = [encode_answer(lm.tokenizer, prompt, answer, *joined) for prompt, answer, *joined in pairs]
    return score_encoded(lm, encoded, progress, tokens_per_pass=tokens_per_pass)


def score_encoded(
    lm: EditableModel,
    encoded: Sequence[tuple[Sequence[int], Sequence[int]]],
    progress: Progress | None = None,
    *,
    past: Past | None = None,
    tokens_per_pass: int = TOKENS_PER_PASS,
) -> list[Answer]:
    """Score (prompt tokens, answer tokens) pairs. Answers that need the same tokens to be run (all one-token answers to a prompt, for
    example) share one row.

    Args:
        past: cached attention keys and values (one row) of tokens that precede every prompt.
    """
    by_row: dict[tuple[int, ...], list[int]] = {}
    for i, (prompt, answer) in enumerate(encoded):
        by_row.setdefault((*prompt, *answer[:-1]), []).append(i)
    rows = list(by_row)
    out: list[Answer | None] = [None] * len(encoded)
    with frozen(lm.model), (progress or Progress()).task("asking the model", len(encoded), "prompts") as advance:
        for chunk in chunks_by_cost([len(row) for row in rows], tokens_per_pass):
            pairs = [(lane, i) for lane, number in enumerate(chunk) for i in by_row[rows[number]]]
            spans = [(lane, len(encoded[i][0]) - 1, encoded[i][1]) for lane, i in pairs]
            answers = _score_chunk(lm, [rows[i] for i in chunk], spans, past)
            for (_, i), answer in zip(pairs, answers, strict=True):
                out[i] = answer
            advance(len(pairs))
    return [answer for answer in out if answer is not None]


@torch.no_grad()
def _score_chunk(
    lm: EditableModel,
    rows: Sequence[Sequence[int]],
    spans: Sequence[tuple[int, int, Sequence[int]]],
    past: Past | None,
) -> list[Answer]:
    """Answers at spans of these rows; a span is (row, position before the first answer token, answer tokens)."""
    lanes = [lane for lane, _, answer in spans for _ in answer]
    positions = [start + t for _, start, answer in spans for t in range(len(answer))]
    logits = logits_at(lm, rows, lanes, positions, past)
    targets = torch.tensor([token for _, _, answer in spans for token in answer], device=logits.device)
    logprobs = -torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    tops = logits.argmax(dim=-1)
    answers, at = [], 0
    for _, _, answer in spans:
        part = slice(at, at + len(answer))
        right, first = (tops[part] == targets[part]).tolist(), tops[part].tolist()
        logprob = float(widened(logprobs[part]).sum())
        answers.append(Answer(logprob, len(answer), all(right), first[0], tuple(first), sum(right) / len(right)))
        at += len(answer)
    return answers


@torch.no_grad()
def logits_at(
    lm: EditableModel,
    rows: Sequence[Sequence[int]],
    lanes: Sequence[int],
    positions: Sequence[int],
    past: Past | None = None,
) -> Tensor:
    """Logits (positions x vocabulary, float32 or wider) at each (row, position) of some token rows.

    Args:
        rows: token ids, padded on the right as needed.
        lanes, positions: row and position of each logit.
        past: cached attention keys and values (one row) of tokens that precede every row.

    Raises:
        FactError: a row is longer than the model's context.
        ModelError: some logits are NaN or plus infinity.
    """
    ids, mask = lm.pad(rows, after=past.mask.shape[1] if past else 0)
    options: dict[str, Any] = {"use_cache": False}
    if past:
        past = past.rows(torch.zeros(len(rows), dtype=torch.long, device=ids.device))
        start = past.mask.shape[1]
        position_ids = start + torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        mask = torch.cat([past.mask, mask], dim=1)
        options = lm.after(past.cache()) | {"position_ids": position_ids}
    lane, position = torch.tensor(list(lanes), device=ids.device), torch.tensor(list(positions), device=ids.device)
    head = lm.anatomy.head
    with frozen(lm.model), hooked(only_at(head, (lane, position))):
        logits = lm.run(input_ids=ids, attention_mask=mask, **options).logits
    logits = logits_of(logits, head, (lane, position))
    check_finite(lm, logits)
    return logits if logits.dtype == torch.float64 else logits.float()


def check_finite(lm: EditableModel, values: Tensor) -> None:
    """Raises ModelError when values contain NaN or plus infinity. Logits may be minus infinity: the model never says such a token."""
    if (values.isnan() | (values == torch.inf)).any():
        raise ModelError(f"{lm.name} computes NaN or infinity; check its weights, or edit with weaker settings")


@torch.no_grad()
def perplexity(lm: EditableModel, texts: Sequence[str], tokens: int = 1200) -> float:
    """exp of the mean negative log-probability per token over the first `tokens` tokens of the texts; the first token of each text is
    not scored.

    Raises:
        ModelError: the model's logits are not finite.
    """
    rows = passage_rows(lm, texts, tokens)
    total, count = 0.0, 0
    for chunk in chunks_by_cost([len(row) for row in rows], TOKENS_PER_PASS // 2):
        lanes = [lane for lane, i in enumerate(chunk) for _ in rows[i][1:]]
        positions = [t for i in chunk for t in range(len(rows[i]) - 1)]
        logits = logits_at(lm, [rows[i] for i in chunk], lanes, positions)
        targets = torch.tensor([token for i in chunk for token in rows[i][1:]], device=logits.device)
        total += float(torch.nn.functional.cross_entropy(logits, targets, reduction="sum"))
        count += len(targets)
    return math.exp(min(total / max(1, count), MOST_NATS))
