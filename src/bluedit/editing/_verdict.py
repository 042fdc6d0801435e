"""Measuring a model by the rules of a guard."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bluedit.editing.rules import Rule
from bluedit.errors import ModelError
from bluedit.facts.fact import Fact
from bluedit.progress import Progress

if TYPE_CHECKING:
    from bluedit.evaluate.baseline import Baseline
    from bluedit.writing.weights import EditedWeights

_TIGHT = 0.9  # of a limit


@dataclass(frozen=True)
class Figure:
    """One rule's figure.

    Attributes:
        value: of the model as it is; None if the model's numbers are not finite.
        before: of the model before the batch; None if that was not measured.
    """

    rule: Rule
    value: float | None
    before: float | None

    @property
    def holds(self) -> bool:
        return self.value is not None and self.rule.holds(self.value)

    @property
    def hopeless(self) -> bool:
        """Whether the limit was broken before the batch, and the batch made it no better."""
        if self.holds or self.before is None or self.rule.holds(self.before):
            return False
        return self.value is None or (self.value >= self.before) != self.rule.least

    def better_than(self, other: Figure) -> bool:
        """Whether it is nearer to the limit than another one of the same rule."""
        if self.value is None or other.value is None:
            return self.value is not None
        return self.value > other.value if self.rule.least else self.value < other.value

    @property
    def share(self) -> float:
        """The share of the change that would just hold, if the figure grew with the rule's power of it."""
        if self.value is None:
            return 0.5
        start = self.before or 0.0
        room, taken = self.rule.limit - start, self.value - start
        return (room / taken) ** (1 / self.rule.power) if 0 < room < taken else 0.0 if room <= 0 else 1.0

    @property
    def sentence(self) -> str:
        rule = self.rule
        bound = "at least" if rule.least else "limit"
        return f"{rule.shown(self.value)} ({bound} {rule.value(rule.limit)})"

    def record(self) -> dict[str, Any]:
        """For JSON."""
        finite = self.value is not None and math.isfinite(self.value)
        found = {"rule": self.rule.kind, "limit": self.rule.limit, "value": self.value if finite else None}
        return found | ({} if self.before is None else {"before": self.before})


@dataclass(frozen=True)
class Verdict:
    """All figures of a model, and the facts that rules blame."""

    figures: tuple[Figure, ...]
    blamed: tuple[Fact, ...] = ()

    @property
    def broken(self) -> list[Figure]:
        return [one for one in self.figures if not one.holds]

    @property
    def passed(self) -> bool:
        return not self.broken

    def breaks_no_more_than(self, before: Verdict) -> bool:
        """Whether every rule holds, or is broken less than before."""
        pairs = zip(self.figures, before.figures, strict=True)
        return all(now.holds or now.better_than(then) for now, then in pairs)

    @property
    def told(self) -> str:
        """All figures."""
        return ", ".join(one.sentence for one in self.figures) or "no rule was checked"

    @property
    def hopeless(self) -> bool:
        """Whether no part of the batch can keep the limits, because they were broken before it."""
        return any(one.hopeless for one in self.broken)

    @property
    def of_facts(self) -> bool:
        """Whether a rule about the batch's own facts is broken."""
        return any(one.rule.of_facts for one in self.broken)

    @property
    def of_others(self) -> bool:
        """Whether a rule about everything else is broken."""
        return any(not one.rule.of_facts for one in self.broken)

    @property
    def tight(self) -> bool:
        """Whether a figure uses up nearly all of its limit, so that a larger share would be hardly more."""
        upper = [one for one in self.figures if not one.rule.of_facts and not one.rule.least]
        return any(one.value is not None and one.value >= _TIGHT * one.rule.limit for one in upper)

    @property
    def share(self) -> float:
        """The share of the change that would just hold."""
        return min((one.share for one in self.broken if not one.rule.of_facts), default=1.0)

    @property
    def why(self) -> str:
        """What is broken, without a full stop."""
        past = " before this batch already" if self.hopeless else ""
        return ", ".join(one.sentence for one in self.broken) + past

    def record(self) -> list[dict[str, Any]]:
        """For JSON."""
        return [one.record() for one in self.figures]


@dataclass(eq=False)
class _Model:
    """The model as it is, for one verdict."""

    checks: Checks
    batch: Sequence[Fact]

    def facts(self) -> Sequence[Fact]:
        return self.batch

    def unsaid(self) -> Sequence[Fact]:
        return self._unsaid

    @cached_property
    def _unsaid(self) -> list[Fact]:
        return self.checks.baseline.unsaid(self.batch, self.checks.progress)

    def protected(self) -> Sequence[float]:
        return self.checks.baseline.changes(self.checks.protect)

    def perplexity_rise(self) -> float:
        return self.checks.baseline.perplexity_rise()

    def passage_kl(self) -> float:
        return self.checks.baseline.passage_kl()

    def norm_growth(self) -> float:
        return max(self.checks.weights.norm_growth().values(), default=0.0)


@dataclass(eq=False)
class Checks:
    """Measures a model by some rules, and remembers the figures that were there before a batch.

    Attributes:
        rules: the guard's.
        protect: facts whose answers must not change.
        before: figures of the model before the batch by kind of rule.
    """

    rules: Sequence[Rule]
    protect: Sequence[Fact]
    baseline: Baseline
    weights: EditedWeights
    progress: Progress
    before: dict[str, float | None] = field(default_factory=dict)

    def begin(self) -> None:
        """Measure the model before the first batch; an unedited one needs no measurement."""
        others = [rule for rule in self.rules if not rule.of_facts]
        if self.weights.edited:
            self.kept(self.verdict((), others))
        else:
            self.before = {rule.kind: 0.0 for rule in others}

    def verdict(self, facts: Sequence[Fact], rules: Sequence[Rule] | None = None) -> Verdict:
        """Measure the model as it is.

        Args:
            facts: the batch's.
            rules: those to check; None for all.
        """
        model = _Model(self, facts)
        figures, blamed = [], []
        for rule in self.rules if rules is None else rules:
            try:
                value: float | None = rule.figure(model)
            except ModelError:  # numbers that are not finite
                value = None
            one = Figure(rule, value, self.before.get(rule.kind))
            figures.append(one)
            if value is not None and not one.holds:
                blamed += rule.blamed(model)
        return Verdict(tuple(figures), tuple(blamed))

    def kept(self, verdict: Verdict) -> None:
        """The batch stays: its figures are those before the next one."""
        self.before |= {one.rule.kind: one.value for one in verdict.figures if not one.rule.of_facts}
