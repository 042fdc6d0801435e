"""What a suite can ask a model. `bluedit.evaluate.model_queries` asks a real model; tests pass an object with canned answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from bluedit.evaluate.data import Answer, Drift, Pair, Sampling


class Queries(Protocol):
    """A model to be measured."""

    def score(self, pairs: Sequence[Pair]) -> list[Answer]:
        """Score (prompt, answer) pairs."""
        ...

    def score_unedited(self, pairs: Sequence[Pair]) -> list[Answer]:
        """The same with the unedited weights."""
        ...

    def score_after(self, beginning: str, pairs: Sequence[tuple[str, str]]) -> list[Answer]:
        """Score pairs whose prompts all follow the same text, such as few-shot examples."""
        ...

    def continuations(self, prompts: Sequence[str], tokens: int | Sampling) -> list[str]:
        """Greedy continuations of at most `tokens` tokens, or sampled ones."""
        ...

    def answer_length(self, prompt: str, answer: str, joined: bool | None = None) -> int:
        """Number of tokens of an answer."""
        ...

    def in_chat(self, prompt: str) -> str | None:
        """The prompt in the model's chat template; None if it has none."""
        ...

    def next_token_drift(self, prompts: Sequence[str]) -> Mapping[str, Drift]:
        """For each prompt, how far the distribution of the next token has moved from the unedited model's."""
        ...

    def passage_drift(self, texts: Sequence[str], tokens: int) -> dict[str, float]:
        """The same as metrics (`passage_kl`, ...), mean over the first `tokens` tokens of some texts."""
        ...

    def chat_drift(self) -> dict[str, float]:
        """The same as metrics (`chat_kl`, ...), mean over the assistant's tokens of the bundled chat turns; empty without a chat
        template."""
        ...

    def perplexity(self, texts: Sequence[str], tokens: int) -> float:
        """Perplexity of the first `tokens` tokens of some texts."""
        ...


class Pairs:
    """Collects (prompt, answer) pairs, so that each is scored once however many metrics need it."""

    def __init__(self) -> None:
        self._places: dict[Pair, int] = {}

    def add(self, prompt: str, answer: str, joined: bool | None = None) -> int:
        """Index of this pair in the scored answers; `joined` says whether the answer follows without a space."""
        pair = (prompt, answer) if joined is None else (prompt, answer, joined)
        return self._places.setdefault(pair, len(self._places))

    def add_two(self, prompt: str, first: str, second: str) -> tuple[int, int]:
        """Indices of two answers to one prompt."""
        return self.add(prompt, first), self.add(prompt, second)

    @property
    def all(self) -> list[Pair]:
        """Every pair, in the order of the indices."""
        return list(self._places)
