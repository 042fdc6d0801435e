"""What the general wordings know of English: the word lists of `general.toml`, and what a prompt's sentence is about, with the subject in
it ("the drug {}", "visiting hours on {}", "{}'s sales team", "{} cheese")."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import Any

DETERMINERS = frozenset(("the", "a", "an", "our", "my", "your", "their", "his", "her", "its", "this"))
MOST_WORDS = 8
_MOST_NOUNS = 2  # beside a name: "the board game {}"
BE = ("is", "are", "was", "were")
MODALS = ("can", "could", "will", "would", "should", "may", "might", "must")
RELATIVES = frozenset(("that", "who", "which", "whose", "where", "when"))
THIRD_PERSON = re.compile(r"[a-z]{2,}[a-rt-z]s|[a-z]+(?:ss|x|z|ch|sh|o)es")
PLURAL = re.compile(r"\w+[^s\W]s")
_WORD = re.compile(r"[a-z]{2,}(?:-[a-z]+)*")


@cache
def general_words() -> dict[str, Any]:
    """`general.toml` (read once)."""
    return tomllib.loads(files("bluedit.facts").joinpath("general.toml").read_text(encoding="utf-8"))


@cache
def words_of(name: str) -> frozenset[str]:
    """The words of one of its lists."""
    return frozenset(word for group in general_words()[name] for word in group.split("|"))


def is_somebody(noun: str, target: str) -> bool:
    """Whether a noun and its answer look like a person: "engineer" and "Ada Lovell", "referee" and "Ada"."""
    if noun in words_of("persons"):
        return target[:1].isupper()
    return noun.endswith(tuple(words_of("person_endings"))) and looks_like_a_name(target)


def looks_like_a_name(text: str) -> bool:
    """Whether an answer is written like a person's name: several words, each with a capital letter."""
    words = text.split()
    return len(words) > 1 and all(word[0].isupper() for word in words)


def prepositions() -> frozenset[str]:
    """All that `general.toml` has."""
    return words_of("joins") | words_of("ends") | words_of("times")


def names_something(ahead: Sequence[str]) -> bool:
    """Whether the words before the subject belong to a name for something: "", "the", "the fraud team of", "the drug"."""
    if not ahead or (len(ahead) == 1 and ahead[0].casefold() in DETERMINERS) or says_the_kind(ahead):
        return True
    inner = [word.casefold() for word in ahead[:-1]]
    forbidden = words_of("no_nouns") - words_of("joins")
    last = ahead[-1].casefold()
    return (
        len(ahead) <= MOST_WORDS
        and bool(inner)
        and inner[0] not in words_of("no_nouns")
        and forbidden.isdisjoint(inner)
        and (last in words_of("joins") or (last in DETERMINERS and inner[-1] in words_of("joins")) or inner[-1] == "to")
        and not (last in words_of("joins") and inner[-1] in words_of("joins"))
    )


def says_the_kind(ahead: Sequence[str]) -> bool:
    """Whether the words before a name say what it is: "the drug", "our new vendor", "error code"."""
    first, *nouns = [word.casefold() for word in ahead]
    if first not in DETERMINERS - {"this"}:
        nouns = [first, *nouns] if ahead[-1].casefold() in words_of("classes") else []
    return 0 < len(nouns) <= _MOST_NOUNS and all(map(is_noun, nouns))


def is_noun(word: str) -> bool:
    """Whether a word may be a noun, as far as lists of other words tell."""
    others = ("no_nouns", "adverbs", "pasts", "participles", "times", "hedges", "no_verbs", "alike")
    return (
        _WORD.fullmatch(word) is not None
        and not any(word in words_of(name) for name in others)
        and word not in prepositions() | DETERMINERS
    )


def verb_after_noun(after: Sequence[str]) -> int | None:
    """Where the verb stands in "'s sales team meets on": an auxiliary, or else the last word before the preposition at the end."""
    for i, word in enumerate(after):
        if i > 1 and (word in BE or word in MODALS):
            return i
    end = len(after) - 1 - (after[-1] in words_of("ends"))
    return end if 1 < end <= MOST_WORDS else None


def verb_after_name(after: Sequence[str]) -> int:
    """Where the verb stands after a subject that goes on: "per day is", "cheese is made from", "bread costs"; 0 where it follows at once."""
    if after[0] in words_of("joins"):
        return next((i for i, word in enumerate(after[:MOST_WORDS]) if word in BE or word in MODALS), 0)
    nouns = 0
    while nouns < min(_MOST_NOUNS, len(after)) and is_noun(after[nouns]) and not after[nouns].endswith("ly"):
        nouns += 1
    verb = after[nouns] if nouns < len(after) else ""
    goes_on = THIRD_PERSON.fullmatch(after[0]) is not None
    if verb in BE or verb in MODALS:
        return nouns if nouns == 1 or not goes_on else 0
    costs = len(after) > 1 and THIRD_PERSON.fullmatch(after[1]) is not None
    return int(nouns > 0 and not goes_on and costs and is_noun(after[1]))


def is_plural(ahead: Sequence[str]) -> bool:
    """Whether the word that the others belong to is a plural: "visiting hours on"."""
    return PLURAL.fullmatch(head_of(ahead)) is not None


def head_of(words: Sequence[str]) -> str:
    """The word that the others belong to, before the first preposition or "that": "hours" in "visiting hours on"; empty if there is none."""
    return next((word for word, after in pairwise(words) if after.casefold() in words_of("joins") | RELATIVES), "")
