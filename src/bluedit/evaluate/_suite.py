"""The base of all suites of metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from bluedit.evaluate.metrics import Columns
    from bluedit.evaluate.queries import Queries
    from bluedit.facts.fact import Fact, Probe


class Suite(ABC):
    """Metrics that are measured together, fact by fact, in batched runs.

    Attributes:
        name: what `--suite` calls it.
        measures: what it measures, in a few words.
        needs: what it needs in a fact, in a few words.
        metrics: the metrics it gives, keys of `bluedit.evaluate.metrics.METRICS`.
    """

    name: ClassVar[str]
    measures: ClassVar[str]
    needs: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]

    def check(self, facts: Sequence[Fact]) -> None:  # noqa: B027 - most suites can measure any fact
        """Raises FactError when these facts lack what the suite needs."""

    @abstractmethod
    def texts(self, queries: Queries, fact: Fact) -> Iterator[str]:
        """The texts that the model reads for a fact, or longer ones: each must fit into its context."""

    @abstractmethod
    def measure(self, queries: Queries, facts: Sequence[Fact]) -> Columns:
        """One number per metric and fact; NaN where the fact has nothing to score."""

    def measure_passages(self, queries: Queries, texts: Sequence[str], tokens: int) -> dict[str, float]:  # noqa: ARG002
        """Metrics over the first `tokens` tokens of ordinary passages; most suites have none."""
        return {}


def longest(prompt: str, *answers: str | None) -> str:
    """A prompt with the longest of its answers."""
    return f"{prompt} {max((answer or '' for answer in answers), key=len, default='')}"


def target_pairs(fact: Fact) -> list[tuple[str, str, bool | None]]:
    """The target at the fact's prompt, joined as the fact says, and at each paraphrase, whose end decides by itself."""
    return [(fact.text, fact.target, fact.joined), *((text, fact.target, None) for text in fact.paraphrases)]


def probes_of(fact: Fact, kind: str) -> list[Probe]:
    """A fact's probes of one kind."""
    return [probe for probe in fact.probes if probe.kind == kind]
