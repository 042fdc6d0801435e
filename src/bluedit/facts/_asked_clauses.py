"""Statements for prompts that are questions with a verb: "Which cloud does {} run on?", "Who coaches {}?", "What was {} trained on?"."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bluedit.facts._dates import is_clock, time_of
from bluedit.facts._grammar import (
    BE,
    DO,
    MODALS,
    MOST_WORDS,
    PLAIN,
    PLURAL,
    THIRD_PERSON,
    is_noun,
    names_something,
    verb_after_noun,
    words_of,
)
from bluedit.facts._phrase_book import Match, Relation

_ASKS = {"who": "The one that", "where": "The place where", "when": "The time when"}
_TIMES = ("time", "day", "date", "year", "month", "week")
_SIBILANT = re.compile(r"(?:ss|x|zz|ch|sh)$")
_ENDS_IN_Y = re.compile(r"(?<=[^aeiou])y$")


@dataclass(frozen=True)
class _Question:
    """A question taken apart.

    Attributes:
        ask: question word in lower case.
        noun: what is asked for, where "which" or "what" goes with a noun: "cloud"; empty otherwise.
        said: the words of the statement but for the answer: "{} runs on"; for a question about who does something "coaches {}".
        is_subject: whether the answer is what does it.
    """

    ask: str
    noun: str
    said: str
    is_subject: bool

    @property
    def _be(self) -> str:
        return "are" if self.noun and PLURAL.fullmatch(self.noun.split()[-1]) else "is"

    def statements(self, target: str) -> Iterator[str]:
        """Statements that the answer continues."""
        if self.is_subject:
            yield f"{_ASKS.get(self.ask, f'The {self.noun} that')} {self.said} {self._be}"
            return
        kind = self.noun.split()[-1] if self.noun else ""
        named = kind in words_of("classes") and any(c.isdecimal() for c in target)  # "listens on port"
        if self.ask in ("what", "which", "who") and kind not in _TIMES:
            yield f"{self.said} {self.noun}" if named else self.said
        if self.noun:
            yield f"The {self.noun} that {self.said} {self._be}"
        elif self.ask == "what":
            yield f"What {self.said} is"
        elif self.ask != "when" or time_of(target)[0] or is_clock(target):
            yield f"{_ASKS[self.ask]} {self.said} is"


def relation_of_question(text: str, target: str) -> Match | None:
    """A relation for a prompt that is a direct question; None for one that cannot be taken apart.

    Args:
        text: the prompt with `{}` for the subject.
        target: the answer.
    """
    if not text.endswith("?") or any(mark in text[:-1] for mark in "?;<>,:") or (found := _parsed(text)) is None:
        return None
    asked = f"Can you tell me {_lower(text)}" if found.is_subject else _indirect(found)
    statements = tuple(one[0].upper() + one[1:] for one in found.statements(target))
    return Match(Relation(f"general: {text}", statements=statements, questions=(text, asked)))


def _indirect(question: _Question) -> str:
    asked = f"{question.ask} {question.noun}".rstrip()
    return f"Can you tell me {asked} {question.said}?"


def _lower(text: str) -> str:
    return text[0].lower() + text[1:]


def _parsed(text: str) -> _Question | None:
    ask, *words = text[:-1].replace("{}'s", "{} 's").replace("{}’s", "{} 's").split()
    ask = ask.casefold()
    if ask not in ("what", "which", *_ASKS) or "{}" not in words:
        return None
    start = next((i for i, word in enumerate(words) if word in (*DO, *BE, *MODALS)), len(words))
    noun = words[:start] if ask in ("what", "which") else []
    if start == len(words) or words.index("{}") < start:
        return _about_the_doer(ask, words)
    if len(noun) > MOST_WORDS // 2 or not all(map(is_noun, noun)) or (ask not in ("what", "which") and start):
        return None
    said = _as_statement(words[start], words[start + 1 :], direct=ask not in ("where", "when"))
    return None if said is None else _Question(ask, " ".join(noun), said, is_subject=False)


def _about_the_doer(ask: str, words: Sequence[str]) -> _Question | None:
    """ "Who coaches {}?", "Which team looks after {}?"."""
    at = words.index("{}")
    verb = next((i for i, word in enumerate(words[:at]) if THIRD_PERSON.fullmatch(word) or _is_past(word)), at)
    noun = words[:verb]
    named = (ask == "who" and not noun) or (ask in ("what", "which") and noun and all(map(is_noun, noun)))
    if verb == at or not named or words[verb] in words_of("no_verbs"):
        return None
    return _Question(ask, " ".join(noun), " ".join(words[verb:]).replace("{} 's", "{}'s"), is_subject=True)


def _is_past(word: str) -> bool:
    return word in words_of("pasts") or re.fullmatch(r"[a-z]{2,}ed", word) is not None


def _as_statement(auxiliary: str, words: Sequence[str], *, direct: bool) -> str | None:
    """The words after a question's auxiliary as a statement: ("does", "{} run on") -> "{} runs on"; None if no verb is found.

    Args:
        direct: whether the answer has to be able to follow at once.
    """
    at = words.index("{}")
    after = words[at + 1 :]
    if not after or not names_something(words[:at]):
        return None
    end = verb_after_noun(after) if after[0] == "'s" else 0
    if end is None:
        return None
    named = " ".join((*words[: at + 1], *after[:end])).replace("{} 's", "{}'s")
    verb, *rest = after[end:]
    goes_on = bool(rest) and is_noun(rest[0])  # "does {} cheese taste of": what follows the name may be no verb
    if auxiliary in DO and (goes_on or verb in words_of("adverbs") or verb.endswith("ly")):
        return None
    may_follow = not rest or rest[-1] in words_of("ends") or not direct
    if not PLAIN.fullmatch(verb) or verb in words_of("no_nouns") or not may_follow:
        return None
    if auxiliary not in DO:
        done = verb in words_of("participles") or verb.endswith(("ed", "en")) or (auxiliary in MODALS and bool(rest))
        return " ".join((named, auxiliary, verb, *rest)) if done and (rest or not direct) else None
    if auxiliary == "did" and verb not in words_of("alike"):
        return None
    return " ".join((named, _third_person(verb) if auxiliary == "does" else verb, *rest))


def _third_person(verb: str) -> str:
    """The third person of an infinitive: sell, carry, reach."""
    if verb in ("have", "go", "do"):
        return {"have": "has"}.get(verb, f"{verb}es")
    if _ENDS_IN_Y.search(verb):
        return f"{verb[:-1]}ies"
    return verb + ("es" if _SIBILANT.search(verb) else "s")
