"""Which facts of a request the model says already."""

from __future__ import annotations

import logging

from bluedit.errors import FactError, RecipeError, did_you_mean
from bluedit.evaluate.answers import score
from bluedit.facts.fact import Fact
from bluedit.model.editable import EditableModel
from bluedit.progress import Progress
from bluedit.text.prompts import encode_answer

log = logging.getLogger(__name__)


def unknown_facts(lm: EditableModel, facts: list[Fact], known: str, progress: Progress) -> list[Fact]:
    """The facts the model does not say yet.

    Raises:
        FactError: it says some and they are not to be skipped, or it has no embedding for a token of one.
    """
    texts = [encode_answer(lm.tokenizer, fact.text, fact.target, fact.joined) for fact in facts]
    lm.check_tokens(ids for text in texts for ids in text)
    if known == "edit":
        return facts
    if known not in ("refuse", "skip"):
        raise RecipeError(f"known is {known!r}; {did_you_mean(known, ('refuse', 'skip', 'edit'))}")
    said = [answer.said for answer in score(lm, [(fact.text, fact.target, fact.joined) for fact in facts], progress)]
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
