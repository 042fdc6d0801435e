"""Asking a model for facts as people ask, and keeping the text that it generates: which texts ask for a fact, how much it may write, and
when that says the fact."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bluedit.evaluate.said import mentions, said
from bluedit.evaluate.sentences import up_to
from bluedit.facts.words import is_question

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
        text: its greedy continuation; outside chat only the first line, unless the target has several. The answer to a question ends with
            the sentence that says the target.
        said: whether that says the target (see `bluedit.evaluate.said`): a statement must go on with it, the answer to a question
            must contain it.
    """

    form: str
    prompt: str
    text: str
    said: bool


@dataclass(frozen=True)
class Way:
    """One way to ask for a fact.

    Attributes:
        fact: what is asked for.
        form: a key of FORMS.
        prompt: the text as it is shown; in chat the user's turn, without the template.
        text: the text as the model gets it.
        question: whether it is a question, so that the answer may say the target in a sentence.
        one_line: whether only the first line of the answer counts.
    """

    fact: Fact
    form: str
    prompt: str
    text: str
    question: bool
    one_line: bool = True

    def room(self, respondent: Respondent) -> int:
        """Most tokens of an answer: the target's own, and some to see how it goes on."""
        fact = self.fact
        length = respondent.answer_length(fact.text, fact.target, fact.joined)
        return length + (_SENTENCE if self.question else _SPARE)

    def is_answered(self, text: str) -> bool:
        """Whether the reply would be the same if the text went on."""
        return ("\n" in text.lstrip() and self._is_cut) or (self.question and up_to(text, self.fact.target) is not None)

    def reply(self, text: str) -> Reply:
        """What a generated text answers, and whether that says the fact. The answer to a question ends with the sentence that says it."""
        text, target = text.strip(), self.fact.target
        if self._is_cut:
            text = text.partition("\n")[0].rstrip()
        if self.question:
            text = up_to(text, target) or text
        holds = mentions if self.question else said
        return Reply(self.form, self.prompt, text, holds(text, target))

    @property
    def _is_cut(self) -> bool:
        return self.one_line and "\n" not in self.fact.target


def ways_of(fact: Fact, chat: ChatForm | None) -> Iterator[Way]:
    """All ways to ask for a fact. The prompt comes first; the chat form, if the model has one, last."""
    yield Way(fact, "prompt", fact.text, fact.text, is_question(fact.text))
    questions = [text for text in fact.texts if is_question(text)]
    for text in fact.texts[1:]:
        if text not in questions:
            yield Way(fact, "phrasing", text, text, question=False)
    for text in questions:
        yield Way(fact, "question", text, _as_question(text), question=True)
    for text in fact.paraphrases:
        question = is_question(text)
        yield Way(fact, "paraphrase", text, _as_question(text) if question else text, question)
    if chat:
        turn = next(iter(questions), fact.text)
        yield Way(fact, "chat", turn, chat(turn, fact.target)[0], question=True, one_line=False)


def _as_question(text: str) -> str:
    return f"Question: {text}\nAnswer:"


def ask(respondent: Respondent, ways: Sequence[Way]) -> list[Reply]:
    """The model's reply to each way of asking."""
    rooms = [way.room(respondent) for way in ways]
    written = respondent.write([way.text for way in ways], rooms, lambda number, text: ways[number].is_answered(text))
    return [way.reply(text.text) for way, text in zip(ways, written, strict=True)]


def ask_facts(respondent: Respondent, facts: Sequence[Fact], *, only_prompts: bool = False) -> list[tuple[Reply, ...]]:
    """The replies of a model to each fact: to its prompt and, unless `only_prompts`, to its phrasings, paraphrases and chat question."""
    chat = None if only_prompts else respondent.chat
    ways = [list(ways_of(fact, chat))[: 1 if only_prompts else None] for fact in facts]
    replies = iter(ask(respondent, [way for own in ways for way in own]))
    return [tuple(next(replies) for _ in own) for own in ways]
