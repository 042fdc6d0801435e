"""Asking a model for facts as people ask, and keeping the text that it generates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bluedit.evaluate.said import mentions, said
from bluedit.methods.wordings import is_question

if TYPE_CHECKING:
    from bluedit.evaluate._respondent import Respondent
    from bluedit.facts.fact import Fact
    from bluedit.methods.wordings import ChatForm

FORMS = {
    "prompt": "the very prompt",
    "phrasing": "another phrasing",
    "question": '"Question: ... Answer:"',
    "paraphrase": "a paraphrase, never taught",
    "chat": "the question in chat",
}
_SPARE = 8  # tokens beyond the target's own, enough to see where it ends
_SENTENCE = 24  # tokens beyond the target's own of an answer in a sentence


@dataclass(frozen=True)
class Reply:
    """What a model answers when it is asked for a fact.

    Attributes:
        form: a key of FORMS.
        prompt: the text it was given; in chat the user's turn, without the template.
        text: its greedy continuation; outside chat only the first line, unless the target has several.
        said: whether that says the target (see `bluedit.evaluate.said`): a statement must go on with it, the answer to a question
            must contain it.
    """

    form: str
    prompt: str
    text: str
    said: bool


@dataclass(frozen=True)
class _Way:
    """One way to ask: its form, the prompt as it is shown and as the model gets it, and whether it is a question."""

    form: str
    prompt: str
    text: str
    question: bool


def ask_facts(respondent: Respondent, facts: Sequence[Fact], *, only_prompts: bool = False) -> list[tuple[Reply, ...]]:
    """The replies of a model to each fact: to its prompt and, unless `only_prompts`, to its phrasings, paraphrases and chat question."""
    chat = None if only_prompts else respondent.chat
    ways = [list(_ways(fact, chat))[: 1 if only_prompts else None] for fact in facts]
    asked = [(fact, way) for fact, own in zip(facts, ways, strict=True) for way in own]
    rooms = [
        respondent.answer_length(fact.text, fact.target, fact.joined) + (_SENTENCE if way.question else _SPARE)
        for fact, way in asked
    ]
    written = iter(respondent.write([way.text for _, way in asked], rooms))
    return [
        tuple(_reply(fact, way, text.text) for way, text in zip(own, written, strict=False))
        for fact, own in zip(facts, ways, strict=True)
    ]


def _ways(fact: Fact, chat: ChatForm | None) -> Iterator[_Way]:
    """The prompt comes first."""
    yield _Way("prompt", fact.text, fact.text, is_question(fact.text))
    questions = [text for text in fact.texts if is_question(text)]
    for text in fact.texts[1:]:
        if text not in questions:
            yield _Way("phrasing", text, text, question=False)
    for text in questions:
        yield _Way("question", text, _as_question(text), question=True)
    for text in fact.paraphrases:
        question = is_question(text)
        yield _Way("paraphrase", text, _as_question(text) if question else text, question)
    if chat:
        turn = next(iter(questions), fact.text)
        yield _Way("chat", turn, chat(turn, fact.target)[0], question=True)


def _as_question(text: str) -> str:
    return f"Question: {text}\nAnswer:"


def _reply(fact: Fact, way: _Way, text: str) -> Reply:
    text = text.strip()
    if way.form != "chat" and "\n" not in fact.target:
        text = text.partition("\n")[0].rstrip()
    holds = mentions if way.question else said
    return Reply(way.form, way.prompt, text, holds(text, fact.target))
