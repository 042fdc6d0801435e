"""The suite that compares an edited model's next-token distributions with the unedited model's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bluedit.evaluate._suite import Suite, probes_of
from bluedit.evaluate.data import Drift
from bluedit.evaluate.metrics import DRIFTS, Columns, put

if TYPE_CHECKING:
    from bluedit.evaluate.queries import Queries
    from bluedit.facts.fact import Fact

_ABOUT_ANY_SUBJECT = ("The most surprising thing about {} is", "{} is best known for")


class Locality(Suite):
    """How far next-token distributions have moved: after neighbours, after prompts about other relations of the subject (the fact's
    probes of kind "subject"; without any, two prompts that fit every subject), on ordinary passages, and in ordinary chat answers."""

    name = "locality"
    measures = "drift of next-token distributions after neighbours, after prompts about the same subject, on the ordinary passages and in chat answers"
    needs = "neighbours"
    metrics = tuple(f"{what}_{part}" for what in DRIFTS for part in Drift._fields)

    def texts(self, queries: Queries, fact: Fact) -> Iterator[str]:
        del queries
        yield from (n.prompt for n in fact.neighbours)
        yield from _about_subject(fact)

    def measure(self, queries: Queries, facts: Sequence[Fact]) -> Columns:
        near = [[n.prompt for n in fact.neighbours] for fact in facts]
        same = [_about_subject(fact) for fact in facts]
        moved = queries.next_token_drift(sorted({prompt for prompts in (*near, *same) for prompt in prompts}))
        columns: Columns = {}
        for name, plan in (("neighbour", near), ("subject", same)):
            for prompts in plan:
                for part in Drift._fields:
                    put(columns, f"{name}_{part}", [getattr(moved[prompt], part) for prompt in prompts])
        return columns

    def measure_passages(self, queries: Queries, texts: Sequence[str], tokens: int) -> dict[str, float]:
        return queries.passage_drift(texts, tokens) | queries.chat_drift()


def _about_subject(fact: Fact) -> list[str]:
    return [probe.prompt for probe in probes_of(fact, "subject")] or [
        prompt.format(fact.subject) for prompt in _ABOUT_ANY_SUBJECT
    ]
