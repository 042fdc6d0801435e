"""Suites that score given answers: CounterFact's metrics, CounterFact+'s and zsRE's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bluedit.errors import FactError
from bluedit.evaluate._suite import Suite, longest, target_pairs
from bluedit.evaluate.metrics import Columns, put
from bluedit.evaluate.queries import Pairs, Queries

if TYPE_CHECKING:
    from bluedit.evaluate.data import Answer
    from bluedit.facts.fact import Fact, Neighbour


class CounterFact(Suite):
    """Efficacy, generalisation, specificity and their strict forms (ROME, arXiv 2202.05262, section 3.3)."""

    name = "counterfact"
    measures = "efficacy, generalisation, specificity, and their strict forms"
    needs = "`old_target`; paraphrases; neighbours"
    metrics = ("efficacy", "generalisation", "specificity", "strict", "strict_paraphrase", "strict_specificity")

    def check(self, facts: Sequence[Fact]) -> None:
        missing = [fact.text for fact in facts if fact.old_target is None]
        if missing:
            raise FactError(
                f"CounterFact's metrics compare with old_target, and {len(missing)} of {len(facts)} facts have none, "
                f"e.g. {missing[0]!r}; add old_target or choose other metrics than 'counterfact' (--suite)"
            )

    def texts(self, queries: Queries, fact: Fact) -> Iterator[str]:
        del queries
        yield from (longest(prompt, fact.target, fact.old_target) for prompt in (fact.text, *fact.paraphrases))
        yield from (longest(n.prompt, fact.target, n.answer) for n in fact.neighbours)

    def measure(self, queries: Queries, facts: Sequence[Fact]) -> Columns:
        self.check(facts)
        pairs = Pairs()
        plan = []
        for fact in facts:
            old = fact.old_target or ""
            edited = [(pairs.add(*own), pairs.add(own[0], old, *own[2:])) for own in target_pairs(fact)]
            true = [pairs.add(n.prompt, n.answer) for n in fact.neighbours if n.answer]
            plan.append((edited, _neighbour_pairs(pairs, fact), true))
        answers = queries.score(pairs.all)
        columns: Columns = {}
        for edited, kept, true in plan:
            wins = _wins(answers, edited)
            strict = [answers[new].said for new, _ in edited]
            put(columns, "efficacy", wins[:1])
            put(columns, "generalisation", wins[1:])
            put(columns, "specificity", _wins(answers, kept))
            put(columns, "strict", strict[:1])
            put(columns, "strict_paraphrase", strict[1:])
            put(columns, "strict_specificity", [answers[place].said for place in true])
        return columns


class CounterFactPlus(Suite):
    """Specificity with the edited sentence just before the neighbour's prompt, where editing methods fail most (arXiv 2305.17553)."""

    name = "counterfact-plus"
    measures = "specificity when the edited sentence precedes the neighbour's prompt"
    needs = "neighbours with answers"
    metrics = ("specificity_plus", "plus_kl")

    def check(self, facts: Sequence[Fact]) -> None:
        if not any(n.answer for fact in facts for n in fact.neighbours):
            raise FactError(
                f"{self.name!r} needs neighbours with an answer, and no fact has one; leave it out (--suite)"
            )

    def texts(self, queries: Queries, fact: Fact) -> Iterator[str]:
        del queries
        for neighbour, prompt in zip(fact.neighbours, self._prompts(fact), strict=True):
            yield longest(prompt, fact.target, neighbour.answer)

    def measure(self, queries: Queries, facts: Sequence[Fact]) -> Columns:
        prompts = [self._prompts(fact) for fact in facts]
        pairs = Pairs()
        plan = [_neighbour_pairs(pairs, fact, own) for fact, own in zip(facts, prompts, strict=True)]
        answers = queries.score(pairs.all)
        moved = queries.next_token_drift(sorted({prompt for own in prompts for prompt in own}))
        columns: Columns = {}
        for own, kept in zip(prompts, plan, strict=True):
            put(columns, "specificity_plus", _wins(answers, kept))
            put(columns, "plus_kl", [moved[prompt].kl for prompt in own])
        return columns

    @staticmethod
    def _prompts(fact: Fact) -> list[str]:
        space = "" if fact.joined else " "
        return [f"{fact.text}{space}{fact.target}. {n.prompt}" for n in fact.neighbours]


class ZsRE(Suite):
    """Token accuracies on the prompt, on rephrasings and on unrelated questions; the latter against the true answer and against the
    unedited model (MEND, arXiv 2110.11309, section 4)."""

    name = "zsre"
    measures = "token accuracies; locality against the answer and against the unedited model"
    needs = "paraphrases; neighbours with answers"
    metrics = ("accuracy", "rephrase_accuracy", "locality_answer", "locality_same")

    def texts(self, queries: Queries, fact: Fact) -> Iterator[str]:
        del queries
        yield from (longest(prompt, fact.target) for prompt in (fact.text, *fact.paraphrases))
        yield from (longest(n.prompt, n.answer) for n in fact.neighbours if n.answer)

    def measure(self, queries: Queries, facts: Sequence[Fact]) -> Columns:
        edits, unrelated = Pairs(), Pairs()
        plan = []
        for fact in facts:
            edited = [edits.add(*own) for own in target_pairs(fact)]
            plan.append((edited, [unrelated.add(n.prompt, n.answer) for n in fact.neighbours if n.answer]))
        answers, now = queries.score(edits.all), queries.score(unrelated.all)
        before = queries.score_unedited(unrelated.all)
        columns: Columns = {}
        for edited, kept in plan:
            put(columns, "accuracy", [answers[i].accuracy for i in edited[:1]])
            put(columns, "rephrase_accuracy", [answers[i].accuracy for i in edited[1:]])
            put(columns, "locality_answer", [now[i].accuracy for i in kept])
            put(columns, "locality_same", [_agreement(now[i], before[i]) for i in kept])
        return columns


def _neighbour_pairs(pairs: Pairs, fact: Fact, prompts: Sequence[str] | None = None) -> list[tuple[int, int]]:
    """(true answer, new target) of each neighbour that can be compared, at its own prompt or at the given one."""
    prompts = [n.prompt for n in fact.neighbours] if prompts is None else prompts
    return [
        pairs.add_two(prompt, n.answer, fact.target)
        for prompt, n in zip(prompts, fact.neighbours, strict=True)
        if n.answer and not _target_is_true(fact, n)
    ]


def _target_is_true(fact: Fact, neighbour: Neighbour) -> bool:
    """Whether the new target is the neighbour's true answer, so that the two cannot be compared."""
    return (neighbour.answer or "").strip() == fact.target.strip()


def _wins(answers: Sequence[Answer], pairs: Sequence[tuple[int, int]]) -> list[bool]:
    """Whether the first answer of each pair is the more probable one, by mean log-probability per token."""
    return [answers[first].mean_logprob > answers[second].mean_logprob for first, second in pairs]


def _agreement(one: Answer, other: Answer) -> float:
    """Share of tokens at which two models have the same first choice."""
    return sum(a == b for a, b in zip(one.first_choices, other.first_choices, strict=True)) / one.tokens
