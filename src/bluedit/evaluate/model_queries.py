"""Answers the queries of suites with a real model."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bluedit.evaluate._drift import Unedited, chat_drift, next_token_drift, passage_drift
from bluedit.evaluate._sampled import sampled
from bluedit.evaluate.answers import TOKENS_PER_PASS, perplexity, score, score_encoded
from bluedit.evaluate.data import Answer, Drift, Pair, Sampling
from bluedit.evaluate.generate import PROMPTS_PER_PASS, continuations
from bluedit.forward import past_of, shared_length
from bluedit.progress import Progress
from bluedit.text.chat import has_chat, in_chat
from bluedit.text.prompts import encode_answer

if TYPE_CHECKING:
    from bluedit.model.editable import EditableModel


@dataclass(frozen=True)
class ModelQueries:
    """The queries of `bluedit.evaluate.queries.Queries`, answered by a model with its present weights. Methods without a docstring are
    as described there.

    Attributes:
        lm: the model.
        unedited: a context manager inside which the model has its unedited weights; by default it is unedited already.
        progress: where to report progress.
        tokens_per_pass: most tokens of one forward pass when scoring.
        prompts_per_pass: most prompts continued at once.
    """

    lm: EditableModel
    unedited: Unedited = nullcontext
    progress: Progress = field(default_factory=Progress)
    tokens_per_pass: int = TOKENS_PER_PASS
    prompts_per_pass: int = PROMPTS_PER_PASS

    def score(self, pairs: Sequence[Pair]) -> list[Answer]:
        return score(self.lm, pairs, self.progress, tokens_per_pass=self.tokens_per_pass)

    def score_unedited(self, pairs: Sequence[Pair]) -> list[Answer]:
        with self.unedited():
            return self.score(pairs)

    def score_after(self, beginning: str, pairs: Sequence[tuple[str, str]]) -> list[Answer]:
        """Score pairs whose prompts all follow `beginning`. The tokens that all prompts share are run once and attended to from the cache.

        Raises:
            FactError: beginning and prompt together are longer than the model's context.
        """
        tokenizer = self.lm.tokenizer
        encoded = [encode_answer(tokenizer, beginning + prompt, answer) for prompt, answer in pairs]
        prompts = [prompt for prompt, _ in encoded]
        shared = (
            0
            if self.lm.cache_fault
            else min((min(shared_length(prompts[0], prompt), len(prompt) - 1) for prompt in prompts), default=0)
        )
        past = past_of(self.lm, [prompts[0][:shared]]) if shared else None
        return score_encoded(
            self.lm, [(prompt[shared:], answer) for prompt, answer in encoded], self.progress, past=past
        )

    def continuations(self, prompts: Sequence[str], tokens: int | Sampling) -> list[str]:
        if isinstance(tokens, Sampling):
            return sampled(self.lm, prompts, tokens, self.progress, self.prompts_per_pass)
        return continuations(self.lm, prompts, tokens, self.progress, prompts_per_pass=self.prompts_per_pass)

    def answer_length(self, prompt: str, answer: str, joined: bool | None = None) -> int:
        return len(encode_answer(self.lm.tokenizer, prompt, answer, joined)[1])

    def in_chat(self, prompt: str) -> str | None:
        return in_chat(self.lm, prompt) if has_chat(self.lm.tokenizer) else None

    def next_token_drift(self, prompts: Sequence[str], now: Sequence[str] | None = None) -> dict[str, Drift]:
        """As the protocol says; `now` is what the edited model reads in place of each prompt."""
        most = self.tokens_per_pass
        return next_token_drift(self.lm, prompts, self.unedited, self.progress, now=now, tokens_per_pass=most)

    def passage_drift(self, texts: Sequence[str], tokens: int) -> dict[str, float]:
        return passage_drift(self.lm, texts, tokens, self.unedited)

    def chat_drift(self) -> dict[str, float]:
        return chat_drift(self.lm, self.unedited)

    def perplexity(self, texts: Sequence[str], tokens: int) -> float:
        """Perplexity of the first `tokens` tokens of some texts."""
        return perplexity(self.lm, texts, tokens)
