"""Scoring answers to prompts, in batches by length, with the head only where an answer stands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from bluedit.errors import ModelError
from bluedit.forward import Past, past_of, shared_length
from bluedit.model.editable import EditableModel
from bluedit.model.hooks import hooked
from bluedit.model.state import frozen
from bluedit.progress import Progress
from bluedit.shapes import Tensor
from bluedit.text.prompts import encode, encode_answer
from bluedit.text.rows import chunks_by_cost

_TOKENS_PER_PASS = 2048


@dataclass(frozen=True)
class Answer:
    """How likely a model gives one answer to one prompt, under teacher forcing.

    Attributes:
        logprob: sum over the answer's tokens of log p, in nats.
        tokens: number of answer tokens.
        said: every answer token is the most probable one given those before it.
        top: the token id the model puts first right after the prompt.
        first_choices: the token id the model puts first at each of the answer's places.
        accuracy: share of the answer's tokens that are the first choice.
    """

    logprob: float
    tokens: int
    said: bool
    top: int
    first_choices: tuple[int, ...] = ()
    accuracy: float = 0.0

    @property
    def probability(self) -> float:
        """Of the whole answer."""
        return math.exp(self.logprob)

    @property
    def mean_logprob(self) -> float:
        """Per token: what CounterFact's metrics compare."""
        return self.logprob / self.tokens


