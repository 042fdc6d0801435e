"""What an edit should not touch: bundled ordinary questions, plain and in chat, and the perplexity of chat text."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import torch

from bluedit.evaluate.answers import score_encoded
from bluedit.evaluate.said import mentions, normal
from bluedit.evaluate.sentences import first_sentence, has_sentence
from bluedit.text.prompts import encode_exact
from bluedit.text.wordings import chat_form

if TYPE_CHECKING:
    from torch import Tensor

    from bluedit.evaluate._respondent import Respondent
    from bluedit.facts.fact import Fact
    from bluedit.model.editable import EditableModel
    from bluedit.progress import Progress

_ROOM = 16  # tokens of an answer
_SHOWN = 3
_MOST_NATS = 700.0  # exp of more overflows
_EDGES = " .,;:!?\"'*_`()"
_SUFFIX = re.compile(r"(?<=\w{3})(?:ing|ed|i?[es]*|y)$")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_NEGATION = re.compile(r"\b(?:not?|never|cannot)\b|n['’]t\b", re.IGNORECASE)
_WORD = re.compile(r"[^\W_]+(?:\.\d+)*")


@dataclass(frozen=True)
class Question:
    """An ordinary question. `plain` is a text to continue, `chat` a user's turn; one of them may be missing.

    Attributes:
        in_chat: whether a model with a chat form is asked in chat rather than plainly.
    """

    topic: str
    plain: str | None
    chat: str | None
    in_chat: bool = False


@dataclass(frozen=True, eq=False)
class Heard:
    """What a model answers to a question in one form ("plain" or "chat").

    Attributes:
        prompt: the question, without a chat template.
        text: the first sentence of the greedy answer, or its first tokens.
        first: log-probabilities of the first token.
    """

    form: str
    prompt: str
    text: str
    first: Tensor


@dataclass(frozen=True)
class Moved:
    """One answer before and after an edit.

    Attributes:
        kl: KL(before || after) of the first token in nats.
        same: whether both texts are the same up to case, punctuation and white space.
        alike: whether they say the same, in the same words or in others (`says_the_same`).
    """

    form: str
    prompt: str
    before: str
    after: str
    kl: float
    same: bool
    alike: bool


@dataclass(frozen=True)
class Bystanders:
    """Answers to ordinary questions before and after an edit.

    Attributes:
        asked, same, alike: by form, how many were asked, how many first answers are unchanged, and how many still say the same.
        kl: KL(before || after) of the first token in nats, mean over all questions.
        answers: all answers; those that say something else come first, then changed ones, then those with the highest KL.
    """

    asked: dict[str, int]
    same: dict[str, int]
    alike: dict[str, int]
    kl: float
    answers: tuple[Moved, ...]

    @property
    def worst(self) -> tuple[Moved, ...]:
        """The answers that changed most."""
        return self.answers[:_SHOWN]


@cache
def _bundled() -> dict[str, Any]:
    return tomllib.loads(resources.files("bluedit.evaluate").joinpath("bystanders.toml").read_text("utf-8"))


@cache
def _function_words() -> frozenset[str]:
    return frozenset(_bundled()["function_words"].split())


@cache
def bystander_questions() -> tuple[Question, ...]:
    """The bundled questions. Every other one is asked in chat, and those that have one form only in that."""
    found = [
        (topic["name"], entry.get("plain"), entry.get("chat"))
        for topic in _bundled()["topic"]
        for entry in topic["questions"]
    ]
    return tuple(
        Question(topic, plain, chat, in_chat=bool(chat) and (number % 2 == 1 or not plain))
        for number, (topic, plain, chat) in enumerate(found)
    )


@cache
def chat_turns() -> tuple[tuple[str, str], ...]:
    """The bundled chat turns: (user's, assistant's)."""
    return tuple((turn["user"], turn["assistant"]) for turn in _bundled()["turn"])


def questions_beside(facts: Sequence[Fact]) -> list[Question]:
    """The bundled questions that do not name a subject of these facts, by any of its names: an answer about it may change."""
    names = {name for fact in facts for name in fact.names}
    return [
        question
        for question in bystander_questions()
        if not any(mentions(text, name) for text in (question.plain, question.chat) if text for name in names)
    ]


def ask_bystanders(
    respondent: Respondent, questions: Sequence[Question], *, both: bool = False, before: Sequence[Heard] = ()
) -> tuple[Heard, ...]:
    """The answers of a model. Without a chat form all are texts to continue; with one, each question is asked in its own form.

    Args:
        both: ask each question in both forms, which takes twice as long.
        before: answers before an edit. Most are still the same, which takes less time to check than to write.
    """
    known = {(one.form, one.prompt): one.text for one in before}
    chat = respondent.chat
    ways: list[tuple[str, str, str]] = []
    for question in questions:
        in_chat = chat and question.chat and (both or question.in_chat or not question.plain)
        if question.plain and (both or not in_chat):
            ways.append(("plain", question.plain, question.plain))
        if chat and question.chat and in_chat:
            ways.append(("chat", question.chat, chat(question.chat, "Yes.")[0]))
    written = respondent.write(
        [text for *_, text in ways],
        [_ROOM] * len(ways),
        lambda _, text: has_sentence(text),
        first=True,
        expected=[known.get((form, prompt), "") for form, prompt, _ in ways] if known else (),
    )
    return tuple(
        Heard(form, prompt, first_sentence(one.text), one.first)
        for (form, prompt, _), one in zip(ways, written, strict=True)
        if one.first is not None
    )


def same_answer(one: str, other: str) -> bool:
    """Whether two first sentences are the same up to case, typography, white space, and punctuation at their ends."""
    return normal(one).strip(_EDGES) == normal(other).strip(_EDGES)


def says_the_same(question: str, one: str, other: str) -> bool:
    """Whether two answers to a question say the same by their words.

    Function words and words of the question do not count, nor do the endings of words. Two answers say the same if their numbers are the
    same and either one has all words of the other, or they share at least half of all their words. Where one of them says "not", the other
    has to. The whole answers are compared, then what comes before their first comma.
    """
    if same_answer(one, other):
        return True
    one, other = _THOUSANDS.sub("", one), _THOUSANDS.sub("", other)
    if bool(_NEGATION.search(one)) != bool(_NEGATION.search(other)):
        return False
    asked = _content(question)
    whole, beginnings = (one, other), (one.partition(",")[0], other.partition(",")[0])
    return any(_overlap(*(_content(text) - asked for text in pair)) for pair in (whole, beginnings))


def _overlap(left: set[str], right: set[str]) -> bool:
    if not left or not right or {w for w in left if w[0].isdecimal()} != {w for w in right if w[0].isdecimal()}:
        return False
    shared = left & right
    return shared in (left, right) or 2 * len(shared) >= len(left | right)


def _content(text: str) -> set[str]:
    words = set(_WORD.findall(normal(text))) - _function_words()
    return {_SUFFIX.sub("", word) if word.isalpha() else word for word in words}


def compare_bystanders(before: Sequence[Heard], after: Sequence[Heard]) -> Bystanders | None:
    """Two rounds of the same questions; None if none was asked."""
    moved = [
        Moved(
            *(b.form, b.prompt, b.text, a.text, _kl(b.first, a.first)),
            same=same_answer(b.text, a.text),
            alike=says_the_same(b.prompt, b.text, a.text),
        )
        for b, a in zip(before, after, strict=True)
    ]
    if not moved:
        return None
    forms = sorted({one.form for one in moved}, reverse=True)
    by_form = {form: [one for one in moved if one.form == form] for form in forms}
    return Bystanders(
        asked={form: len(own) for form, own in by_form.items()},
        same={form: sum(one.same for one in own) for form, own in by_form.items()},
        alike={form: sum(one.alike for one in own) for form, own in by_form.items()},
        kl=math.fsum(one.kl for one in moved) / len(moved),
        answers=tuple(sorted(moved, key=lambda one: (one.alike, one.same, -one.kl))),
    )


def _kl(before: Tensor, after: Tensor) -> float:
    before, after = before.double(), after.double()
    terms = torch.where(before == -torch.inf, 0.0, before.exp() * (before - after))  # 0 log 0 is 0
    return max(0.0, float(terms.sum()))


def encoded_turns(lm: EditableModel) -> list[tuple[list[int], list[int]]]:
    """Token ids of each bundled chat turn that fits the model's context, (up to the reply, the reply), in the model's template. Empty
    without a template."""
    chat = chat_form(lm.tokenizer)
    turns = [chat(user, assistant) for user, assistant in chat_turns()] if chat else []
    encoded = [encode_exact(lm.tokenizer, before, reply) for before, reply in turns if reply]
    return [(prompt, reply) for prompt, reply in encoded if len(prompt) + len(reply) <= lm.max_length]


def chat_perplexity(lm: EditableModel, progress: Progress | None = None) -> float | None:
    """Perplexity of the assistant's tokens in the bundled chat turns, put through the model's template; None if it has none, or if none
    fits its context.

    Raises:
        ModelError: the model's logits are not finite.
    """
    encoded = encoded_turns(lm)
    if not encoded:
        return None
    answers = score_encoded(lm, encoded, progress)
    loss = -math.fsum(answer.logprob for answer in answers) / sum(answer.tokens for answer in answers)
    return math.exp(min(loss, _MOST_NATS))
