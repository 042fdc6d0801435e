"""Post-processing of updates (RECT, PRUNE, strength, REVIVE, SPHERE)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bluedit.methods.part import Part
from bluedit.options import flag, number

if TYPE_CHECKING:
    from bluedit.maths.filters import Shield
    from bluedit.shapes import Float, Tensor


class Filter(Part, slot="filters"):
    """Changes the update of a layer when a batch has been written.

    Filters are applied in the order of the recipe, but those with `shown_only` run last.

    Attributes:
        shown_only: the weight shows W0 + apply(...), but the unfiltered sum is kept, so the next batch builds on all that was learned.
        feedback: what the filter dropped is added back when the next batch is written.
    """

    shown_only: ClassVar[bool] = False
    feedback: ClassVar[bool] = False

    def apply(
        self,
        W0: Float[Tensor, "d_value d_key"],
        before: Float[Tensor, "d_value d_key"],
        total: Float[Tensor, "d_value d_key"],
    ) -> Float[Tensor, "d_value d_key"]:
        """The sum of updates after filtering, float64.

        Args:
            W0: the weight before any edit.
            before: sum of the updates before the batch.
            total: the same with the batch.
        """
        raise NotImplementedError

    @classmethod
    def prefix(cls) -> str:
        return f"{cls.slot}.{cls.kind}."


@dataclass(frozen=True)
class Sparsify(Filter, kind="rect"):
    """Keeps the entries of each batch's update with the largest relative change |dW / W| (RECT, arXiv 2401.04700)."""

    keep: float = number(0.4, "share of entries that are kept", high=1.0, positive=True)
    feedback: bool = flag(  # pyright: ignore[reportIncompatibleVariableOverride]
        False, "add what was dropped back when the next batch is written (arXiv 2605.26670)"
    )

    def apply(self, W0: Tensor, before: Tensor, total: Tensor) -> Tensor:
        from bluedit.maths.filters import rect

        return before + rect(W0 + before, total - before, self.keep)


@dataclass(frozen=True)
class CapSpectrum(Filter, kind="prune"):
    """Caps the singular values of the sum of all updates (PRUNE, arXiv 2405.16821)."""

    shown_only: ClassVar[bool] = True
    base: float = number(1.2, "singular values above W0's largest grow with their logarithm to this base", low=1.0001)

    def apply(self, W0: Tensor, before: Tensor, total: Tensor) -> Tensor:  # noqa: ARG002
        from bluedit.maths.filters import prune

        return prune(W0, total, self.base)


@dataclass(frozen=True)
class Strength(Filter, kind="strength"):
    """Shows only a share of the sum of all updates; later batches are written as if all of it was shown."""

    shown_only: ClassVar[bool] = True
    share: float = number(1.0, "share of the sum of all updates that is shown", high=10.0)

    def apply(self, W0: Tensor, before: Tensor, total: Tensor) -> Tensor:  # noqa: ARG002
        return self.share * total


class WriteFilter(Filter):
    """A filter in factor form: it changes R and A of every write before that is added to the weight.

    So a patch holds factors that are filtered already. It is exported as an adapter of its exact rank, and later steps of the batch see
    what the filter took.
    """

    def shield(self, W0: Float[Tensor, "d_value d_key"]) -> Shield:
        """What to spare at a layer, float64.

        Args:
            W0: the weight before any edit.
        """
        raise NotImplementedError

    def apply(self, W0: Tensor, before: Tensor, total: Tensor) -> Tensor:  # noqa: ARG002
        return total


@dataclass(frozen=True)
class SpareDominant(WriteFilter, kind="revive"):
    """Takes out what a write changes along the dominant singular directions of the unedited weight (REVIVE, arXiv 2601.11042)."""

    energy: float = number(
        0.1,
        "share of the sum of W0's squared singular values that the spared directions carry",
        high=1.0,
        positive=True,
    )

    def shield(self, W0: Tensor) -> Shield:
        from bluedit.maths.filters import dominant

        return dominant(W0, self.energy)


@dataclass(frozen=True)
class SpareNeurons(WriteFilter, kind="sphere"):
    """Weakens what a write changes along the principal directions of the unedited weight's normalised rows (SPHERE, arXiv 2510.01172)."""

    energy: float = number(
        0.5, "share of the sum of squared singular values that the spared directions carry", high=1.0, positive=True
    )
    strength: float = number(
        0.8, "share of the change along them that is taken out (published with AlphaEdit: 0.5)", high=1.0, positive=True
    )

    def shield(self, W0: Tensor) -> Shield:
        from bluedit.maths.filters import hyperspherical

        return hyperspherical(W0, self.energy, self.strength)
