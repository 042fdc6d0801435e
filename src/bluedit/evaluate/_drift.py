"""How far an edited model's next-token distributions have moved from the unedited model's."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bluedit.evaluate.answers import MOST_NATS, TOKENS_PER_PASS, logits_at
from bluedit.evaluate.bystanders import encoded_turns
from bluedit.evaluate.data import Drift
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
    now: Sequence[str] | None = None,
    tokens_per_pass: int = TOKENS_PER_PASS,
) -> dict[str, Drift]:
    """For each prompt, how far the distribution of the next token has moved.

    Args:
        unedited: gives a context manager inside which the model has its unedited weights.
        now: what the edited model reads in place of each prompt; None means the same.
    """
    before = [encode(lm.tokenizer, prompt)[0] for prompt in prompts]
    after = before if now is None else [encode(lm.tokenizer, prompt)[0] for prompt in now]
    found: dict[str, Drift] = {}
    with (progress or Progress()).task("comparing with the unedited model", len(prompts), "prompts") as advance:
        for chunk in chunks_by_cost([max(map(len, pair)) for pair in zip(before, after, strict=True)], tokens_per_pass):
            here = [[rows[i] for i in chunk] for rows in (after, before)]
            columns = _compare(lm, _Tokens.at_end(here[0]), _Tokens.at_end(here[1]), unedited)
            rows = zip(*(values.tolist() for values in columns), strict=True)
            found.update({prompts[i]: Drift(*own) for i, own in zip(chunk, rows, strict=True)})
            advance(len(chunk))
    return found


def passage_drift(lm: EditableModel, texts: Sequence[str], tokens: int, unedited: Unedited) -> dict[str, float]:
    """The metrics passage_kl, passage_same, ...: means over all positions of the first `tokens` tokens of the texts."""
    rows = passage_rows(lm, texts, tokens)
    drift = _mean_drift(lm, rows, [range(len(row) - 1) for row in rows], unedited)
    return named("passage", drift)


def chat_drift(lm: EditableModel, unedited: Unedited) -> dict[str, float]:
    """The metrics chat_kl, chat_same, ...: means over the assistant's tokens of the bundled chat turns, in the model's template. Empty
    if it has none, or if no turn fits its context."""
    encoded = encoded_turns(lm)
    if not encoded:
        return {}
    rows = [[*before, *reply] for before, reply in encoded]
    spans = [range(len(before) - 1, len(before) + len(reply) - 1) for before, reply in encoded]
    return named("chat", _mean_drift(lm, rows, spans, unedited))


def named(what: str, drift: Drift) -> dict[str, float]:
    """The metrics of a drift: "passage" gives passage_kl, passage_same, ..."""
    return {f"{what}_{name}": value for name, value in drift._asdict().items()}


@dataclass(frozen=True)
class _Tokens:
    """Token rows, and the positions in them that are compared: `lanes` says in which row each lies."""

    rows: Sequence[Sequence[int]]
    lanes: Sequence[int]
    positions: Sequence[int]

    @classmethod
    def at_end(cls, rows: Sequence[Sequence[int]]) -> _Tokens:
        """The last token of each row."""
        return cls(rows, range(len(rows)), [len(row) - 1 for row in rows])

    @property
    def next(self) -> list[int]:
        """The token that follows each position."""
        return [self.rows[lane][position + 1] for lane, position in zip(self.lanes, self.positions, strict=True)]

    def logprobs(self, lm: EditableModel) -> Tensor:
        return logits_at(lm, self.rows, self.lanes, self.positions).log_softmax(dim=-1)


def _mean_drift(lm: EditableModel, rows: Sequence[Sequence[int]], spans: Sequence[range], unedited: Unedited) -> Drift:
    """The mean over the positions in each row's span."""
    totals, count = [0.0] * len(Drift._fields), 0
    for chunk in chunks_by_cost([len(row) for row in rows], TOKENS_PER_PASS // 4):
        lanes = [lane for lane, i in enumerate(chunk) for _ in spans[i]]
        tokens = _Tokens([rows[i] for i in chunk], lanes, [t for i in chunk for t in spans[i]])
        totals = [
            total + float(values.sum())
            for total, values in zip(totals, _compare(lm, tokens, tokens, unedited), strict=True)
        ]
        count += len(lanes)
    return Drift(*(total / max(1, count) for total in totals))


@torch.no_grad()
def _compare(lm: EditableModel, after: _Tokens, before: _Tokens, unedited: Unedited) -> list[Tensor]:
    """The parts of `Drift`, each with one value for every position."""
    now = after.logprobs(lm)
    with unedited():
        then = before.logprobs(lm)
    return [_kl(then, now), *(_overlap(then, now, k).to(now.dtype) for k in (1, 5, 10))]


def _overlap(then: Tensor, now: Tensor, k: int) -> Tensor:
    """The share of the k most probable tokens that both have, position by position."""
    k = min(k, then.shape[-1])
    one, other = (values.topk(k, dim=-1).indices for values in (then, now))
    return (one[:, :, None] == other[:, None, :]).sum(dim=(1, 2)) / k


def _kl(before: Tensor, now: Tensor) -> Tensor:
    """KL(before || now) of log-probabilities, row by row."""
    terms = torch.where(before == -torch.inf, 0, before.exp() * (before - now))  # 0 log 0 is 0
    return terms.sum(dim=-1).clamp(min=0)


class KeptPassages:
    """The unedited model's log-probabilities on some texts, kept in main memory, so that they are computed once.

    Args:
        lm: the model with its unedited weights.
        texts: read up to their first `tokens` tokens.
    """

    def __init__(self, lm: EditableModel, texts: Sequence[str], tokens: int) -> None:
        self._lm = lm
        rows = passage_rows(lm, texts, tokens)
        chunks = chunks_by_cost([len(row) for row in rows], TOKENS_PER_PASS // 4)
        self._parts = [self._positions([rows[i] for i in chunk]) for chunk in chunks]
        self._before = [self._read(part).cpu() for part in self._parts]

    @staticmethod
    def _positions(rows: Sequence[Sequence[int]]) -> _Tokens:
        lanes = [lane for lane, row in enumerate(rows) for _ in row[1:]]
        return _Tokens(rows, lanes, [t for row in rows for t in range(len(row) - 1)])

    @torch.no_grad()
    def _read(self, tokens: _Tokens) -> Tensor:
        return tokens.logprobs(self._lm)

    def drift(self) -> float:
        """Mean KL(unedited || edited) in nats, with the model's weights as they are. Raises ModelError if its logits are not finite."""
        return self.drift_and_perplexity()[0]

    def drift_and_perplexity(self) -> tuple[float, float]:
        """As `drift`, and the perplexity of the texts, from the same passes."""
        apart, told = [], []
        for tokens, before in zip(self._parts, self._before, strict=True):
            now = self._read(tokens)
            apart.append(_kl(before.to(now.device), now))
            told.append(now.gather(1, torch.tensor(tokens.next, device=now.device)[:, None]).double())
        if not apart:
            return 0.0, 1.0
        nats = -float(torch.cat(told).mean())
        return float(torch.cat(apart).mean()), math.exp(min(nats, MOST_NATS))
