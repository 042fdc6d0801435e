"""Facts that cannot all hold at once."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from bluedit.errors import FactError
from bluedit.facts.fact import Fact

_NAMED = 20  # conflicts in one error message


def check_batch(facts: Sequence[Fact]) -> None:
    """Refuse a list of facts that cannot all hold at once.

    Raises:
        FactError: no facts, something that is not a fact, the same fact twice, or one prompt with two targets. The first
            such pairs are named.
    """
    if not all(isinstance(fact, Fact) for fact in facts):
        raise FactError(
            "facts must be a list of Fact; make one with Fact(...) or Fact.parse(line), or read a file with read_facts"
        )
    if not facts:
        raise FactError("no facts were given; pass at least one Fact")
    if faults := conflicts(facts):
        raise FactError(some_of(faults))


def some_of(faults: Sequence[str]) -> str:
    """The first faults, one per line, and how many more there are."""
    more = [f"and {len(faults) - _NAMED} more"] if len(faults) > _NAMED else []
    return "\n".join([*faults[:_NAMED], *more])


def conflicts(facts: Sequence[Fact]) -> list[str]:
    """Facts that repeat or contradict an earlier one, a sentence each. Phrasings may be repeated, but not contradicted.

    Texts in another Unicode form are the same texts.
    """
    first: dict[str, int] = {}
    faults: list[str] = []
    for i, fact in enumerate(facts):
        for number, text in enumerate(fact.texts):
            j = first.setdefault(_normal(text), i)
            two, other = f"facts {j + 1} and {i + 1}", facts[j]
            if other.target != fact.target:
                faults.append(
                    f"{two} contradict each other: {text!r} => {other.target!r} and {fact.target!r}; keep one"
                )
                break
            if j < i and number == 0 and _normal(text) == _normal(other.text):
                faults.append(f"{two} are the same ({text!r} => {fact.target!r}); keep one")
    return faults


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text)
