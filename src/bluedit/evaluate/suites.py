"""The table of suites: what can be measured on facts. Importing it loads no torch.

A suite asks the model through `bluedit.evaluate.queries.Queries`, so tests can give it made-up answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bluedit.errors import BenchmarkError, did_you_mean
from bluedit.evaluate._firm import Choice, Lures
from bluedit.evaluate._generated import Fluency, Generation, Portability
from bluedit.evaluate._locality import Locality
from bluedit.evaluate._suite import Suite
from bluedit.evaluate._teacher_forced import CounterFact, CounterFactPlus, ZsRE

__all__ = ["SUITES", "Suite", "suites_of"]

SUITES: Mapping[str, Suite] = {
    suite.name: suite
    for suite in (
        *(CounterFact(), CounterFactPlus(), ZsRE(), Generation(), Portability(), Fluency(), Locality()),
        *(Lures(), Choice()),
    )
}


def suites_of(names: Iterable[str]) -> list[Suite]:
    """Suites by name. Raises BenchmarkError for an unknown one."""
    found = []
    for name in names:
        if name not in SUITES:
            raise BenchmarkError(f"unknown suite of metrics {name!r}; {did_you_mean(name, SUITES)}")
        found.append(SUITES[name])
    return found
