"""What one batch of facts changed: the factors of each write, and the facts."""

from __future__ import annotations

from dataclasses import dataclass, field

from bluedit.facts.fact import Fact
from bluedit.methods.recipe import Filter
from bluedit.shapes import Float, Tensor


@dataclass(frozen=True, eq=False)
class Update:
    """dW = R A of one layer and the keys it was solved for; float32, or float64 where the model is.

    Attributes:
        R: residuals, d_value x rank, a column a fact; the identity for fine-tuning.
        A: the solver's rows, rank x d_key; all of dW for fine-tuning.
        keys: keys of the edited model at this layer, d_key x n; later edits preserve them.
        reach: share of each fact's wanted residual that this write delivers at its own key; empty for fine-tuning.
    """

    layer: int
    R: Float[Tensor, "d_value rank"]
    A: Float[Tensor, "rank d_key"]
    keys: Float[Tensor, "d_key n"]
    reach: Float[Tensor, "wanted"]

    @property
    def mean_reach(self) -> float:
        """Share of the batch's whole wanted residual that was delivered: reach weighted by |r|^2. NaN for fine-tuning."""
        if not len(self.reach):
            return float("nan")
        weight = (self.R * self.R).sum(dim=0)
        return float((self.reach * weight).sum() / weight.sum()) if float(weight.sum()) else 1.0

    @property
    def norm(self) -> float:
        """Frobenius norm of R A, from the factors."""
        return float(
            ((self.R.T.double() @ self.R.double()) * (self.A.double() @ self.A.T.double())).sum().clamp(min=0).sqrt()
        )


@dataclass(frozen=True, eq=False)
class Batch:
    """Facts written together, their updates in the order they were made, and the filter their sum passed afterwards."""

    facts: tuple[Fact, ...]
    updates: tuple[Update, ...]
    filter: Filter = field(default_factory=Filter)
