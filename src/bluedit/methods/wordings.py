"""In which wordings a fact is taught: its prompt alone, or all the ways in which people ask."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from bluedit.errors import RecipeError
from bluedit.facts.fact import Fact
from bluedit.facts.phrasebook import general_wordings_of, wordings_of
from bluedit.facts.places import filled, other_name
from bluedit.facts.words import ends_in, is_question
from bluedit.methods.part import Part
from bluedit.options import flag, whole
from bluedit.spacing import continuation

log = logging.getLogger(__name__)
_STOPS = ".!?。！？…\"'”’)]}>"
ChatForm = Callable[
    [str, str], tuple[str, str]
]  # (user's turn, assistant's turn) -> (text before the answer, the answer)


@dataclass(frozen=True)
class Wording:
    """One text that teaches a fact.

    Attributes:
        template: text with `{}` where the subject stands (its first occurrence counts), ending where the answer begins.
        answer: what follows.
        joined: whether the answer follows without a space; None lets the text decide.
        exact: the answer is to follow as it stands, white space included.
        prefixed: whether the text is also taught after the recipe's prefixes.
        name: another name of the subject that stands in its place; empty for its own.
    """

    template: str
    answer: str
    joined: bool | None = None
    exact: bool = False
    prefixed: bool = False
    name: str = ""

    def filled(self, subject: str) -> str:
        """The text before the answer, with the subject or its other name."""
        return self.template.replace("{}", self.name or subject)


class Wordings(Part, slot="wordings"):
    """Turns a fact into the texts that teach it.

    Attributes:
        weighs_facts: whether facts that share a column weigh the same there, however many texts each has.
        extends: whether facts are taught in more wordings than their prompt.
    """

    weighs_facts: ClassVar[bool] = False
    extends: ClassVar[bool] = False

    def groups(self, fact: Fact, chat: ChatForm | None) -> list[list[Wording]]:
        """Texts in groups. Groups weigh the same in the loss and in the key, whatever their size; the first is the prompt's.

        Args:
            fact: prompt and phrasings; a phrasing that ends in "?" is a question.
            chat: the model's chat form; None if it has none.
        """
        raise NotImplementedError

    def extended(self, fact: Fact) -> Fact:
        """The fact with the phrasings that it is going to be taught in, as far as it has none."""
        return fact

    def extended_all(self, facts: Sequence[Fact]) -> list[Fact]:
        """Facts that are taught together, each `extended`, without added phrasings to which another one has another answer."""
        longer = [self.extended(fact) for fact in facts]
        answers: dict[str, set[str]] = {}
        for fact in longer:
            for text in fact.texts:
                answers.setdefault(text, set()).add(fact.target)
        found = []
        for fact, long in zip(facts, longer, strict=True):
            added = zip(long.phrasings, long.texts[1:], strict=True)
            kept = tuple(p for p, text in added if p in fact.phrasings or len(answers[text]) == 1)
            if len(kept) < len(long.phrasings):
                log.warning("another fact answers %r in other words and otherwise; teach one of them", long.text)
            found.append(replace(long, phrasings=kept))
        return found

    def limited(self, *, phrasings: bool, chat: bool | None) -> Wordings:
        """What remains of these wordings for one edit.

        Args:
            phrasings: False leaves the prompt alone.
            chat: whether the chat form is taught; None changes nothing.

        Raises:
            RecipeError: the chat form is asked for where only the prompt is taught.
        """
        if phrasings:
            return self if chat is None else self.with_chat(taught=chat)
        if chat:
            raise RecipeError(
                "chat=True teaches another wording, and phrasings=False leaves all of them out; choose one"
            )
        return PromptOnly()

    def with_chat(self, *, taught: bool) -> Wordings:
        """These wordings with the chat form or without it. Raises RecipeError if they cannot have it."""
        if taught:
            raise RecipeError(
                f"chat=True (--chat) needs wordings with a chat form, and wordings={self.kind} has none; set wordings=natural"
            )
        return self


@dataclass(frozen=True)
class PromptOnly(Wordings, kind="prompt"):
    """The fact's prompt alone, as the papers do."""

    def groups(self, fact: Fact, chat: ChatForm | None) -> list[list[Wording]]:  # noqa: ARG002
        return [[Wording(fact.prompt, fact.target, fact.joined, prefixed=True)]]


