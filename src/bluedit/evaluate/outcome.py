"""What an edit achieved and what it cost, in one number for those who must choose among many: `tune` and `locate`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from bluedit.evaluate._drift import KeptPassages
from bluedit.evaluate.answers import score
from bluedit.evaluate.passages import ordinary_passages
from bluedit.evaluate.queries import Pairs

if TYPE_CHECKING:
    from bluedit.facts.fact import Fact
    from bluedit.model.editable import EditableModel
    from bluedit.progress import Progress

DRIFT_WEIGHT = 2.0  # points of success that 0.01 nats of KL on ordinary text are worth
_TOKENS, _LEAST_TOKENS = 2000, 500  # of the bundled passages
_MOST_BYTES = 2**30  # of log-probabilities that are kept; models with a large vocabulary are compared on fewer tokens


@dataclass(frozen=True)
class Outcome:
    """Facts and ordinary text after an edit. Shares are between 0 and 1, NaN where the facts have nothing to ask.

    Attributes:
        strict, strict_paraphrase: prompts and paraphrases on which the target is the first choice, token by token.
        efficacy, generalisation: prompts and paraphrases on which the target is more probable than the old one.
        specificity: neighbours whose true answer is more probable than the new target.
        passage_kl: KL(unedited || edited) of the next token on ordinary text, in nats.
        perplexity: of the same text.
        by_fact: the success of each fact by itself, NaN where it cannot be told.
    """

    strict: float
    strict_paraphrase: float
    efficacy: float
    generalisation: float
    specificity: float
    passage_kl: float
    perplexity: float
    by_fact: tuple[float, ...] = ()

    @property
    def success(self) -> float:
        """The mean of what prompts show (`strict`) and what paraphrases show (the mean of `strict_paraphrase` and `generalisation`)."""
        return _success(self.strict, self.strict_paraphrase, self.generalisation)

    def score(self, before: Outcome) -> float:
        """The number that decides, in points: 100 success, minus the points of specificity that were lost, minus 200 passage_kl."""
        lost = before.specificity - self.specificity
        return 100 * (self.success - max(0.0, 0.0 if math.isnan(lost) else lost) - DRIFT_WEIGHT * self.passage_kl)

    def numbers(self) -> dict[str, float]:
        """All numbers about the facts as a whole, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "by_fact"}


class Yardstick:
    """Measures a model after one edit and another. It is made while the model has its unedited weights.

    Args:
        lm: the model.
        progress: where to report.
    """

    def __init__(self, lm: EditableModel, progress: Progress | None = None) -> None:
        tokens = _MOST_BYTES // (4 * lm.model.config.get_text_config().vocab_size)
        self._lm, self._progress = lm, progress
        self._passages = KeptPassages(lm, ordinary_passages(), min(_TOKENS, max(_LEAST_TOKENS, tokens)))

    def outcome(self, facts: Sequence[Fact]) -> Outcome:
        """Facts and ordinary text on the weights as they are."""
        pairs, plan = Pairs(), []
        for fact in facts:
            own = [(fact.text, fact.joined), *((text, None) for text in fact.paraphrases)]
            new = [pairs.add(text, fact.target, joined) for text, joined in own]
            old = (
                [pairs.add(text, fact.old_target, joined) for text, joined in own]
                if fact.old_target is not None
                else []
            )
            near = [pairs.add_two(n.prompt, n.answer, fact.target) for n in fact.neighbours if n.answer]
            plan.append((new, old, near))
        answers = score(self._lm, pairs.all, self._progress)

        def likelier(one: int, other: int) -> bool:
            return answers[one].mean_logprob > answers[other].mean_logprob

        def alone(new: list[int], old: list[int]) -> float:
            """The success of one fact."""
            told = mean(answers[i].said for i in new[1:])
            return _success(float(answers[new[0]].said), told, mean(map(likelier, new[1:], old[1:])))

        passage_kl, perplexity = self._passages.drift_and_perplexity()
        return Outcome(
            strict=mean(answers[new[0]].said for new, _, _ in plan),
            strict_paraphrase=mean(mean(answers[i].said for i in new[1:]) for new, _, _ in plan),
            efficacy=mean(likelier(new[0], old[0]) for new, old, _ in plan if old),
            generalisation=mean(mean(map(likelier, new[1:], old[1:])) for new, old, _ in plan if old),
            specificity=mean(mean(likelier(*pair) for pair in near) for _, _, near in plan),
            passage_kl=passage_kl,
            perplexity=perplexity,
            by_fact=tuple(alone(new, old) for new, old, _ in plan),
        )


def _success(strict: float, strict_paraphrase: float, generalisation: float) -> float:
    return mean([strict, mean([strict_paraphrase, generalisation])])


def mean(values: Iterable[float]) -> float:
    """The mean of the values that are there; NaN if none is."""
    found = [float(value) for value in values if not math.isnan(value)]
    return sum(found) / len(found) if found else math.nan
