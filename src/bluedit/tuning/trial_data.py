"""What `tune` measures, as rows: trials.csv, and a list in results.json."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrialRow:
    """One setting that was tried on the search facts, or on the first of them where it ended early.

    Attributes:
        number: from 0, in order; 0 is what the model had before.
        settings: by path, as text.
        strict, strict_paraphrase, efficacy, generalisation, specificity, passage_kl, perplexity: see `bluedit.evaluate.outcome.Outcome`.
        success, score: the same page.
        facts: how many it was measured on.
        front: whether no other trial has more success with less KL.
        seconds: it took.
    """

    number: int
    settings: str
    strict: float
    strict_paraphrase: float
    efficacy: float
    generalisation: float
    specificity: float
    passage_kl: float
    perplexity: float
    success: float
    score: float
    facts: int
    front: bool
    seconds: float
