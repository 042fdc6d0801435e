"""What happens to several facts about one subject: their keys are equal, so one weight cannot hold different values for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bluedit.facts.fact import Fact
from bluedit.methods.part import Part


class Subjects(Part, slot="subjects"):
    """Assigns facts to batches and to columns of K and R."""

    def once(self, fact: Fact) -> str:
        """What may not occur twice in a batch."""
        raise NotImplementedError

    def columns(self, facts: Sequence[Fact]) -> list[int]:
        """For each fact of a batch the column of K and R that it has or shares."""
        raise NotImplementedError


@dataclass(frozen=True)
class Split(Subjects, kind="split"):
    """Facts about one subject are written in successive batches."""

    def once(self, fact: Fact) -> str:
        return fact.subject

    def columns(self, facts: Sequence[Fact]) -> list[int]:
        return list(range(len(facts)))


@dataclass(frozen=True)
class Merge(Subjects, kind="merge"):
    """Facts about one subject share one target (MEMIT-Merge, arXiv 2502.07322)."""

    def once(self, fact: Fact) -> str:
        return fact.text

    def columns(self, facts: Sequence[Fact]) -> list[int]:
        found: dict[str, int] = {}
        return [found.setdefault(fact.subject, len(found)) for fact in facts]
