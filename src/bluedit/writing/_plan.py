"""How the target at a site is optimised."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bluedit.methods.objective import Objective
from bluedit.model.sites import Site
from bluedit.shapes import Float, Tensor
from bluedit.text.rows import Row
from bluedit.writing.found import FoundTargets
from bluedit.writing.target import Targets, TargetSource

if TYPE_CHECKING:
    from bluedit.model.editable import EditableModel


@dataclass(frozen=True, eq=False)
class Plan:
    """How the target at a site is optimised.

    Attributes:
        later: sites of later layers that are optimised at the same time.
        initial: vectors to start from, d_value x n; None for zero.
        kept: the initial vectors are the target's; nothing is optimised.
        unedited: the target is optimised on the unedited weights.
        first: nothing of the batch has been written yet.
    """

    site: Site
    objective: Objective
    later: tuple[Site, ...] = ()
    initial: Float[Tensor, "d_value n"] | None = None
    kept: bool = False
    unedited: bool = False
    first: bool = True

    def get(
        self,
        source: TargetSource | None,
        known: FoundTargets | None,
        lm: EditableModel,
        rows: Sequence[Row],
        optimise: Callable[[Sequence[Row]], Targets],
    ) -> Targets:
        """The targets: those that are known, else those of a source, if there is one and something to optimise, else what is found now."""

        def whole() -> Targets:
            # no fingerprint of weights tells two beginnings on the unedited weights apart
            continued = self.initial is not None and self.unedited
            if source is None or self.kept or continued:
                return optimise(rows)
            more = {"later": self.later} if self.later else {}
            return source.get(lm, rows, self.site, self.objective, lambda: optimise(rows), **more)

        if known is None or self.initial is not None or not (self.first or self.unedited):
            return whole()
        what = (None if self.unedited else known.weights, repr((self.site, self.later, self.objective)))
        return known.get(what, rows, whole, optimise)
