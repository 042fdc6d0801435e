"""Models that can be asked for facts, for other packages: a real one, and what any must be able to do."""

from __future__ import annotations

from bluedit.evaluate._greedy import LiveRespondent
from bluedit.evaluate._respondent import Respondent

__all__ = ["LiveRespondent", "Respondent"]
