"""Reading a whole benchmark folder, for its page."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bluedit.benchmark.entry import family, stem
from bluedit.benchmark.record import (
    FILES,
    Configuration,
    EntryLog,
    FactRecord,
    FactRecords,
    Failure,
    FineTuned,
    Measured,
    read,
    read_configuration,
)
from bluedit.errors import BenchmarkError
from bluedit.evaluate.data import HiddenDrift
from bluedit.methods.schedules import Schedule

NAN = float("nan")


@dataclass(frozen=True)
class EntryRecord:
    """A finished entry.

    Attributes:
        log: its batches.
        last: the metrics after the last batch.
        facts: fact by fact, in the order of the data set.
        hidden, finetuned: None where they were not measured.
    """

    log: EntryLog
    last: Measured
    facts: Sequence[FactRecord]
    hidden: HiddenDrift | None = None
    finetuned: FineTuned | None = None

    @property
    def name(self) -> str:
        """The entry's name."""
        return self.log.entry

    @property
    def edited(self) -> bool:
        """Whether it is an edited model's."""
        return self.log.edited

    @property
    def seconds_per_edit(self) -> float:
        """NaN for the unedited model."""
        return sum(batch.seconds for batch in self.log.batches) / self.log.facts if self.edited else NAN

    def value(self, name: str) -> float:
        """A metric after the last batch; NaN where there is none."""
        return self.last.all.get(name, NAN)

    def column(self, name: str) -> list[float]:
        """A metric fact by fact; NaN where there is none."""
        return [fact.scores.get(name, NAN) for fact in self.facts]

    def over_all(self, name: str) -> list[float | None]:
        """A metric after each batch, over all facts so far; None where it was not measured."""
        return [batch.measured.all.get(name) if batch.measured else None for batch in self.log.batches]

    def over_first(self, name: str) -> list[float | None]:
        """A metric after each batch, over the facts of the first batch; None where it was not measured."""
        return [batch.measured.first.get(name) if batch.measured else None for batch in self.log.batches]


@dataclass(frozen=True)
class BenchmarkRecord:
    """A benchmark's folder.

    Attributes:
        configuration: what it runs.
        entries: the finished ones, in the order in which they were requested.
        failures: why entries were given up, by name.
    """

    folder: Path
    configuration: Configuration
    entries: Sequence[EntryRecord]
    failures: Mapping[str, str]

    @property
    def unfinished(self) -> list[str]:
        """Names of the entries that are not finished."""
        done = {entry.name for entry in self.entries}
        return [name for name in self.configuration.entries if name not in done]

    @property
    def edited(self) -> list[EntryRecord]:
        """The entries of edited models."""
        return [entry for entry in self.entries if entry.edited]

    def unedited(self, name: str) -> float:
        """A metric of the unedited model; NaN where it was not measured."""
        return next((entry.value(name) for entry in self.entries if not entry.edited), NAN)

    def names(self, among: Iterable[str]) -> list[str]:
        """Those of some metrics that any entry has."""
        return [name for name in among if any(not math.isnan(entry.value(name)) for entry in self.entries)]

    def pairs(self) -> list[tuple[EntryRecord, EntryRecord]]:
        """(plain, with BLUE) of each recipe that was run both ways: with the same settings in their names or, if a recipe has just one entry of
        each form, whatever their settings."""
        forms = [(*family(entry.name), entry) for entry in self.edited]
        plain = {entry.name: entry for _, is_blue, entry in forms if not is_blue}
        blue = {base: entry for base, is_blue, entry in forms if is_blue}
        pairs = {name: (plain[name], blue[name]) for name in plain if name in blue}
        for base in {stem(name) for name in plain}:
            (one, *more), others = [n for n in plain if stem(n) == base], [n for n in blue if stem(n) == base]
            if not more and len(others) == 1:
                pairs[one] = (plain[one], blue[others[0]])
        return [pairs[name] for name in plain if name in pairs]

    def settings_apart(self, one: EntryRecord, other: EntryRecord) -> dict[str, tuple[Any, Any]]:
        """Settings that both entries have, other than the schedule, and in which they differ."""
        settings = self.configuration.settings
        mine, theirs = settings.get(one.name, {}), settings.get(other.name, {})
        return {
            path: (mine[path], theirs[path])
            for path in mine
            if path in theirs and path != Schedule.slot and mine[path] != theirs[path]
        }


def read_benchmark(folder: Path) -> BenchmarkRecord:
    """Read the finished part of a benchmark, which may still be running.

    Raises:
        BenchmarkError: not a benchmark, nothing finished in it yet, or damaged.
    """
    configuration = read_configuration(folder)
    if configuration is None:
        raise BenchmarkError(
            f"{folder} is not a benchmark: it holds no config.json; make one with: bluedit benchmark --out {shlex.quote(str(folder))}"
        )
    places = sorted(file.parent for file in folder.glob(f"*/{FILES[FactRecords]}"))
    entries = [entry for entry in map(_read_entry, places) if entry]
    if not entries:
        raise BenchmarkError(f"no entry of {folder} is finished yet; let 'bluedit benchmark' come to its end first")
    for entry in entries:
        if _edits(entry) != _edits(entries[0]):
            raise BenchmarkError(
                f"{folder} is damaged (other facts in {entry.name} than in {entries[0].name}); "
                "delete the folder of the entry that is wrong and run the same benchmark again"
            )
    order = list(configuration.entries)
    place = {entry.name: order.index(entry.name) if entry.name in order else len(order) for entry in entries}
    failures = [read(Failure, file.parent) for file in sorted(folder.glob(f"*/{FILES[Failure]}"))]
    return BenchmarkRecord(
        folder,
        configuration,
        sorted(entries, key=lambda entry: place[entry.name]),
        {failure.entry: failure.why for failure in failures if failure and failure.entry in order},
    )


def _read_entry(place: Path) -> EntryRecord | None:
    """An entry from its folder; None if it is not finished. Its facts are written before the log of the last batch."""
    log, facts = read(EntryLog, place), read(FactRecords, place)
    if not log or not facts or not log.batches or log.facts != len(facts.facts):
        return None
    last = log.batches[-1].measured
    return last and EntryRecord(log, last, facts.facts, read(HiddenDrift, place), read(FineTuned, place))


def _edits(entry: EntryRecord) -> list[tuple[str, str]]:
    return [(fact.text, fact.target) for fact in entry.facts]


def finite(*values: float | None) -> bool:
    """Whether all of some values are finite numbers."""
    return all(value is not None and math.isfinite(value) for value in values)
