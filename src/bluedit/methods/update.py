"""How the weights of a layer change: the closed form, or gradient descent on the weight itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, Protocol

from bluedit.errors import RecipeError
from bluedit.maths.schedule import Step
from bluedit.methods.filters import Filter, WriteFilter
from bluedit.methods.keys import Keys, WholeKeys
from bluedit.methods.part import Part, part
from bluedit.methods.preserve import Covariance, Preserve
from bluedit.options import choice, number, whole

_ALL, _LAST = "all", "last"


class BatchWriter(Protocol):
    """The argument of `Update.write`: a batch of facts that can be written in either way (see `bluedit.writing.loop`)."""

    def solve(self, update: ClosedForm) -> Any:
        """Write in closed form."""
        ...

    def train(self, update: FineTune) -> Any:
        """Fine-tune the layer."""
        ...


@dataclass(frozen=True)
class Rounds(Part, slot="rounds"):
    """How often a batch is written, and which facts are written again (NSE, arXiv 2410.04045, section 3.3)."""

    count: int = whole(1, "largest number of rounds of writing; the first writes all facts", low=1.0, high=100.0)
    lower: float = number(
        0.25, "a fact is written again while its missing residual is longer than this, in units of |h|"
    )
    upper: float = number(
        10.0, "a fact whose missing residual is longer than this is not written again, in units of |h|", positive=True
    )


@dataclass(frozen=True)
class Refine(Part, slot="refine"):
    """Steps of Adam on what was written: R of all layers at once, on what the written model says (see `bluedit.writing._refine`)."""

    steps: int = whole(0, "most steps of gradient descent on R after a batch is written, with A as it is; 0 means none")
    each: float = number(0.4, "steps for each column of R, up to that number", positive=True)
    together: float = number(
        0.2,
        "steps for each column when all batches of an edit are refined together at its end; 0 leaves them as they are",
    )
    least: int = whole(30, "fewer columns are left as they are")
    learning_rate: float = number(
        0.05, "size of the first step, relative to R; later ones shrink to nothing", positive=True
    )
    weight: float = number(
        100.0,
        "weight of |h - h0|^2 / |h0|^2 of ordinary text beside the facts' -log p in nats; h0 is the unedited model's",
    )
    texts: int = whole(24, "fewest texts of facts that a step sees", low=1.0)
    texts_each: float = number(0.25, "texts that a step sees for each column, if these are more")
    tokens: int = whole(4096, "tokens of ordinary text that a step sees", low=1.0)
    names: int = whole(
        1024,
        "tokens of what the facts' texts say of well-known names that a step sees when batches are refined together, held like ordinary "
        "text; 0 means none",
    )
    seed: int = whole(0, "random seed for which text a step sees")

    def steps_for(self, columns: int) -> int:
        """How many steps a batch of so many columns gets."""
        return self._steps(self.each, columns)

    def steps_together(self, columns: int) -> int:
        """How many steps several batches of so many columns in all get."""
        return self._steps(self.together, columns)

    def texts_for(self, columns: int) -> int:
        """How many texts a step sees of so many columns."""
        return max(self.texts, ceil(self.texts_each * columns))

    def _steps(self, each: float, columns: int) -> int:
        return min(self.steps, ceil(each * columns)) if columns >= self.least else 0


class Update(Part, slot="update"):
    """Writes a batch.

    Attributes:
        preserve: what it leaves alone, which needs second moments of keys; None if it takes no care of that.
        filters: post-processing of what was written.
        refine: how large batches are corrected after they are written.
    """

    preserve: Preserve | None = None
    filters: tuple[Filter, ...] = ()
    refine: Refine = Refine()

    def write(self, batch: BatchWriter) -> Any:
        """Write a batch of facts with this update."""
        raise NotImplementedError

    @property
    def write_filters(self) -> tuple[WriteFilter, ...]:
        """Filters that change the factors of each write."""
        return tuple(f for f in self.filters if isinstance(f, WriteFilter))

    @property
    def batch_filters(self) -> tuple[Filter, ...]:
        """Filters that change the sum when a batch is complete."""
        return tuple(f for f in self.filters if not isinstance(f, WriteFilter))

    @property
    def refines(self) -> bool:
        """Whether large batches are corrected after they are written."""
        return self.refine.steps > 0

    def check(self, steps: Sequence[Step]) -> None:
        """Raises RecipeError when the update cannot take these steps."""

    @property
    def summary(self) -> str:
        """What the update leaves alone, in a few words."""
        raise NotImplementedError


@dataclass(frozen=True)
class ClosedForm(Update, kind="closed-form"):
    """dW = R A with A = (s I + K^T G K)^-1 K^T G, for every locate-then-edit method."""

    slack: float = number(1.0, "s: 1 is least squares, 0 an equality constraint, slightly above 0 adds a ridge")
    preserve: Preserve = part(Covariance(), Preserve)  # pyright: ignore[reportIncompatibleVariableOverride]
    filters: tuple[Filter, ...] = part((), Filter)
    keys: Keys = part(WholeKeys(), Keys)
    rounds: Rounds = part(Rounds(), Rounds)
    refine: Refine = part(Refine(), Refine)

    def check(self, steps: Sequence[Step]) -> None:  # noqa: ARG002
        if self.refines and self.write_filters:
            raise RecipeError(
                "refine.steps would put back what the recipe's filters take out of R; leave out one of the two"
            )

    @property
    def exact(self) -> bool:
        """Whether every key must get exactly its value."""
        return self.slack == 0

    @property
    def solved_as_recorded(self) -> bool:
        """Whether the recorded A is the solver's for the recorded keys."""
        return not self.write_filters and not self.keys.common

    def write(self, batch: BatchWriter) -> Any:
        return batch.solve(self)

    @property
    def summary(self) -> str:
        parts = [
            self.preserve.summary,
            *["exactly met"] * self.exact,
            *["keys without what names share"] * self.keys.common,
        ]
        return ", ".join(parts)


@dataclass(frozen=True)
class FineTune(Update, kind="finetune"):
    """Gradient descent on one projection, for the baselines that editing is compared with."""

    loss: str = choice(
        _ALL,
        "all: each target token is predicted at its own position; last: all are predicted at the prompt's last token (FT-L)",
        _ALL,
        _LAST,
    )
    learning_rate: float = number(5e-4, "Adam's step size", positive=True)
    epochs: int = whole(25, "largest number of passes over the batch", low=1.0)
    minibatch: int = whole(0, "facts per step; 0 means all")
    norm: float = number(0.0, "largest change of a single weight; 0 means no limit")
    stop_loss: float = number(0.01, "training ends when an epoch's mean loss is below this, in nats")
    seed: int = whole(0, "random seed for the order of facts")

    @property
    def at_prompt_end(self) -> bool:
        """Whether every target token is predicted at the prompt's last token."""
        return self.loss == _LAST

    def write(self, batch: BatchWriter) -> Any:
        return batch.train(self)

    def check(self, steps: Sequence[Step]) -> None:
        if len({step.layer for step in steps}) != 1:
            raise RecipeError(
                f"fine-tuning trains one layer, and the schedule writes {len(steps)}; set schedule=single"
            )

    @property
    def summary(self) -> str:
        return "–"