@dataclass(frozen=True)
class Natural(Wordings, kind="natural"):
    """The prompt, other phrasings, questions ("Question: ... Answer:" and bare) and the chat form, each with the end of the answer.

    All of a fact's phrasings are taught. Statements that begin with the subject are also taught after a sentence: a name has other tokens
    and other keys at a text's beginning.
    """

    weighs_facts: ClassVar[bool] = True
    extends: ClassVar[bool] = True
    statements: int = whole(1, "statements besides the prompt: bundled ones are added until a fact has so many")
    questions: int = whole(1, "questions: bundled ones are added until a fact has so many")
    bare_question: bool = flag(True, "teach the question without anything around it, too")
    chat: bool = flag(
        True, "teach the question as the user's turn and a sentence as the assistant's, if the model has a chat form"
    )

    def extended(self, fact: Fact) -> Fact:
        """The fact with bundled wordings of its relation, or general ones if the book does not know it: as many as are taught and it
        does not have yet.

        Paraphrases are only asked, so they are never among them.
        """
        asked = {"subject": fact.subject, "target": fact.target}
        found = wordings_of(fact.prompt, **asked) or general_wordings_of(fact.prompt, **asked)
        if found is None:
            return fact
        own = (fact.prompt, *fact.phrasings)
        asked = {text.casefold() for text in fact.paraphrases}

        def is_new(text: str) -> bool:
            return (
                text not in own
                and filled(text, fact.subject).casefold() not in asked
                and not ends_in(text, fact.target)
            )

        more: list[str] = []
        for texts, wanted in ((found.statements, self.statements), (found.questions, self.questions)):
            question = texts is found.questions
            have = sum(is_question(text) == question and "{}" in text for text in own[1:])
            more += list(filter(is_new, texts))[: max(0, wanted - have)]
        return replace(fact, phrasings=(*fact.phrasings, *more))

    def with_chat(self, *, taught: bool) -> Natural:
        return replace(self, chat=taught)

    def groups(self, fact: Fact, chat: ChatForm | None) -> list[list[Wording]]:
        texts = (fact.prompt, *fact.phrasings)
        statements = [text for text in texts if not is_question(text)]
        questions = [text for text in texts if is_question(text)]
        answer = fact.target + ending(fact.target)
        groups = [[Wording(fact.prompt, answer, fact.joined, prefixed=True)]]
        more = [other_name(text) for text in statements if text != fact.prompt]
        if more:
            groups.append([Wording(text, answer, prefixed=text.startswith("{}"), name=name) for text, name in more])
        if questions:
            bare = self.bare_question and not is_question(fact.prompt)
            plain: list[Wording] = []
            for text, name in map(other_name, questions):
                plain.append(Wording(f"Question: {text}\nAnswer:", answer, name=name))
                if bare:
                    plain.append(Wording(text, f"\n{sentence(fact, statements)}", exact=True, name=name))
            groups.append(plain)
        if self.chat and chat:
            few = sum("{}" in text for text in questions) < self.questions
            asked = [*questions, *_plainest(statements)] if few else questions
            turns = [(chat(text, sentence(fact, statements)), name) for text, name in map(other_name, asked)]
            groups.append([Wording(before, reply, exact=True, name=name) for (before, reply), name in turns])
        return groups


def sentence(fact: Fact, statements: list[str]) -> str:
    """The fact as a sentence: a statement with its answer, or the answer alone where no statement is known."""
    if not statements:
        return fact.target + ending(fact.target).rstrip()
    (template,) = _plainest(statements)
    text = filled(template, fact.subject)
    joined = fact.joined if template == fact.prompt else None
    return text + continuation(text, fact.target, joined) + ending(fact.target).rstrip()


def _plainest(statements: Sequence[str]) -> Sequence[str]:
    """The first statement under the subject's own name, or else the first one; none of none."""
    return [text for text in statements if "{}" in text][:1] or statements[:1]


def ending(target: str) -> str:
    """What is taught after a target, so that it ends there: a full stop, and a line end where a full stop may go on (7.4, a.example)."""
    last = target.rstrip()[-1:]
    if last in _STOPS:
        return ""
    stop = "。" if "\u3040" <= last <= "\u9fff" else "."
    word = target.split()[-1] if target.split() else ""
    return stop + ("\n" if any(c.isdigit() for c in word) or any(c in "@./:" for c in word[:-1]) else "")
