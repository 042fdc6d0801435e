"""Relations that the phrase book does not know: by the noun that a prompt calls them, or by its verb."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from bluedit.facts._dates import is_clock, is_dated
from bluedit.facts._phrase_book import Match, Relation

_MOST_WORDS = 6
_BE = ("is", "are", "was", "were")
_AT, _WHERE = ("in", "at", "on", "near"), ("from", "to")  # asked with where or when; asked with where
_ENDS = (*_AT, *_WHERE, "by", "with", "for", "of", "as", "about", "against")  # of a prompt, before the answer
_THIRD_PERSON = re.compile(r"[a-z]{2,}[a-rt-z]s|[a-z]+(?:ss|x|z|ch|sh|o)es")
_SIBILANTS = ("sses", "xes", "zzes", "ches", "shes", "oes")
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
        return head.endswith(tuple(_data()["persons"].split("|"))) and _looks_like_a_name(target)


def relation_of_verb(after: Sequence[str], target: str) -> Match | None:
    """A relation for a prompt such as "{} is insured by" or "{} ships from"; None for every other.

    Args:
        after: the prompt's words after its subject.
        target: the answer, which decides between question words.
    """
    data, (verb, *rest) = _data(), after or ("",)
    last = rest[-1] if rest else ""
    if any("<" in word or ">" in word for word in after):  # these mark the slots of templates
        return None
    if len(rest) > _MOST_WORDS or not _no_nouns().isdisjoint(rest[:-1]) or (rest and last not in _ENDS):
        return None
    if verb in _BE and len(rest) > 1:
        auxiliary, main = verb, ()
    elif _THIRD_PERSON.fullmatch(verb) and verb not in data["no_verbs"].split("|"):
        auxiliary, main = "does", (_infinitive(verb),)
    else:
        return None
    kind = _asked_after(last, target)
    kept = rest[:-1] if last in _AT else rest
    asked = " ".join((data["ask"][kind], auxiliary, "{}", *main, *kept))
    statement = " ".join(("{}", *after))
    more = (text.replace("<statement>", statement) for text in data["verb_statements"])
    questions = (f"{asked}?", f"Tell me, {asked[0].lower()}{asked[1:]}?")
    return Match(Relation(f"general: {' '.join(after)}", statements=(statement, *more), questions=questions))


def _asked_after(preposition: str, target: str) -> str:
    """What is asked for: a person, a thing, a place or a date."""
    if preposition in _AT:
        return "date" if is_dated(target) or is_clock(target) else "place"
    if preposition in _WHERE:
        return "place"
    return "person" if preposition == "by" and _looks_like_a_name(target) else "thing"


def _looks_like_a_name(target: str) -> bool:
    words = target.split()
    return len(words) > 1 and all(word[0].isupper() for word in words)


def _infinitive(verb: str) -> str:
    """The infinitive of a verb in the third person: sells, carries, reaches."""
    if verb.endswith("ies") and len(verb) > 4:
        return verb[:-3] + "y"
    return verb[:-2] if verb.endswith(_SIBILANTS) else verb[:-1]


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
