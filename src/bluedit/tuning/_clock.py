"""The time of a search, and how much of it the comparison on unseen facts may take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bluedit.tuning._study import Tried

_LEAST = 8  # facts of a comparison
_SHARE = 1 / 3  # of the time that a comparison may take where all unseen facts would take more


@dataclass(frozen=True)
class Clock:
    """When a call began, and how many minutes it has."""

    started: float
    minutes: float

    def is_up(self, whole: Sequence[Tried], unseen: int) -> bool:
        """Whether another trial on all search facts would leave too little time for the comparison."""
        longest = max(one.seconds for one in whole)
        return longest + self._reserved(whole, unseen) > self._left

    def comparable(self, whole: Sequence[Tried], unseen: int) -> int:
        """How many of the unseen facts there is time to compare on: all of them, or fewer, but never less than eight."""
        affordable = int(max(self._left, 0.0) / (2 * _seconds_per_fact(whole)))
        return min(unseen, max(_LEAST, affordable))

    def _reserved(self, whole: Sequence[Tried], unseen: int) -> float:
        per_fact = 2 * _seconds_per_fact(whole)  # edited with both settings
        return min(unseen * per_fact, max(_LEAST * per_fact, _SHARE * 60 * self.minutes))

    @property
    def _left(self) -> float:
        return self.started + 60 * self.minutes - time.monotonic()


def _seconds_per_fact(whole: Sequence[Tried]) -> float:
    return max(one.seconds / one.facts for one in whole)
