"""Other names of well-known subjects, and texts that ask for a fact under them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from bluedit.facts.subjects import same_subject_key
from bluedit.facts.words import is_question

_ARTICLE = re.compile(r"\bthe $", re.IGNORECASE)


def other_names(subject: str) -> list[str]:
    """Bundled other names of a subject, the most usual first; articles are written out ("the UK")."""
    key = same_subject_key(subject)
    return [
        name
        for group in _bundled()["names"]
        if any(_is_name(one, subject) for one in group)
        for name in group
        if same_subject_key(name) != key
    ]


def by_other_names(texts: Sequence[str], subject: str) -> list[tuple[str, ...]]:
    """For each other name of a subject the first statement and the first question of some templates, with that name in braces.

    The adjective of a country comes first: "The {Danish} prime minister is" of "The prime minister of {} is".
    """
    found = [_first_of_each(_named(text, name) for text in texts) for name in other_names(subject)]
    if adjective := _adjectives().get(same_subject_key(subject)):
        by_adjective = (_noun_of_country().subn(rf"\1{{{adjective}}} \2", text) for text in texts)
        found.insert(0, _first_of_each(text for text, count in by_adjective if count))
    return list(filter(None, found))


def _is_name(name: str, subject: str) -> bool:
    """Whether a bundled name is this subject; The Who is not the WHO."""
    word = name.split()[-1]
    return same_subject_key(name) == same_subject_key(subject) and not (
        word.isupper() and subject.endswith(word.title())
    )


def _named(text: str, name: str) -> str:
    """A template with a name in braces in place of `{}`, with the article of that name alone."""
    before, _, after = text.partition("{}")
    start = _ARTICLE.sub("", before)
    bare = name.removeprefix("the ")
    article = "" if bare == name else "the " if start else "The "
    return f"{start}{article}{{{bare}}}{after}"


def _first_of_each(texts: Iterable[str]) -> tuple[str, ...]:
    """The first statement and the first question, as far as there are any."""
    first: dict[bool, str] = {}
    for text in texts:
        first.setdefault(is_question(text), text)
    return tuple(first.values())


@cache
def _noun_of_country() -> re.Pattern[str]:
    """ "the NOUN of {}", with an article before the country or without one."""
    nouns = "|".join(sorted(_bundled()["nouns"], key=len, reverse=True))
    return re.compile(rf"\b(the )({nouns}) of (?:the )?\{{\}}", re.IGNORECASE)


@cache
def _adjectives() -> dict[str, str]:
    """Adjectives by the key of their country."""
    return {same_subject_key(country): adjective for country, adjective in _bundled()["adjectives"].items()}


@cache
def _bundled() -> dict[str, Any]:
    """`other_names.toml` (read once)."""
    return tomllib.loads(files("bluedit.facts").joinpath("other_names.toml").read_text(encoding="utf-8"))
