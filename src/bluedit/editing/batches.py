"""Which facts are written, and which of them together."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from bluedit.errors import FactError, RecipeError, did_you_mean
from bluedit.evaluate.answers import score
from bluedit.facts.fact import Fact
from bluedit.lm.memory import EditableModel
from bluedit.progress import Progress

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


def unknown_facts(lm: EditableModel, facts: list[Fact], known: str, progress: Progress) -> list[Fact]:
    """The facts the model does not say yet. Raises FactError when it says some and they are not to be skipped."""
    if known == "edit":
        return facts
    if known not in ("refuse", "skip"):
        raise RecipeError(f"known is {known!r}; {did_you_mean(known, ('refuse', 'skip', 'edit'))}")
    said = [answer.said for answer in score(lm, [(fact.text, fact.target) for fact in facts], progress)]
    new = [fact for fact, already in zip(facts, said, strict=True) if not already]
    old = [fact for fact, already in zip(facts, said, strict=True) if already]
    if not old:
        return facts
    if known == "skip" and new:
        log.info("%d of %d facts are left out: the model says them already", len(old), len(facts))
        return new
    shown = "; ".join(f"{fact.text!r} => {fact.target!r}" for fact in old[:5]) + ("; ..." if len(old) > 5 else "")
    raise FactError(
        f"the model already says {len(old)} of {len(facts)} facts: {shown}. "
        "Leave them out, choose another target, or pass known='skip' (--known skip) to drop them or 'edit' to strengthen them"
    )
