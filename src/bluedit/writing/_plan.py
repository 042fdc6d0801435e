"""How the target at a site is optimised."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bluedit.methods.objective import Objective
from bluedit.model.sites import Site
from bluedit.shapes import Float, Tensor
from bluedit.text.rows import Row
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
    """

    site: Site
    objective: Objective
    later: tuple[Site, ...] = ()
    initial: Float[Tensor, "d_value n"] | None = None
    kept: bool = False

    def get(
        self, source: TargetSource | None, lm: EditableModel, rows: Sequence[Row], optimise: Callable[[], Targets]
    ) -> Targets:
        """The targets from a source, if there is one and something to optimise."""
        if source is None or self.kept:
            return optimise()
        more = {"later": self.later} if self.later else {}
        return source.get(lm, rows, self.site, self.objective, optimise, **more)
