"""What an unedited model does, measured once, and how far the edited model is from it: the figures of a guard."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import TYPE_CHECKING

from bluedit.evaluate._drift import KeptPassages
from bluedit.evaluate._greedy import LiveRespondent
from bluedit.evaluate.answers import perplexity, score
from bluedit.evaluate.asked import ask_facts
from bluedit.evaluate.passages import ORDINARY_TOKENS, ordinary_passages
from bluedit.progress import Progress

if TYPE_CHECKING:
    from bluedit.evaluate.data import Answer
    from bluedit.facts.fact import Fact
    from bluedit.model.editable import EditableModel

_MOST_BYTES = 2**28  # of log-probabilities that are kept; models with a large vocabulary are compared on fewer tokens


class Baseline:
    """An unedited model's figures, each measured when it is first needed, and the edited model's distance from them.

    Args:
        lm: the model.
        unedited: gives a context manager inside which the model has its unedited weights.
        known: gives the unedited perplexity if it was measured before, else None.
    """

    def __init__(
        self,
        lm: EditableModel,
        unedited: Callable[[], AbstractContextManager[None]],
        known: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._lm, self._unedited, self._known = lm, unedited, known
        self._answers: dict[tuple[Fact, ...], list[Answer]] = {}

    @cached_property
    def perplexity(self) -> float:
        """Of the bundled ordinary passages."""
        known = self._known()
        if known is not None:
            return known
        with self._unedited():
            return perplexity(self._lm, ordinary_passages(), ORDINARY_TOKENS)

    @cached_property
    def _passages(self) -> KeptPassages:
        vocabulary = self._lm.model.config.get_text_config().vocab_size
        tokens = min(ORDINARY_TOKENS, max(200, _MOST_BYTES // (4 * vocabulary)))
        with self._unedited():
            return KeptPassages(self._lm, ordinary_passages(), tokens)

    def perplexity_rise(self) -> float:
        """Relative rise of perplexity on the bundled passages; 0.01 is one percent. Raises ModelError if logits are not finite."""
        return perplexity(self._lm, ordinary_passages(), ORDINARY_TOKENS) / self.perplexity - 1

    def passage_kl(self) -> float:
        """KL(unedited || edited) of the next token on the bundled passages, mean in nats. Raises ModelError if logits are not finite."""
        return self._passages.drift()

    def changes(self, facts: Sequence[Fact]) -> list[float]:
        """For each fact how much its answer changed: the change of the geometric mean of its tokens' probabilities, or 1 if each token of
        it was the first choice and that is no longer so.

        Raises:
            ModelError: logits are not finite.
        """
        key = tuple(facts)
        if key not in self._answers:
            with self._unedited():
                self._answers[key] = self._score(facts)
        pairs = zip(self._answers[key], self._score(facts), strict=True)
        return [1.0 if was.said and not now.said else abs(_mean(now) - _mean(was)) for was, now in pairs]

    def unsaid(self, facts: Sequence[Fact], progress: Progress | None = None) -> list[Fact]:
        """Those of the facts that the text which the model generates at their prompts does not say."""
        replies = ask_facts(LiveRespondent(self._lm, progress or Progress()), facts, only_prompts=True)
        return [fact for fact, (reply,) in zip(facts, replies, strict=True) if not reply.said]

    def _score(self, facts: Sequence[Fact]) -> list[Answer]:
        return score(self._lm, [(fact.text, fact.target, fact.joined) for fact in facts])


def _mean(answer: Answer) -> float:
    return math.exp(answer.mean_logprob)
