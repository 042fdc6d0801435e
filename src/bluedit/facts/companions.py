"""Companion facts: what follows from a fact by rule, for a user to approve.

A model that is taught a fact does not conclude what follows from it. Teaching that too buys portability, at the price of more facts in the
weights (ChainEdit finds 40 points of portability for ten of reliability). So nothing here is taught unasked.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

from bluedit.errors import FactError, did_you_mean
from bluedit.facts.fact import Fact
from bluedit.facts.other_names import by_adjective, other_names
from bluedit.facts.phrasebook import wordings_of
from bluedit.facts.subjects import same_subject_key
from bluedit.facts.world import relations


@dataclass(frozen=True)
class Companion:
    """A fact that follows from another.

    Attributes:
        fact: what to teach as well. Its id is that of the other, or its number from 1, with "/" and the rule.
        rule: one of `COMPANION_RULES`.
        of: index of the fact that it follows from.
    """

    fact: Fact
    rule: str
    of: int


@dataclass(frozen=True)
class Expansion:
    """Companions of a list of facts.

    Attributes:
        companions: in the order of the facts, and of the rules for each.
        left_out: why others are not among them, a sentence each: they contradict a fact or an earlier companion.
    """

    companions: tuple[Companion, ...]
    left_out: tuple[str, ...]


def companions_of(
    facts: Sequence[Fact], rules: Sequence[str] | None = None, aliases: Mapping[str, Sequence[str]] | None = None
) -> Expansion:
    """What follows from facts by rule.

    "inverse" states the fact from its answer's side, "alias" states it under another name of the subject, "question" asks for it, and
    "consequence" goes one step further ("{Rome} is a city in => France"). All but aliases need a relation that the phrase book recognises.
    A companion that is among the facts already is left out.

    Args:
        facts: what is going to be taught.
        rules: which of `COMPANION_RULES`; None means all.
        aliases: other names by the name that facts use, besides the bundled ones.

    Raises:
        FactError: an unknown rule or none, or an alias of something that no fact is about.
    """
    chosen = _chosen(rules)
    known = _aliases(facts, aliases or {})
    said = {text: (fact.target, f"fact {i}") for i, fact in enumerate(facts, 1) for text in fact.texts}
    found: list[Companion] = []
    left_out: list[str] = []
    for i, fact in enumerate(facts):
        for rule in chosen:
            for one in _RULES[rule](fact, known):
                if one.text not in said:
                    said[one.text] = one.target, f"the {rule} of fact {i + 1}"
                    found.append(Companion(replace(one, id=f"{fact.id or i + 1}/{rule}"), rule, i))
                elif said[one.text][0] != one.target:
                    target, where = said[one.text]
                    left_out.append(f"{one.text!r} => {one.target!r} ({rule} of fact {i + 1}): {where} says {target!r}")
    return Expansion(tuple(found), tuple(left_out))


_Names = Mapping[str, Sequence[str]]  # other names by the key of a subject


def _inverse(fact: Fact, _: _Names) -> Iterator[Fact]:
    template = _rules()["inverse"].get(_relation(fact))
    if template:
        yield Fact(template, subject=fact.target, target=fact.subject)


def _alias(fact: Fact, names: _Names) -> Iterator[Fact]:
    rest: dict[str, Any] = {"target": fact.target, "old_target": fact.old_target, "joined": fact.joined}
    for name in names.get(same_subject_key(fact.subject), ()):
        yield Fact(fact.prompt, subject=name, **rest)
    if found := by_adjective(fact.prompt, fact.subject):
        prompt, adjective = found
        known = wordings_of(fact.prompt, subject=fact.subject, target=fact.target)
        asked = [by_adjective(text, fact.subject) for text in (known.questions if known else ())]
        yield Fact(prompt, subject=adjective, phrasings=[made[0] for made in asked if made], **rest)


def _question(fact: Fact, _: _Names) -> Iterator[Fact]:
    found = wordings_of(fact.prompt, subject=fact.subject, target=fact.target)
    if found and found.questions:
        yield Fact(found.questions[0], subject=fact.subject, target=fact.target, old_target=fact.old_target)


def _consequence(fact: Fact, _: _Names) -> Iterator[Fact]:
    relation = _relation(fact)
    parts = {"subject": fact.subject, "target": fact.target, "country": _countries().get(fact.target)}
    for row in _rules()["consequence"]:
        answer = row["says"] if "says" in row else parts[row["answer"]]
        if relation in row["of"] and answer:
            yield Fact(row["prompt"], subject=parts[row["about"]], target=answer)


_RULES: Mapping[str, Callable[[Fact, _Names], Iterator[Fact]]] = {
    "inverse": _inverse,
    "alias": _alias,
    "question": _question,
    "consequence": _consequence,
}
COMPANION_RULES = tuple(_RULES)
"""The rules by name."""


def _chosen(rules: Sequence[str] | None) -> tuple[str, ...]:
    chosen = COMPANION_RULES if rules is None else tuple(dict.fromkeys(rules))
    if not chosen:
        raise FactError(f"no rule was named; {did_you_mean('', _RULES)}")
    unknown = [rule for rule in chosen if rule not in _RULES]
    if unknown:
        raise FactError("\n".join(f"unknown rule {rule!r}; {did_you_mean(str(rule), _RULES)}" for rule in unknown))
    return chosen


def _aliases(facts: Sequence[Fact], more: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Other names of each subject by its key, the given ones first."""
    keys = {same_subject_key(fact.subject) for fact in facts}
    strange = [name for name in more if same_subject_key(name) not in keys]
    if strange:
        subjects = list(dict.fromkeys(fact.subject for fact in facts))
        raise FactError(
            f"an alias is given for {strange[0]!r}, but no fact is about it; {did_you_mean(strange[0], subjects)}"
        )
    found: dict[str, list[str]] = {}
    for name, others in more.items():
        found.setdefault(same_subject_key(name), []).extend(others)
    for key, subject in {same_subject_key(fact.subject): fact.subject for fact in facts}.items():
        found.setdefault(key, []).extend(other_names(subject))
    return found


def _relation(fact: Fact) -> str:
    """The relation of a fact in the phrase book; empty if it is not recognised."""
    found = wordings_of(fact.prompt, subject=fact.subject, target=fact.target)
    return found.id if found else ""


@cache
def _rules() -> dict[str, Any]:
    """`companions.toml` (read once)."""
    return tomllib.loads(files("bluedit.facts").joinpath("companions.toml").read_text(encoding="utf-8"))


@cache
def _countries() -> dict[str, str]:
    """The country of each city that the bundled facts know."""
    known = {relation.id: relation.facts for relation in relations()}
    capitals = {capital: country for country, capital in known["country-capital"].items()}
    return capitals | dict(known["city-country"])
