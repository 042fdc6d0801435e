"""Recipes side by side on one data set: facts are written in sequential batches and measured along the way. A benchmark is a folder
(`bluedit.benchmark.record` says what is in it). If it is killed at any moment, the next run continues after the last finished batch and
ends with the same results.

The public names are loaded on first use, so reading a benchmark's folder does not load the code that runs one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bluedit.benchmark.entry import UNEDITED, Entry
    from bluedit.benchmark.plan import Benchmark
    from bluedit.benchmark.reading import read_benchmark
    from bluedit.benchmark.run import run_benchmark
    from bluedit.benchmark.trace import BenchmarkTrace

_HOMES = {
    "UNEDITED": "bluedit.benchmark.entry",
    "Benchmark": "bluedit.benchmark.plan",
    "BenchmarkTrace": "bluedit.benchmark.trace",
    "Entry": "bluedit.benchmark.entry",
    "read_benchmark": "bluedit.benchmark.reading",
    "run_benchmark": "bluedit.benchmark.run",
}

__all__ = ["UNEDITED", "Benchmark", "BenchmarkTrace", "Entry", "read_benchmark", "run_benchmark"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
