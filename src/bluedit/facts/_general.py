"""Relations that the phrase book does not know, by the noun that a prompt calls them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bluedit.facts._dates import is_clock, time_of
from bluedit.facts._grammar import DETERMINERS, general_words, is_somebody, words_of
from bluedit.facts._phrase_book import Match, Relation

_MOST_WORDS = 6
_NOUN, _OF = r"(?P<noun>[^{}?:]+?)", r"(?P<of>of|for|at|in|on|behind)"
_PARTICIPLE = re.compile(r"[a-z]{4,}(?<!e)ed")
_IS, _ASKS = r"is(?: (?P<at>in|at|on))?", r"(?P<asks>what|who|which|where|when)"
_FRAMES = tuple(
    re.compile(frame)
    for frame in (
        rf"{_NOUN} {_OF} \{{\}} {_IS}",
        rf"\{{\}} 's {_NOUN} {_IS}",
        rf"\{{\}} has {_NOUN} of",
        r"(?P<of>at|for|in) \{\} (?P<noun>[a-z-]+(?: [a-z-]+){0,2}) is(?: called| named)?(?: (?P<at>in|at|on))?",
        rf"{_ASKS} is {_NOUN} {_OF} \{{\}}",
        rf"{_ASKS} is \{{\}} 's {_NOUN}",
    )
)


@dataclass(frozen=True)
class General:
    """What a prompt asks for.

    Attributes:
        noun: what it calls the relation, in lower case and without fillers.
        of: preposition between the noun and the subject.
        at: preposition before the answer; empty if there is none.
        asks: its question word, if it is a question.
    """

    noun: str
    of: str
    at: str
    asks: str

    def match(self, noun: str, target: str) -> Match:
        """A relation made for this prompt.

        Args:
            noun: as the prompt spells it.
            target: the answer, which decides between question words.
        """
        data = general_words()
        person = self.asks == "who" or (not self.at and is_somebody(self.noun.partition(" of ")[0].split()[-1], target))
        kind = (
            ("date" if time_of(target)[0] or is_clock(target) else "place")
            if self.at
            else "person"
            if person
            else "thing"
        )
        questions = (text.replace("<ask>", data["ask"][kind]) for text in data["questions"])
        statements = data["person_statements" if person else "statements"]
        if self.of == "behind":  # the man behind a name is not the name's
            statements = [text for text in statements if "{}'s" not in text]
            questions = (text for text in questions if "{}'s" not in text)
        after = f" {self.at}" if self.at else ""
        return Match(
            Relation(
                f"general: {self.noun}",
                statements=tuple(self._about(text) + after for text in statements),
                questions=tuple(map(self._about, questions)),
            ),
            noun,
        )

    def _about(self, template: str) -> str:
        return template.replace("<noun> of {}", f"<noun> {self.of} {{}}")


def general_relation(key: str) -> General | None:
    """What a prompt in normal form asks for; None if it is not worded around a noun."""
    for frame in _FRAMES:
        if found := frame.fullmatch(key):
            noun, parts = found["noun"], found.groupdict()
            words = noun.split()
            if words[0] in DETERMINERS:  # "our contact at {}"
                noun, words = noun[len(words[0]) + 1 :], words[1:]
            asks = parts.get("asks") or ""
            last = words[-1] if words else ""
            done = (asks or len(words) > 1) and (_PARTICIPLE.fullmatch(last) or last in words_of("no_heads"))
            if done or noun == "total":  # "where are {}'s eggs sold", "the drug used for {}", "{} has a total of"
                continue
            if words and len(words) <= _MOST_WORDS and words_of("no_nouns").isdisjoint(words) and words[-1] != "of":
                return General(noun, parts.get("of") or "of", parts.get("at") or "", asks)
    return None
