"""Which facts take the place of others, and which are the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bluedit.facts.fact import Fact
from bluedit.facts.subjects import same_subject_key

Key = tuple[str, str]


def replaced_by(facts: Sequence[Fact]) -> list[int | None]:
    """For each of some facts, oldest first, the index of the latest one that takes its place; None for those that stand.

    A later fact does so that has the same subject and prompt, or that teaches one of its texts another answer: a correction in other words,
    such as "{}'s CEO is" after "The CEO of {} is", which was also taught as "{}'s CEO is".
    """
    prompts: dict[Key, int] = {}
    texts: dict[Key, int] = {}
    found: list[int | None] = []
    for i in reversed(range(len(facts))):
        fact = facts[i]
        keys = {_key(fact, text) for text in (fact.prompt, *fact.phrasings)}
        others = [texts[key] for key in keys if key in texts and facts[texts[key]].target != fact.target]
        prompt = _key(fact, fact.prompt)
        found.append(prompts.get(prompt, max(others, default=None)))
        prompts.setdefault(prompt, i)
        for key in keys:
            texts.setdefault(key, i)
    return found[::-1]


def different(facts: Iterable[Fact]) -> list[tuple[str, str]]:
    """Text and target of each fact, in order; a fact that was taught a second time is there once."""
    return list(dict.fromkeys((fact.text, fact.target) for fact in facts))


def _key(fact: Fact, text: str) -> Key:
    return same_subject_key(fact.subject), " ".join(text.casefold().split())
