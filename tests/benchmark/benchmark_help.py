"""What the tests of benchmarks share: a small plan, and how a benchmark is stopped on its way."""

import json
from dataclasses import asdict, replace

from bluedit.benchmark import Benchmark, BenchmarkTrace, run_benchmark
from bluedit.facts import Fact, Neighbour
from bluedit.progress import Progress

SETTINGS = "layers=1+2+3,objective.steps=3,contexts.count=1,preserve.lambda=1"
NAMES = ("France", "London", "Rome", "Berlin")
FACTS = [
    Fact(
        "The capital of {} is",
        subject=name,
        target="Rome",
        old_target="Paris",
        paraphrases=(f"{name} has the capital",),
        neighbours=(Neighbour("The capital of England is", "London"),),
    )
    for name in NAMES
]
PASSAGES = ("The weather was mild that morning, so the committee met again in the afternoon.",)
UNEDITED, BLUE, RECT = ENTRIES = ("unedited", f"memit-seq-blue:{SETTINGS}", f"rect:{SETTINGS}")


def plan(**changes):
    return replace(Benchmark(FACTS, ENTRIES, batch_size=2, passages=PASSAGES, tokens=480), **changes)


def run(lm, folder, trace=None, **changes):
    return run_benchmark(lm, plan(**changes), folder, Progress(), trace=trace)


def without_time(rows):
    """Rows as JSON, without the seconds."""
    return json.loads(json.dumps([asdict(replace(row, seconds_per_edit=None)) for row in rows]))


def batches(folder):
    """What an entry's log holds, as JSON."""
    return json.loads((folder / "batches.json").read_text())["batches"]


class Stopped(BenchmarkTrace):
    """Raises an error in the so-manieth call of one of its methods, and forbids others.

    Args:
        event: name of the method.
        call: which of its calls raises, counted from 1; None means every call.
        error: what is raised.
        entry: calls for other entries do not count.
    """

    def __init__(self, event, call=None, error=KeyboardInterrupt, entry=None):
        self._call, self._error, self._entry, self._calls = call, error, entry, 0
        setattr(self, event, self._count)

    def _count(self, entry, *_rest):
        if self._entry is None or entry.name == self._entry:
            self._calls += 1
            if self._call in (None, self._calls):
                raise self._error
