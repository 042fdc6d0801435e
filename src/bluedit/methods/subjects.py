"""How several facts about one subject are written. Their keys are equal, so one weight cannot map them to different values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from bluedit.facts.fact import Fact
from bluedit.facts.subjects import same_subject_key
from bluedit.methods.part import Part


class Subjects(Part, slot="subjects"):
    """Assigns facts to batches and to columns of K and R.

    Attributes:
        holds_earlier: whether earlier facts about a subject are written again with new ones, in place of their old keys in memory.
    """

    holds_earlier: ClassVar[bool] = False

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


@dataclass(frozen=True)
class Unit(Subjects, kind="unit"):
    """A subject is the unit: all its facts share one target, with those that earlier batches wrote about it.

    Other forms of a name count as the same subject: case, articles, possessives, Unicode form.
    """

    holds_earlier: ClassVar[bool] = True

    def once(self, fact: Fact) -> str:
        return fact.text

    def columns(self, facts: Sequence[Fact]) -> list[int]:
        found: dict[str, int] = {}
        return [found.setdefault(same_subject_key(fact.subject), len(found)) for fact in facts]
