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

_OTHERS = ("our", "my", "your", "their", "his", "her", "its", "this")  # determiners that are no articles
DETERMINERS = frozenset(("the", "a", "an", *_OTHERS))
MOST_WORDS = 8
_MOST_NOUNS = 2  # beside a name: "the board game {}"
BE = ("is", "are", "was", "were")
DO = ("does", "do", "did")
MODALS = ("can", "could", "will", "would", "should", "may", "might", "must")
RELATIVES = frozenset(("that", "who", "which", "whose", "where", "when"))
THIRD_PERSON = re.compile(r"[a-z]{2,}[a-rt-z]s|[a-z]+(?:ss|x|z|ch|sh|o)es")
PLURAL = re.compile(r"(?!\w*(?:us|is|ics)$|(?:gas|lens|series|news)$)\w+[^s\W]s")
_IRREGULAR = {
    "focuses": "focus",
    "biases": "bias",
    "caches": "cache",
    "aches": "ache",
    "quizzes": "quiz",
    "unties": "untie",
}
_SIBILANTS = ("sses", "xes", "zzes", "ches", "shes", "oes")
PARTICIPLE = re.compile(r"[a-z]+e[dn]")
PLAIN = re.compile(r"[a-z]{2,}")
_MOST_BEFORE = 4  # a purpose: "is mostly used to treat"
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
    one = noun.removesuffix("s") if PLURAL.fullmatch(noun) else noun
    if one in words_of("persons"):
        return target[:1].isupper()
    return one.endswith(tuple(words_of("person_endings"))) and looks_like_a_name(target)


def looks_like_a_name(text: str) -> bool:
    """Whether an answer is written like one or more names of persons: several words, each with a capital letter."""
    words = [word for word in text.split() if word != "and"]
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
    """Where the verb stands in "'s sales team meets on": an auxiliary, or else the last word before what may stand before an answer; None
    if it has an object ("'s team plays its matches in"), which cannot be told from a verb."""
    for i, word in enumerate(after):
        if i > 1 and (word in BE or word in MODALS):
            return i
    hedges = {word for hedge in words_of("hedges") for word in hedge.split()}
    before_answer = words_of("ends") | words_of("times") | words_of("classes") | hedges | {"every", "worth"}
    end = len(after) - 1
    while end > 1 and after[end] in before_answer:
        end -= 1
    earlier = after[2:end]
    verbs = ("has", "have", *words_of("pasts"))
    doubtful = not DETERMINERS.isdisjoint(earlier) or not set(verbs).isdisjoint(earlier)
    twice = THIRD_PERSON.fullmatch(after[end]) is not None and any(map(THIRD_PERSON.fullmatch, earlier))
    return end if 1 < end <= MOST_WORDS and not doubtful and not twice else None


def verb_after_name(after: Sequence[str]) -> int:
    """Where the verb stands after a subject that goes on: "per day is", "cheese is made from", "bread costs"; 0 where it follows at once."""
    if after[0] in words_of("joins"):
        return next((i for i, word in enumerate(after[:MOST_WORDS]) if word in BE or word in MODALS), 0)
    if after[0] in words_of("beside_names") and len(after) > 1:
        return 1
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


def may_be_verb(word: str) -> bool:
    """Whether a word after "must" may be its verb, as far as lists of other words tell."""
    no_verbs = words_of("adverbs") | words_of("hedges") | words_of("ends") | {"not", "never"}
    return PLAIN.fullmatch(word) is not None and word not in no_verbs


def is_perfect(rest: Sequence[str]) -> bool:
    """Whether words after "has" go on with a participle: "been closed since", "never moved to"."""
    first, *after = [word for word in rest if word not in words_of("adverbs") | {"not", "never"}] or [""]
    regular = re.fullmatch(r"[a-z]{2,}ed", first) is not None
    has_noun = bool(after) and after[0] not in prepositions() | DETERMINERS  # "limited seating for"
    return first in words_of("perfects") | words_of("pasts") or (regular and not has_noun)


def may_end(rest: Sequence[str]) -> bool:
    """Whether words may stand right before an answer that is no part of them."""
    if rest[-2:-1] == ["to"] and 2 < len(rest) <= _MOST_BEFORE and PLAIN.fullmatch(rest[-1]):  # "is used to treat"
        return True
    if rest[-1] in ("every", *words_of("classes")) and rest[-2:-1] and rest[-2] in _before_no_class(rest[-1]):
        return False
    lists = ("ends", "times", "hedges", "classes")
    found = {rest[-1], " ".join(rest[-2:])}
    return rest[-1] in ("every", "worth") or any(found & words_of(name) for name in lists)


def _before_no_class(last: str) -> frozenset[str]:
    """Words before which "every" is no interval, and a class is a part of something else: "its own brand", "loved by every"."""
    return words_of("ends") if last == "every" else frozenset((*_OTHERS, "own", "off"))


def infinitive(verb: str) -> str:
    """The infinitive of a verb in the third person: sells, carries, reaches."""
    if verb in _IRREGULAR:
        return _IRREGULAR[verb]
    if verb.endswith("ies") and len(verb) > 4:
        return verb[:-3] + "y"
    return verb[:-2] if verb.endswith(_SIBILANTS) else verb[:-1]
