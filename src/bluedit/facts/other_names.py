"""Other names of well-known subjects, and the adjectives of countries."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

from bluedit.facts.subjects import same_subject_key


def other_names(subject: str) -> list[str]:
    """Bundled other names of a subject, in the order of the file; articles are written out ("the UK")."""
    key = same_subject_key(subject)
    return [
        name
        for group in _bundled()["names"]
        if any(_is_name(one, subject) for one in group)
        for name in group
        if same_subject_key(name) != key
    ]


def by_adjective(prompt: str, subject: str) -> tuple[str, str] | None:
    """A prompt about a country with `{}` for its adjective, and the adjective: "The {} prime minister is" and "Danish" of "The prime
    minister of {} is" and "Denmark". None for other subjects, and for prompts that do not ask for such a noun."""
    adjective = _adjectives().get(same_subject_key(subject))
    found = _noun_of_country().search(prompt) if adjective else None
    if adjective is None or found is None:
        return None
    the, noun = found.groups()
    return f"{prompt[: found.start()]}{the} {{}} {noun}{prompt[found.end() :]}", adjective


def _is_name(name: str, subject: str) -> bool:
    """Whether a bundled name is this subject; The Who is not the WHO."""
    word = name.split()[-1]
    return same_subject_key(name) == same_subject_key(subject) and not (
        word.isupper() and subject.endswith(word.title())
    )


@cache
def _noun_of_country() -> re.Pattern[str]:
    """ "the NOUN of {}", with an article before the country or without one, and a verb or nothing after it."""
    nouns = "|".join(sorted(_bundled()["nouns"], key=len, reverse=True))
    return re.compile(rf"\b(the) ({nouns}) of (?:the )?\{{\}}(?=$| (?:is|was|are|were|has)\b|\?)", re.IGNORECASE)


@cache
def _adjectives() -> dict[str, str]:
    """Adjectives by the keys of their country's names."""
    found = {same_subject_key(country): adjective for country, adjective in _bundled()["adjectives"].items()}
    for group in _bundled()["names"]:
        keys = [same_subject_key(name) for name in group]
        adjective = next((found[key] for key in keys if key in found), None)
        found |= dict.fromkeys(keys, adjective) if adjective else {}
    return found


@cache
def _bundled() -> dict[str, Any]:
    """`other_names.toml` (read once)."""
    return tomllib.loads(files("bluedit.facts").joinpath("other_names.toml").read_text(encoding="utf-8"))
