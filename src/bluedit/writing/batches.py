"""Which facts are written together."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from bluedit.facts.fact import Fact
from bluedit.methods.subjects import Subjects

log = logging.getLogger(__name__)


def split_batches(facts: Sequence[Fact], size: int | None, subjects: Subjects) -> list[list[Fact]]:
    """Batches of at most `size` facts, in order; what may not occur twice in a batch is for `subjects` to say."""
    batches: list[list[Fact]] = []
    taken: list[set[str]] = []
    for fact in facts:
        once = subjects.once(fact)
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
