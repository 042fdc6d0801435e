"""Which facts are written together."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from bluedit.facts.fact import Fact

log = logging.getLogger(__name__)


def split_batches(facts: Sequence[Fact], size: int | None, *, merge: bool = False) -> list[list[Fact]]:
    """Batches of at most `size` facts, in order, no subject twice in one: equal keys with different values would average out.

    With `merge` a subject may come twice in a batch: its facts then share one target.
    """
    batches: list[list[Fact]] = []
    subjects: list[set[str]] = []
    for fact in facts:
        for batch, seen in zip(batches, subjects, strict=True):
            if (merge or fact.subject not in seen) and (size is None or len(batch) < size):
                batch.append(fact)
                seen.add(fact.subject)
                break
        else:
            batches.append([fact])
            subjects.append({fact.subject})
    if size is None and len(batches) > 1:
        log.info("facts about the same subject are written in %d successive batches", len(batches))
    return batches
