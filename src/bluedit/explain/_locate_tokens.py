"""Prompts of known facts as tokens, and the role of each token from the subject on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from bluedit.errors import ExplainError
from bluedit.evaluate.answers import score
from bluedit.explain.locate_data import FIRST, FURTHER, LAST, LAST_OF_SUBJECT, MIDDLE, NEXT
from bluedit.facts.fact import Fact
from bluedit.model.editable import EditableModel
from bluedit.progress import Progress
from bluedit.text.prompts import encode, encode_answer, last_token_of


@dataclass(frozen=True)
class Prompt:
    """A fact that the model knows.

    Attributes:
        fact: the fact.
        truth: its true answer.
        ids: tokens of the prompt.
        subject: (first, last) token of the subject.
        answer: first token of the answer.
    """

    fact: Fact
    truth: str
    ids: tuple[int, ...]
    subject: tuple[int, int]
    answer: int

    @classmethod
    def of(cls, tokenizer: Any, fact: Fact) -> Prompt:
        truth = true_answer(fact)
        ids, answer = encode_answer(tokenizer, fact.text, truth, fact.joined)
        start = fact.prompt.index("{}")
        _, offsets = encode(tokenizer, fact.text)
        last = last_token_of(offsets, start + len(fact.subject))
        first = next(i for i, (_, stop) in enumerate(offsets) if stop > start)
        return cls(fact, truth, tuple(ids), (min(first, last), last), answer[0])

    def roles(self) -> dict[str, list[int]]:
        """Tokens of each role that occurs. Nothing before the subject is affected by it, so those tokens have none.

        The prompt's last token is that even where it follows the subject at once, and a subject's only token is its last.
        """
        first, last = self.subject
        end = len(self.ids) - 1
        found = {
            FIRST: [first] if first < last else [],
            MIDDLE: list(range(first + 1, last)),
            LAST_OF_SUBJECT: [last] if last < end else [],
            NEXT: [last + 1] if last + 1 < end else [],
            FURTHER: list(range(last + 2, end)),
            LAST: [end],
        }
        return {role: tokens for role, tokens in found.items() if tokens}


def true_answer(fact: Fact) -> str:
    """What is true of a fact's prompt: its old target, or its target where it has none."""
    return fact.old_target if fact.old_target is not None else fact.target


def known_prompts(lm: EditableModel, facts: Sequence[Fact], count: int, progress: Progress) -> list[Prompt]:
    """The first `count` facts whose true answer the model gives, each token of it being its first choice.

    Raises:
        ExplainError: it knows none.
    """
    answers = score(lm, [(fact.text, true_answer(fact), fact.joined) for fact in facts], progress)
    known = [fact for fact, answer in zip(facts, answers, strict=True) if answer.said]
    if not known:
        shown = f", e.g. {facts[0].text!r} => {true_answer(facts[0])!r}" if facts else ""
        raise ExplainError(
            f"{lm.name} gives the true answer of none of the {len(facts)} facts{shown}, so there is nothing to trace; give facts that it knows "
            "(the true answer is `old_target`, or `target` where there is none), or leave out the tracing (facts=0, --count 0)"
        )
    return [Prompt.of(lm.tokenizer, fact) for fact in known[:count]]


@torch.no_grad()
def spread_of_embeddings(lm: EditableModel, prompts: Sequence[Prompt]) -> float:
    """Standard deviation of the numbers in the embeddings of all subjects' tokens."""
    tokens = [token for prompt in prompts for token in prompt.ids[prompt.subject[0] : prompt.subject[1] + 1]]
    embedded = lm.model.get_input_embeddings()(torch.tensor([tokens], device=lm.device))
    return float(embedded.float().std())
