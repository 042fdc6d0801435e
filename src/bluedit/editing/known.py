"""Which facts of a request the model does not say yet, with the spacing of their targets settled."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from bluedit.errors import FactError, RecipeError, did_you_mean
from bluedit.evaluate.answers import score
from bluedit.facts.fact import Fact
from bluedit.model.editable import EditableModel
from bluedit.progress import Progress
from bluedit.spacing import joined_by_rule
from bluedit.text.joining import likelier_joined
from bluedit.text.prompts import encode_answer

log = logging.getLogger(__name__)


def with_spacing(lm: EditableModel, facts: Sequence[Fact]) -> list[Fact]:
    """The facts, with `joined` set by what the model finds more likely, where the user left it open and no rule applies."""
    unsure = [
        i for i, fact in enumerate(facts) if fact.joined is None and joined_by_rule(fact.text, fact.target) is None
    ]
    settled = list(facts)
    for i, joined in zip(unsure, likelier_joined(lm, [(facts[i].text, facts[i].target) for i in unsure]), strict=True):
        settled[i] = replace(facts[i], joined=joined)
    return settled


def unknown_facts(lm: EditableModel, facts: Sequence[Fact], known: str, progress: Progress) -> list[Fact]:
    """The facts the model does not say yet, with their spacing settled (see `with_spacing`).

    Args:
        lm: the model.
        facts: the facts of a request.
        known: what to do with those the model says: "refuse", "skip", or "edit" to keep them.
        progress: where to report.

    Raises:
        FactError: it says some and they are not to be skipped, or it has no embedding for a token of one.
        RecipeError: another value of `known`.
    """
    facts = with_spacing(lm, facts)
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
    if known == "skip":
        raise FactError(
            "nothing is left to edit: the model says already what is asked for (known='edit', --known edit strengthens them)"
        )
    shown = "; ".join(f"{fact.text!r} => {fact.target!r}" for fact in old[:5]) + ("; ..." if len(old) > 5 else "")
    raise FactError(
        f"the model already says {len(old)} of {len(facts)} facts: {shown}. "
        "Leave them out, choose another target, or pass known='skip' (--known skip) to drop them or 'edit' to strengthen them"
    )
