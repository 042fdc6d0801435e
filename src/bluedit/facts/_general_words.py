"""The word lists of `general.toml`, and what they say about a noun."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any


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
