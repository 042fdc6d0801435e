"""The bundled phrase book: its notation, how prompts are normalised for comparison, and looking up a prompt."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

ARTICLES = ("the", "a", "an")
_FILLERS = frozenset(["currently", "current", "now", "today", "nowadays", "presently", "please", ","])
_SEPARATE = str.maketrans(
    {**dict.fromkeys("’‘ʼ`´", "'"), **dict.fromkeys("–—;", " "), "?": " ? ", ":": " : ", "=": " : ", ",": " , "}
)
_QUESTION_WORDS = ("what", "who", "where", "when", "which", "how")
_CONTRACTIONS = {
    **{f"{word}'s": f"{word} is" for word in (*_QUESTION_WORDS, "it", "that", "there", "he", "she")},
    **{f"{word}'d": f"{word} did" for word in _QUESTION_WORDS},
    **{word: f"{word[:-1]} is" for word in ("whats", "whos", "wheres")},
    "e-mail": "email",
    "'": "'s",  # {}' CEO
}
_FORMS = {
    **dict.fromkeys(("are", "was", "were"), "is"),
    **dict.fromkeys(("do", "did"), "does"),
    **dict.fromkeys(("have", "had"), "has"),
}
_PERSON_FRAMES = ("any", "person")
_FRAMES = {"office": _PERSON_FRAMES, "person": _PERSON_FRAMES}
_SLOTS = {"when": "(in|on)", "year": "(year|date)"}
SLOT = re.compile(r"<([^<>]+)>")


@dataclass(frozen=True)
class Relation:
    """A relation of the phrase book; the head of `phrasebook.toml` describes the entries."""

    id: str
    kind: str = "thing"
    nouns: Sequence[str] = ()
    also: Sequence[str] = ()
    patterns: Sequence[str] = ()
    loose: Sequence[str] = ()
    statements: Sequence[str] = ()
    questions: Sequence[str] = ()
    kind_statements: Sequence[str] = ()
    assumed: bool = False
    weekdays: bool = False
    the: bool = False
    symbols: bool = False

    def templates(self) -> tuple[str, ...]:
        """All templates with their slots."""
        return (*self.statements, *self.questions, *self.kind_statements)


@dataclass(frozen=True)
class Match:
    """A relation that a prompt asks for, and the noun by which it names it ("" if it is not one of the relation's `nouns`)."""

    relation: Relation
    noun: str = ""


@dataclass(frozen=True)
class Frame:
    """What stands before and after a noun in a prompt, and the kind of relation whose nouns may stand there."""

    before: str
    after: str
    kind: str


class Book:
    """Everything in `phrasebook.toml`, ready for looking up prompts in their normal form."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.relations = _relations(data)
        self.tails = {_key(text) for tail in data["tails"] for text in expand(tail)}
        self.wrappers = [split(text) for text in data["wrappers"]]
        self.things = frozenset(word for group in data["kinds_of_thing"] for word in group.split("|"))
        self.places = frozenset(data["places"].split("|"))
        self.no_places = frozenset(word for group in data["no_places"] for word in group.split("|"))
        self.loose = {_key(text) for r in self.relations for pattern in r.loose for text in expand(pattern)}
        self.plurals, self.pasts = _verb_forms(self.relations)
        self._prompts: dict[str, list[Match]] = {}
        self._nouns: dict[str, list[Match]] = {}
        for relation in self.relations:
            self._add(relation)
        texts = ((kind, text) for kind, frames in data["frames"].items() for frame in frames for text in expand(frame))
        self._frames = list(dict.fromkeys(_frame(text, kind) for kind, text in texts))

    def matches(self, key: str) -> Iterator[Match]:
        """The relations that a prompt in normal form may ask for."""
        yield from self._prompts.get(key, ())
        for frame in self._frames:
            if not (key.startswith(frame.before) and key.endswith(frame.after)):
                continue
            for match in self._nouns.get(key[len(frame.before) : len(key) - len(frame.after)], ()):
                kind = match.relation.kind
                if frame.kind in _FRAMES.get(kind, ("any", kind)):
                    yield match

    def _add(self, relation: Relation) -> None:
        """Make a relation's patterns, templates and nouns known."""
        for pattern in (*relation.patterns, *relation.loose):
            _note(self._prompts, expand(pattern), Match(relation))
        for noun in relation.nouns or ("",):
            for template in relation.templates():
                if "<other>" not in template or len(relation.nouns) > 1:
                    match = Match(relation, noun if "<noun>" in template else "")
                    _note(self._prompts, expand(_with_slots(template, relation, noun)), match)
            _note(self._nouns, [noun] if noun else [], Match(relation, noun))
        _note(self._nouns, (text for noun in relation.also for text in expand(noun)), Match(relation))


@cache
def book() -> Book:
    """The bundled phrase book (read once)."""
    return Book(tomllib.loads(files("bluedit.facts").joinpath("phrasebook.toml").read_text(encoding="utf-8")))


def split(text: str) -> list[str]:
    """The words of a text in lower case; `{}`, "?", ":", "," and a possessive "'s" are words of their own."""
    words = text.casefold().translate(_SEPARATE).replace("(s)", "").replace("{}", " {} ").split()
    whole = " ".join(_CONTRACTIONS.get(word, word.removesuffix("'s") + " 's" * word.endswith("'s")) for word in words)
    return whole.split()


def normal(words: Sequence[str]) -> str:
    """The form in which prompts are compared: no articles (but at the end), no fillers, one form for is, do and have.

    "The name of the CEO" is the CEO.
    """
    last = len(words) - 1
    kept = (
        "a" if word == "an" else word
        for i, word in enumerate(words)
        if word not in _FILLERS and (word not in ARTICLES or i == last)
    )
    text = " ".join(_FORMS.get(word, word) for word in kept).replace("has been", "is")
    text = text.replace("name of {} 's", "{} 's")
    return text if "name of {}" in text else text.replace("name of ", "")


def expand(notation: str) -> list[str]:
    """All texts that a notation with choices stands for: (a|b), [a] and the verb forms <a/b> and <a|b|c>."""
    plain = notation.translate(str.maketrans({"[": "(", "]": "|)", "<": "(", ">": ")", "/": "|"}))
    texts, rest = _choices(re.findall(r"[()|]|[^()|]+", plain))
    if rest:
        raise ValueError(f"unbalanced brackets in {notation!r}")
    return list(dict.fromkeys(texts))


def _choices(pieces: list[str]) -> tuple[list[str], list[str]]:
    """The texts of a sequence of alternatives up to its closing bracket, and the pieces after it."""
    done: list[str] = []
    texts = [""]
    while pieces:
        piece, *pieces = pieces
        if piece == ")":
            return done + texts, [")", *pieces]
        if piece == "|":
            done, texts = done + texts, [""]
            continue
        inner = [piece]
        if piece == "(":
            inner, pieces = _choices(pieces)
            pieces = pieces[1:]
        texts = [text + more for text in texts for more in inner]
    return done + texts, []


def _key(text: str) -> str:
    return normal(split(text.removesuffix("?")))


def _note(table: dict[str, list[Match]], texts: Iterable[str], match: Match) -> None:
    """Enter a match under each text, once for a relation."""
    for text in texts:
        found = table.setdefault(_key(text), [])
        if all(other.relation is not match.relation for other in found):
            found.append(match)


def _frame(text: str, kind: str) -> Frame:
    before, after = f" {_key(text)} ".split(" n ")
    return Frame(f"{before} ".lstrip(), f" {after}".rstrip(), kind)


def _with_slots(template: str, relation: Relation, noun: str) -> str:
    """A template with what its slots may hold, as a notation for `expand`."""
    others = "|".join(other for other in relation.nouns if other != noun)
    slots = {**_SLOTS, "noun": noun, "other": f"({others})"}
    return SLOT.sub(lambda slot: slots.get(slot[1], slot[0]), template)


def _relations(data: Mapping[str, Any]) -> tuple[Relation, ...]:
    """The relations; those without templates of their own have those of their kind."""
    offices = ({"id": name, "kind": "office", "nouns": nouns} for name, nouns in data["offices"].items())
    rows = ({"kind": "thing", **row} for row in (*offices, *data["relation"]))
    return tuple(Relation(**{**data["templates"].get(row["kind"], {}), **row}) for row in rows)


def _verb_forms(relations: Iterable[Relation]) -> tuple[frozenset[str], frozenset[str]]:
    """The plural forms and the past forms of the verbs in all templates and patterns."""
    plurals, pasts = set[str](), set[str]()
    for relation in relations:
        for text in (*relation.templates(), *relation.patterns):
            for slot in SLOT.findall(text):
                forms = slot.split("|" if "|" in slot else "/")
                plurals |= {forms[1]} if "|" in slot else set()
                pasts |= {forms[-1]} if len(forms) > 1 else set()
    return frozenset(plurals), frozenset(pasts - plurals)
