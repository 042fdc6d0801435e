"""The texts that ask for a fact: all ways in which people ask, other texts it was taught in, and its neighbours' prompts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bluedit.evaluate.asked import Way, ways_of
from bluedit.explain._edit_data import NEIGHBOUR, TAUGHT, Role
from bluedit.facts.fact import Fact
from bluedit.facts.places import other_name
from bluedit.facts.words import find_mention, is_question
from bluedit.methods.wordings import ChatForm, Wording, Wordings
from bluedit.spacing import continuation
from bluedit.text.prompts import encode, encode_exact, last_token_of, last_word_of
from bluedit.text.rows import Row, RowKind
from bluedit.writing.keys import KeyPlace


@dataclass(frozen=True)
class Text:
    """A text, and the answers that are compared after it.

    Attributes:
        way: the text, and when an answer says the fact.
        role: what it is to the fact.
        answer, rival: what follows it, white space included: the new answer, and the old one or the neighbour's own.
        rival_name: the rival as it is shown.
        end: where the subject ends in it, in characters; None if it does not name the subject.
    """

    way: Way
    role: Role
    answer: str
    rival: str | None
    rival_name: str | None
    end: int | None

    def pairs(self, tokenizer: Any) -> list[tuple[list[int], list[int]]]:
        """Token ids of (prompt, new answer) and, if there is one, (prompt, rival)."""
        answers = [self.answer] if self.rival is None else [self.answer, self.rival]
        return [encode_exact(tokenizer, self.way.text, answer) for answer in answers]

    def rows(self, tokenizer: Any) -> list[Row]:
        """A row that ends at each token whose key may matter: the subject's last one, or all if the subject is not named.

        The first token of a text is an attention sink, where nothing is stored: the one after it stands for it.
        """
        ids, offsets = encode(tokenizer, self.way.text)
        first = min(1, len(ids) - 1)
        places = range(first, len(ids)) if self.end is None else [max(first, last_token_of(offsets, self.end))]
        return [Row(0, RowKind.BARE, tuple(ids[: at + 1]), at) for at in places]

    def place(self, tokenizer: Any) -> KeyPlace:
        """Where its key is read, as for a text that is taught."""
        ids, offsets = encode(tokenizer, self.way.text)
        if self.end is None:
            return KeyPlace(after=False)
        if last_token_of(offsets, self.end) == 0 and len(ids) > 1:
            return KeyPlace(after=True)
        return KeyPlace(after=False, word=last_word_of(ids, offsets, self.way.text, self.end))


def texts_of(fact: Fact, wordings: Wordings, chat: ChatForm | None) -> list[Text]:
    """All texts of a fact: the prompt, what it was taught in, what else it is asked in, and its neighbours' prompts.

    Args:
        wordings: how it was taught.
        chat: the model's chat form; None if it has none.
    """
    taught = {wording.filled(fact.subject): wording for group in wordings.groups(fact, chat) for wording in group}
    ways = list(ways_of(fact, chat))
    found = [_asked(way, taught.pop(way.text, None), chat) for way in ways]
    # what is taught and nobody asks, such as the bare question, may be answered in a sentence
    found += [_asked(Way(fact, TAUGHT, text, text, question=True), wording, chat) for text, wording in taught.items()]
    order = list(Role)
    found.sort(key=lambda text: order.index(text.role))
    return [*found, *_neighbours(fact)]


def _asked(way: Way, wording: Wording | None, chat: ChatForm | None) -> Text:
    fact, text = way.fact, way.text
    old = fact.old_target
    if wording and wording.exact:
        rival = None if old is None else _with_answer(wording.answer, fact.target, old)
        return Text(way, _role(way, wording), wording.answer, rival, old, _end(fact, text, wording))
    if way.one_line or chat is None:
        joined = fact.joined if text == fact.text else None
        answer, rival = (None if one is None else continuation(text, one, joined) for one in (fact.target, old))
    else:
        answer, rival = (None if one is None else chat(way.prompt, one)[1] for one in (fact.target, old))
    assert answer is not None
    return Text(way, _role(way, wording), answer, rival, old, _end(fact, text, wording))


def _with_answer(sentence: str, target: str, other: str) -> str:
    """A taught sentence, which ends with the target, with another answer."""
    before, _, after = sentence.rpartition(target)
    return f"{before}{other}{after}"


def _role(way: Way, wording: Wording | None) -> Role:
    fact = way.fact
    if way.text == fact.text:
        return Role.PROMPT
    if wording:
        return Role.TAUGHT
    return Role.PARAPHRASE if way.prompt in fact.paraphrases else Role.UNTAUGHT


def _end(fact: Fact, text: str, wording: Wording | None) -> int | None:
    """Where the subject ends, in characters: in a template at its place, else at its last mention."""
    templates = [(wording.template, wording.name)] if wording else map(other_name, (fact.prompt, *fact.phrasings))
    for template, name in templates:
        named = name or fact.subject
        if template.replace("{}", named) == text:
            return template.index("{}") + len(named)
    found = [mention.end for name in fact.names if (mention := find_mention(text, name))]
    return max(found, default=None)


def _neighbours(fact: Fact) -> Iterator[Text]:
    for neighbour in fact.neighbours:
        prompt, own = neighbour.prompt, neighbour.answer
        way = Way(fact, NEIGHBOUR, prompt, prompt, is_question(prompt))
        rival = continuation(prompt, own) if own else None
        yield Text(way, Role.NEIGHBOUR, continuation(prompt, fact.target), rival, own, None)
