"""Relations that the phrase book does not know, by the noun that a prompt calls them."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from bluedit.facts._dates import is_dated
from bluedit.facts._phrase_book import Match, Relation

_MOST_WORDS = 6
_NOUN, _OF = r"(?P<noun>[^{}?:]+?)", r"(?P<of>of|for|at|in|on|behind)"
_IS, _ASKS = r"is(?: called| named)?(?: (?P<at>in|at|on))?", r"(?P<asks>what|who|which|where|when)"
_FRAMES = tuple(
    re.compile(frame)
    for frame in (
        rf"{_NOUN} {_OF} \{{\}} {_IS}",
        rf"\{{\}} 's {_NOUN} {_IS}",
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
        data = _data()
        person = self.asks == "who" or (not self.at and self._is_somebody(target))
        kind = ("date" if is_dated(target) else "place") if self.at else "person" if person else "thing"
        questions = (text.replace("<ask>", data["ask"][kind]) for text in data["questions"])
        statements = data["person_statements" if person else "statements"]
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

    def _is_somebody(self, target: str) -> bool:
        head = self.noun.partition(" of ")[0]
        words = target.split()
        return (
            head.endswith(tuple(_data()["persons"].split("|")))
            and len(words) > 1
            and all(w[0].isupper() for w in words)
        )


def general_relation(key: str) -> General | None:
    """What a prompt in normal form asks for; None if it is not worded around a noun."""
    for frame in _FRAMES:
        if found := frame.fullmatch(key):
            noun, parts = found["noun"], found.groupdict()
            words = noun.split()
            if len(words) <= _MOST_WORDS and _no_nouns().isdisjoint(words) and words[-1] != "of":
                return General(noun, parts.get("of") or "of", parts.get("at") or "", parts.get("asks") or "")
    return None


@cache
def _data() -> dict[str, Any]:
    """`general.toml` (read once)."""
    return tomllib.loads(files("bluedit.facts").joinpath("general.toml").read_text(encoding="utf-8"))


@cache
def _no_nouns() -> frozenset[str]:
    return frozenset(word for group in _data()["no_nouns"] for word in group.split("|"))
