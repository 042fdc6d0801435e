"""How several facts about one subject are written. Their keys are equal, so one weight cannot map them to different values."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from bluedit.facts.fact import Fact
from bluedit.facts.subjects import same_subject_key
from bluedit.methods.part import Part
from bluedit.options import flag

log = logging.getLogger(__name__)


class Subjects(Part, slot="subjects"):
    """Assigns facts to batches and to columns of K and R.

    Attributes:
        holds_earlier: whether earlier facts about a subject are written again with new ones, in place of their old keys in memory.
        spellings: whether texts in which the tokenizer makes other tokens of the subject's last word have columns of their own.
    """

    holds_earlier: ClassVar[bool] = False
    spellings: bool = False

    def once(self, fact: Fact) -> str:
        """What may not occur twice in a batch."""
        raise NotImplementedError

    def batches(self, facts: Sequence[Fact], size: int | None) -> list[list[Fact]]:
        """The facts in batches of at most `size`, in order; None puts as many as possible into one batch."""
        batches: list[list[Fact]] = []
        taken: list[set[str]] = []
        for fact in facts:
            once = self.once(fact)
            for batch, seen in zip(batches, taken, strict=True):
                if once not in seen and (size is None or len(batch) < size):
                    batch.append(fact)
                    seen.add(once)
                    break
            else:
                batches.append([fact])
                taken.append({once})
        if size is None and len(batches) > 1:
            log.info("facts about the same subject are written in %d successive batches", len(batches))
        return batches

    def remembered_as(self, fact: Fact) -> Hashable:
        """What a fact's key stands for in memory; a new fact of which the same is said takes its place."""
        subject = same_subject_key(fact.subject)
        return subject if self.holds_earlier else (subject, fact.prompt)

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
    spellings: bool = flag(
        True,
        "texts in which the tokenizer makes other tokens of the subject's last word, as at a text's beginning, have a key and a target of their own",
    )

    def once(self, fact: Fact) -> str:
        return fact.text

    def columns(self, facts: Sequence[Fact]) -> list[int]:
        found: dict[str, int] = {}
        return [found.setdefault(same_subject_key(fact.subject), len(found)) for fact in facts]