class Questions:
    """(prompt, answer) pairs, each asked once however often it is needed."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, str], int] = {}

    def one(self, prompt: str, answer: str) -> int:
        """Where the answer to this pair will stand."""
        return self._places.setdefault((prompt, answer), len(self._places))

    def pair(self, prompt: str, first: str, second: str) -> tuple[int, int]:
        """Where two answers to one prompt will stand."""
        return self.one(prompt, first), self.one(prompt, second)

    def answers(self, lm: EditableModel, progress: Progress | None) -> list[Answer]:
        """All of them, as the model is now."""
        return score(lm, list(self._places), progress)


def score(
    lm: EditableModel, pairs: Sequence[tuple[str, str]], progress: Progress | None = None, *, beginning: str = ""
) -> list[Answer]:
    """Score each (prompt, answer) pair. Results do not depend on how pairs are batched, up to rounding.

    Answers that need the same tokens to be run (all one-token answers to a prompt do) share one row; the tokens of a `beginning` before
    every prompt (few-shot examples) are run once.

    Raises:
        FactError: a prompt is longer than the model can read.
    """
    encoded = [encode_answer(lm.tokenizer, beginning + prompt, answer) for prompt, answer in pairs]
    shared = _shared([prompt for prompt, _ in encoded]) if beginning else 0
    past = past_of(lm, [encoded[0][0][:shared]]) if shared else None
    encoded = [(prompt[shared:], answer) for prompt, answer in encoded]
    asked: dict[tuple[int, ...], list[int]] = {}
    for i, (prompt, answer) in enumerate(encoded):
        asked.setdefault((*prompt, *answer[:-1]), []).append(i)
    rows = list(asked)
    out: list[Answer | None] = [None] * len(pairs)
    with frozen(lm.model), (progress or Progress()).task("asking the model", len(pairs), "prompts") as advance:
        for chunk in chunks_by_cost([len(row) for row in rows], _TOKENS_PER_PASS):
            who = [(lane, i) for lane, number in enumerate(chunk) for i in asked[rows[number]]]
            spans = [(lane, len(encoded[i][0]) - 1, encoded[i][1]) for lane, i in who]
            for (_, i), answer in zip(who, _score_chunk(lm, [rows[i] for i in chunk], spans, past), strict=True):
                out[i] = answer
            advance(len(who))
    return [answer for answer in out if answer is not None]


def _shared(prompts: Sequence[Sequence[int]]) -> int:
    """How many first tokens all prompts have in common, with one left to each."""
    return min((min(shared_length(prompts[0], prompt), len(prompt) - 1) for prompt in prompts), default=0)


@torch.no_grad()
def _score_chunk(
    lm: EditableModel,
    rows: Sequence[Sequence[int]],
    spans: Sequence[tuple[int, int, list[int]]],
    past: Past | None,
) -> list[Answer]:
    """Answers of (lane, place before the first answer token, answer tokens) in these rows."""
    lanes = [lane for lane, _, answer in spans for _ in answer]
    places = [start + t for _, start, answer in spans for t in range(len(answer))]
    logits = logits_at(lm, rows, lanes, places, past)
    wanted = torch.tensor([token for _, _, answer in spans for token in answer], device=logits.device)
    logprobs = -torch.nn.functional.cross_entropy(logits, wanted, reduction="none")
    tops = logits.argmax(dim=-1)
    answers, at = [], 0
    for _, _, answer in spans:
        part = slice(at, at + len(answer))
        right, first = (tops[part] == wanted[part]).tolist(), tops[part].tolist()
        told = float(logprobs[part].double().sum())
        answers.append(Answer(told, len(answer), all(right), first[0], tuple(first), sum(right) / len(right)))
        at += len(answer)
    return answers


@torch.no_grad()
def logits_at(
    lm: EditableModel,
    rows: Sequence[Sequence[int]],
    lanes: Sequence[int],
    places: Sequence[int],
    past: Past | None = None,
) -> Tensor:
    """Logits (positions x vocabulary, float32 or wider) at (lane, place) of right-padded rows, which follow `past` (one row) if given.

    Raises:
        ModelError: some are NaN or infinite.
    """
    ids, mask = lm.pad(rows, after=past.mask.shape[1] if past else 0)
    more: dict[str, Any] = {"use_cache": False}
    if past:
        past = past.rows(torch.zeros(len(rows), dtype=torch.long, device=ids.device))
        start = past.mask.shape[1]
        place = start + torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        mask = torch.cat([past.mask, mask], dim=1)
        more = lm.after(past.cache()) | {"position_ids": place}
    lane, place = torch.tensor(list(lanes), device=ids.device), torch.tensor(list(places), device=ids.device)
    head = lm.anatomy.head
    hooks = [] if head is None else [(head, "pre", lambda _m, args: (args[0][lane, place].unsqueeze(0), *args[1:]))]
    with frozen(lm.model), hooked(hooks):
        logits = lm.model(input_ids=ids, attention_mask=mask, **more).logits
    logits = logits[lane, place] if head is None else logits[0]
    check_numbers(lm, logits)
    return logits if logits.dtype == torch.float64 else logits.float()


def check_numbers(lm: EditableModel, values: Tensor) -> None:
    """Raises ModelError when a model gives NaN or infinity where numbers are due; minus infinity is a word it never says."""
    if (values.isnan() | (values == torch.inf)).any():
        raise ModelError(f"{lm.name} gives numbers that are not finite; check its weights, or use weaker settings")


def passage_rows(lm: EditableModel, texts: Sequence[str], tokens: int) -> list[list[int]]:
    """Token rows of the first `tokens` tokens of some texts."""
    rows: list[list[int]] = []
    for text in texts:
        row = encode(lm.tokenizer, text)[0][: min(lm.max_length, max(0, tokens - sum(map(len, rows))))]
        if len(row) > 1:
            rows.append(row)
    return rows


def passages_beyond(lm: EditableModel, texts: Sequence[str], tokens: int) -> Sequence[str]:
    """The texts of which `passage_rows` takes nothing."""
    taken = 0
    for i, text in enumerate(texts):
        if taken >= tokens:
            return texts[i:]
        length = min(lm.max_length, len(encode(lm.tokenizer, text)[0]))
        taken += length if length > 1 else 0
    return ()


@torch.no_grad()
def perplexity(lm: EditableModel, texts: Sequence[str], tokens: int = 1200) -> float:
    """exp of the mean negative log-probability per token over about `tokens` tokens of the texts (first token of each not counted)."""
    rows = passage_rows(lm, texts, tokens)
    total, count = 0.0, 0
    for chunk in chunks_by_cost([len(row) for row in rows], _TOKENS_PER_PASS // 2):
        lanes = [lane for lane, i in enumerate(chunk) for _ in rows[i][1:]]
        places = [t for i in chunk for t in range(len(rows[i]) - 1)]
        logits = logits_at(lm, [rows[i] for i in chunk], lanes, places)
        wanted = torch.tensor([token for i in chunk for token in rows[i][1:]], device=logits.device)
        total += float(torch.nn.functional.cross_entropy(logits, wanted, reduction="sum"))
        count += len(wanted)
    return math.exp(min(total / max(1, count), 700.0))
