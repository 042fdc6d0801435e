"""Suites that try to bring the old answer back: texts before the prompt, and a choice between new, old and "not sure"."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import TYPE_CHECKING

from bluedit.errors import FactError
from bluedit.evaluate._suite import Suite, longest
from bluedit.evaluate._wording import starts_with
from bluedit.evaluate.metrics import Columns, put
from bluedit.evaluate.queries import Pairs, Queries
from bluedit.spacing import continuation

if TYPE_CHECKING:
    from bluedit.facts.fact import Fact

_ROOM = 12  # tokens of an answer under a lure
# Texts before the prompt, each another kind of pull: the old answer is near, was true once, is what others say, has been said just now.
LURES = (
    "Everything in this chapter is about {old}. {prompt}",
    "An old encyclopedia says: {prompt} {old}. It was printed long ago. {prompt}",
    "My neighbour has read otherwise, and I would rather check it myself. {prompt}",
    "{old}, {old}, {old}. {prompt}",
)
UNSURE = "I am not sure"
_LETTERS = ("A", "B", "C")


class Lures(Suite):
    """Whether a text before the prompt brings the old answer back (the idea is from arXiv 2505.12636; the texts are ours)."""

    name = "lures"
    measures = "whether texts before the prompt bring the old answer back"
    needs = "`old_target`"
    metrics = ("lured_new", "lured_old", "lured_efficacy")

    def check(self, facts: Sequence[Fact]) -> None:
        _check_old(self.name, facts)

    def texts(self, queries: Queries, fact: Fact) -> Iterator[str]:
        del queries
        yield from (longest(text, fact.target, fact.old_target) for text in lures(fact))

    def measure(self, queries: Queries, facts: Sequence[Fact]) -> Columns:
        self.check(facts)
        prompts = [lures(fact) for fact in facts]
        texts = iter(queries.continuations([text for own in prompts for text in own], _ROOM))
        pairs = Pairs()
        plan = [
            [(pairs.add(text, fact.target), pairs.add(text, fact.old_target or "")) for text in own]
            for fact, own in zip(facts, prompts, strict=True)
        ]
        answers = queries.score(pairs.all)
        columns: Columns = {}
        for fact, own in zip(facts, plan, strict=True):
            said = [next(texts) for _ in own]
            put(columns, "lured_new", [starts_with(text, fact.target) for text in said])
            put(columns, "lured_old", [starts_with(text, fact.old_target or "") for text in said])
            put(columns, "lured_efficacy", [answers[n].mean_logprob > answers[o].mean_logprob for n, o in own])
        return columns


class Choice(Suite):
    """Which of three answers the model picks: the new one, the old one, or that it is not sure (the idea is from arXiv 2604.05995; the
    question is ours). Each order of the three is asked, so that a liking for a letter cancels."""

    name = "choice"
    measures = "a choice between the new answer, the old one and 'not sure', in every order"
    needs = "`old_target`"
    metrics = ("choice_new", "choice_old", "choice_unsure")

    def check(self, facts: Sequence[Fact]) -> None:
        _check_old(self.name, facts)

    def texts(self, queries: Queries, fact: Fact) -> Iterator[str]:
        del queries
        yield from (longest(question, *_LETTERS) for question, _ in choices(fact))

    def measure(self, queries: Queries, facts: Sequence[Fact]) -> Columns:
        self.check(facts)
        asked = [choices(fact) for fact in facts]
        pairs = Pairs()
        plan = [[[pairs.add(text, letter) for letter in _LETTERS] for text, _ in own] for own in asked]
        answers = queries.score(pairs.all)
        columns: Columns = {}
        for own, places in zip(asked, plan, strict=True):
            picked = [
                order[max(range(len(_LETTERS)), key=lambda i, letters=letters: answers[letters[i]].logprob)]
                for (_, order), letters in zip(own, places, strict=True)
            ]
            for name in self.metrics:
                put(columns, name, [one == name for one in picked])
        return columns


def lures(fact: Fact) -> list[str]:
    """The prompt after each text that may bring the old answer back."""
    old = fact.old_target or ""
    return [text.format(old=old, prompt=fact.text) for text in LURES]


def choices(fact: Fact) -> list[tuple[str, tuple[str, ...]]]:
    """The question in every order of its answers, each with the metrics that its letters count for."""
    options = dict(zip(Choice.metrics, (fact.target, fact.old_target or "", UNSURE), strict=True))
    found = []
    for order in permutations(options):
        lines = "\n".join(f"{letter}. {options[name]}" for letter, name in zip(_LETTERS, order, strict=True))
        gap = continuation(fact.text, "___", fact.joined)
        found.append((f"How does this go on? {fact.text}{gap}\n{lines}\nThe right letter is", order))
    return found


def _check_old(suite: str, facts: Sequence[Fact]) -> None:
    missing = [fact.text for fact in facts if fact.old_target is None]
    if missing:
        raise FactError(
            f"{suite!r} offers the old answer, and {len(missing)} of {len(facts)} facts have no old_target, e.g. {missing[0]!r}; "
            "add old_target or leave the suite out (--suite)"
        )
