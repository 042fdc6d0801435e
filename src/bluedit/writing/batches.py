"""Which facts are written together."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from bluedit.facts.fact import Fact

log = logging.getLogger(__name__)


def split_batches(facts: Sequence[Fact], size: int | None, *, merge: bool = False) -> list[list[Fact]]:
    """Batches of at most `size` facts, in order, no subject twice in one: equal keys with different values would average out.

    With `merge` a subject may come twice in a batch, but no prompt: its facts then share one target.
    """
    batches: list[list[Fact]] = []
    taken: list[set[str]] = []
    for fact in facts:
        once = fact.text if merge else fact.subject
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
