"""The rules of a guard: what a batch may cost, and what it must achieve. Each is a class that registers itself by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from bluedit.evaluate.tables import MOST_DRIFT
from bluedit.facts.fact import Fact
from bluedit.methods.part import Part
from bluedit.options import number


class Observed(Protocol):
    """An edited model as a rule sees it. All figures are of the model as it is, compared with the unedited one."""

    def unsaid(self) -> Sequence[Fact]:
        """Facts of the batch that the model does not say at their prompts."""
        ...

    def facts(self) -> Sequence[Fact]:
        """Facts of the batch."""
        ...

    def protected(self) -> Sequence[float]:
        """How much the answer to each protected fact changed, see `bluedit.evaluate.baseline.Baseline.changes`."""
        ...

    def perplexity_rise(self) -> float:
        """Relative rise of perplexity on ordinary text."""
        ...

    def passage_kl(self) -> float:
        """KL(unedited || edited) of the next token on ordinary text, in nats."""
        ...

    def norm_growth(self) -> float:
        """The largest |W| / |W0| - 1 of an edited weight."""
        ...


class Rule(Part, slot="guard"):
    """A limit that is checked before a batch is kept.

    A rule of your own is a frozen dataclass with a `limit`: `class Mine(Rule, kind="mine")`. Then `guard="mine=0.5"` finds it.

    Attributes:
        limit: what the figure may be at most; at least, if `least`.
        least: whether the figure has to be at least the limit.
        of_facts: whether the figure depends on the batch's facts. Then it is not compared with the one before the batch, and of a recipe
            that writes facts again (`reteach`) it is checked when that is done.
        power: the figure grows with this power of the share of the change that is written.
        by_default: whether the rule is part of the default guard.
        noun: what the figure is of, for sentences.
    """

    limit: float
    least: ClassVar[bool] = False
    of_facts: ClassVar[bool] = False
    power: ClassVar[float] = 2.0
    by_default: ClassVar[bool] = True
    noun: ClassVar[str] = "figure"

    def figure(self, model: Observed) -> float:
        """The figure of the model as it is.

        Raises:
            ModelError: the model's logits are not finite, which breaks every rule.
        """
        raise NotImplementedError

    def blamed(self, model: Observed) -> Sequence[Fact]:
        """Facts of the batch that break the rule by themselves, if that is known."""
        del model
        return ()

    def shown(self, figure: float | None) -> str:
        """A figure in words, e.g. "perplexity +2.1 %"; None if it could not be measured."""
        value = (
            "not measurable, as the model gives numbers that are not finite" if figure is None else self.value(figure)
        )
        return f"{self.noun} {value}"

    @classmethod
    def prefix(cls) -> str:
        return f"{cls.slot}.{cls.kind}."

    def value(self, figure: float) -> str:
        """A figure as text."""
        return f"{figure:.3g}"

    def holds(self, figure: float) -> bool:
        """Whether a figure is within the limit. One that is not a number is not."""
        return figure >= self.limit if self.least else figure <= self.limit


def _percent(figure: float) -> str:
    return f"{100 * figure:+.2f} %"


@dataclass(frozen=True)
class Efficacy(Rule, kind="efficacy"):
    """The least share of a batch's facts that the model says at their prompts."""

    limit: float = number(0.9, "least share of the batch's facts that are said", high=1.0)
    least: ClassVar[bool] = True
    of_facts: ClassVar[bool] = True
    noun: ClassVar[str] = "facts said"

    def figure(self, model: Observed) -> float:
        return 1 - len(model.unsaid()) / len(model.facts())

    def blamed(self, model: Observed) -> Sequence[Fact]:
        return model.unsaid()

    def value(self, figure: float) -> str:
        return f"{100 * figure:.0f} %"


@dataclass(frozen=True)
class PerplexityRise(Rule, kind="perplexity"):
    """The largest rise of perplexity on ordinary text, relative to the unedited model."""

    limit: float = number(MOST_DRIFT, "largest relative rise of perplexity; 0.05 is 5 %")
    noun: ClassVar[str] = "perplexity of ordinary text"

    def figure(self, model: Observed) -> float:
        return model.perplexity_rise()

    def value(self, figure: float) -> str:
        return _percent(figure)


@dataclass(frozen=True)
class PassageKL(Rule, kind="kl"):
    """The largest KL(unedited || edited) of the next token on ordinary text, mean in nats."""

    limit: float = number(0.05, "largest mean KL of the next token, in nats")
    noun: ClassVar[str] = "KL on ordinary text"

    def figure(self, model: Observed) -> float:
        return model.passage_kl()

    def value(self, figure: float) -> str:
        return f"{figure:.4f} nats"


@dataclass(frozen=True)
class ProtectedChange(Rule, kind="protected"):
    """The largest change of the answer to a protected fact; 1 for one that was said and is not any more."""

    limit: float = number(
        0.1, "largest change of a protected answer's probability; 1 if it is not said any more", high=1.0
    )
    noun: ClassVar[str] = "largest change of a protected fact"
    by_default: ClassVar[bool] = False

    def figure(self, model: Observed) -> float:
        return max(model.protected(), default=0.0)

    def value(self, figure: float) -> str:
        return "1 (it is not said any more)" if figure == 1 else f"{figure:.2f}"


@dataclass(frozen=True)
class NormGrowth(Rule, kind="norm"):
    """The largest growth of the Frobenius norm of an edited weight, relative to the unedited one."""

    limit: float = number(0.1, "largest relative growth of a weight's norm; 0.1 is 10 %")
    noun: ClassVar[str] = "norm of a written weight"

    def figure(self, model: Observed) -> float:
        return model.norm_growth()

    def value(self, figure: float) -> str:
        return _percent(figure)
