"""CounterFact's metrics (ROME, arXiv 2202.05262, section 3.3), each with its strict form beside it. All are teacher-forced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bluedit.evaluate.answers import score
from bluedit.facts.fact import Fact
from bluedit.lm.memory import EditableModel
from bluedit.progress import Progress


@dataclass(frozen=True)
class CounterFactScores:
    """Shares in percent.

    Attributes:
        efficacy, generalisation: prompts (paraphrases) where the new target's mean log-probability per token exceeds the old one's.
        specificity: neighbours where the true answer's exceeds the new target's.
        strict, strict_paraphrase: every token of the new target is the model's first choice.
        facts: number of facts scored.
    """

    efficacy: float
    generalisation: float
    specificity: float
    strict: float
    strict_paraphrase: float
    facts: int


def counterfact_scores(lm: EditableModel, facts: Sequence[Fact], progress: Progress | None = None) -> CounterFactScores:
    """Score facts that have an old target; paraphrases and neighbours weigh by fact, as in the papers' code.

    Raises:
        ValueError: a fact has no old target.
    """
    if any(fact.old_target is None for fact in facts):
        raise ValueError("CounterFact's metrics compare with old_target, and some facts have none")
    pairs: list[tuple[str, str]] = []
    for fact in facts:
        old = fact.old_target or ""
        for prompt in (fact.text, *fact.paraphrases):
            pairs += [(prompt, fact.target), (prompt, old)]
        for neighbour in fact.neighbours:
            pairs += [(neighbour.prompt, fact.target), (neighbour.prompt, neighbour.answer or old)]
    answers = iter(score(lm, pairs, progress))
    columns: dict[str, list[float]] = {
        name: [] for name in ("efficacy", "generalisation", "specificity", "strict", "strict_paraphrase")
    }
    for fact in facts:
        wins, strict = [], []
        for _ in range(1 + len(fact.paraphrases)):
            new, old_answer = next(answers), next(answers)
            wins.append(new.mean_logprob > old_answer.mean_logprob)
            strict.append(new.said)
        kept = []
        for _ in fact.neighbours:
            new, true = next(answers), next(answers)
            kept.append(true.mean_logprob > new.mean_logprob)
        _append(columns, "efficacy", wins[:1])
        _append(columns, "strict", strict[:1])
        _append(columns, "generalisation", wins[1:])
        _append(columns, "strict_paraphrase", strict[1:])
        _append(columns, "specificity", kept)
    return CounterFactScores(**{name: _percent(values) for name, values in columns.items()}, facts=len(facts))


def _append(columns: dict[str, list[float]], name: str, values: Sequence[bool]) -> None:
    if values:
        columns[name].append(sum(values) / len(values))


def _percent(values: Sequence[float]) -> float:
    return 100 * sum(values) / len(values) if values else float("nan")
