"""What a benchmark's folder contains: one dataclass for each file. `write` writes it, and `read` reads and checks it.

FOLDER/config.json              Configuration: what is run, and what its numbers depend on
FOLDER/targets/                 optimised targets, shared by entries where they are the same
FOLDER/ENTRY/patch/             all edits so far
FOLDER/ENTRY/batches.json       EntryLog: after each batch, seconds, reach, norms and the metrics
FOLDER/ENTRY/facts.json         FactRecords: fact by fact, after the last batch
FOLDER/ENTRY/hidden.json        HiddenDrift: hidden states of known facts before and after all edits
FOLDER/ENTRY/finetuned.json     FineTuned: the metrics before and after a short further fine-tuning
FOLDER/ENTRY/failed.json        Failure: why the entry was given up
FOLDER/results.csv, results.md  the table
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from bluedit.benchmark.entry import UNEDITED
from bluedit.decoding import Damage, decode, read_json
from bluedit.errors import BenchmarkError
from bluedit.evaluate.data import Ability, HiddenDrift, Sampling, Training
from bluedit.evaluate.metrics import METRICS, OF_A_MODEL
from bluedit.files import DIGEST, json_digest, with_digest, write_json

FORMAT = 3  # 2 had loose dictionaries; 1 measured the gap to teacher forcing, and sampled text, in another way
Record = TypeVar("Record")
Scores = Mapping[str, float]
_SHARES = {name for name, metric in (METRICS | OF_A_MODEL).items() if metric.is_share}
_SLACK = 1e-6  # rounding of a share


@dataclass(frozen=True)
class Configuration:
    """What a benchmark runs, and everything that its numbers depend on.

    Attributes:
        entries: names of all entries of the benchmark so far, in the order in which they were requested.
        settings: for each edited entry, all parts and options of its recipe by path.
        facts: their number; `source` says where they come from, e.g. the name of a file.
        batch_size, edit_size, every, at, suites, passage_tokens, corpus, tokens: as in `Benchmark`.
        weights, tokenizer, facts_fingerprint, passages_fingerprint, corpus_fingerprint: hashes of what they name.
        abilities: a hash of each task's items.
        shots, sampling: few-shot examples of each task; how text is sampled.
        versions: of bluedit, torch and transformers.
        device, threads: where it runs.
    """

    model: str
    weights: str
    tokenizer: str
    facts: int
    facts_fingerprint: str
    batch_size: int
    every: int
    suites: tuple[str, ...]
    passage_tokens: int
    passages_fingerprint: str
    corpus: str
    corpus_fingerprint: str
    tokens: int | None
    abilities: Mapping[str, str]
    shots: int
    sampling: Sampling
    versions: Mapping[str, str]
    entries: tuple[str, ...] = field(metadata={"may_differ": True})
    settings: Mapping[str, Mapping[str, Any]] = field(metadata={"may_differ": True})
    source: str = field(metadata={"may_differ": True})
    device: str = field(metadata={"may_differ": True})
    threads: int = field(metadata={"may_differ": True})
    at: tuple[int, ...] = ()
    edit_size: int | None = None

    def differences(self, other: Configuration) -> list[str]:
        """What differs so much that the other configuration is another benchmark's: names of attributes, and of entries with other settings."""
        names = [f.name for f in dataclasses.fields(self) if not f.metadata.get("may_differ")]
        wrong = [name for name in names if getattr(self, name) != getattr(other, name)]
        shared = [name for name in self.settings if name in other.settings]
        return wrong + [f"settings of {name}" for name in shared if self.settings[name] != other.settings[name]]


@dataclass(frozen=True)
class Measured:
    """The metrics after a batch.

    Attributes:
        all: over all facts so far, and on the ordinary passages.
        by_batch: over the facts of each batch so far.
        abilities: general ability by task; empty if it was not measured after this batch.
    """

    all: Scores
    by_batch: tuple[Scores, ...]
    abilities: Mapping[str, Ability]

    def __post_init__(self) -> None:
        if not self.by_batch:
            raise Damage("by_batch is empty")
        for place, scores in (("all", self.all), *((f"by_batch[{i}]", each) for i, each in enumerate(self.by_batch))):
            _check_shares(place, scores)
        _check_abilities(self.abilities)

    @property
    def first(self) -> Scores:
        """Over the facts of the first batch."""
        return self.by_batch[0]


@dataclass(frozen=True)
class BatchRecord:
    """One batch of facts.

    Attributes:
        facts: their number.
        written: number of batches added to the patch: one, or one per fact if the recipe writes one fact after another; none for the
            unedited model.
        seconds: duration of the edit.
        reach: (layer, share of the residuals that its writes delivered) of each layer.
        norms: |W - W0| / |W0| of each changed layer.
        measured: the metrics; None if nothing was measured after this batch.
    """

    facts: int
    written: int
    seconds: float
    reach: tuple[tuple[int, float], ...]
    norms: Mapping[int, float]
    measured: Measured | None

    def __post_init__(self) -> None:
        for name, least in (("facts", 1), ("written", 0), ("seconds", 0)):
            if not getattr(self, name) >= least:
                raise Damage(f"{name} is {getattr(self, name)}, and it must be at least {least}")


@dataclass(frozen=True)
class EntryLog:
    """The batches of one entry so far."""

    entry: str
    batches: tuple[BatchRecord, ...]

    @property
    def facts(self) -> int:
        """Facts in all batches so far."""
        return sum(batch.facts for batch in self.batches)

    @property
    def edited(self) -> bool:
        """Whether it is an edited model's."""
        return self.entry != UNEDITED


@dataclass(frozen=True)
class FactRecord:
    """One fact after the last batch.

    Attributes:
        fact: bluedit's own record of it.
        says: the first tokens of the greedy continuation of its prompt.
        scores: the metrics; NaN where the fact has nothing to score.
    """

    fact: Mapping[str, Any]
    says: str
    scores: Scores

    def __post_init__(self) -> None:
        for key in ("prompt", "subject", "target"):
            if not isinstance(self.fact.get(key), str):
                raise Damage(f"fact.{key} is missing or not text")
        _check_shares("scores", self.scores)

    @property
    def text(self) -> str:
        """The prompt with its subject."""
        return self.fact["prompt"].replace("{}", self.fact["subject"])

    @property
    def target(self) -> str:
        """The new answer."""
        return self.fact["target"]


@dataclass(frozen=True)
class FactRecords:
    """All facts, in the order of the data set."""

    facts: tuple[FactRecord, ...]


@dataclass(frozen=True)
class FineTuned:
    """The metrics before and after a further fine-tuning, and general ability after it."""

    training: Training
    before: Scores
    after: Scores
    abilities: Mapping[str, Ability]

    def __post_init__(self) -> None:
        _check_shares("before", self.before)
        _check_shares("after", self.after)
        _check_abilities(self.abilities)


@dataclass(frozen=True)
class Failure:
    """Why an entry was given up."""

    entry: str
    why: str


FILES: Mapping[type, str] = {
    EntryLog: "batches.json",
    FactRecords: "facts.json",
    HiddenDrift: "hidden.json",
    FineTuned: "finetuned.json",
    Failure: "failed.json",
}
CONFIGURATION = "config.json"


def read(kind: type[Record], place: Path) -> Record | None:
    """A record of an entry from the entry's folder; None if there is none.

    Raises:
        BenchmarkError: the file is damaged.
    """
    file = place / FILES[kind]
    if not file.is_file():
        return None
    try:
        return decode(kind, _as_written(read_json(file)))
    except Damage as error:
        raise BenchmarkError(
            f"{file} is damaged ({error}); delete the folder {place} and run the same benchmark again: the entry then starts anew"
        ) from error


def write(record: Any, place: Path) -> None:
    """Write a record of an entry into the entry's folder. Raises OSError when that is not possible."""
    write_json(place / FILES[type(record)], with_digest(dataclasses.asdict(record)))


def read_configuration(folder: Path) -> Configuration | None:
    """The configuration of a benchmark's folder; None if there is none.

    Raises:
        BenchmarkError: the file is damaged, of another program, or of another version of bluedit.
    """
    file = folder / CONFIGURATION
    if not file.is_file():
        return None
    try:
        value = read_json(file)
        if not isinstance(value, dict) or "format" not in value:
            raise BenchmarkError(f"{file} is not the configuration of a benchmark; choose another folder")
        if value["format"] != FORMAT:
            raise BenchmarkError(
                f"{folder} was written by another version of bluedit; use that version, or choose another folder and run the benchmark anew"
            )
        value = _as_written(value)
        return decode(Configuration, {key: inner for key, inner in value.items() if key != "format"})
    except Damage as error:
        raise BenchmarkError(f"{file} is damaged ({error}); choose another folder, or delete this one") from error


def write_configuration(configuration: Configuration, folder: Path) -> None:
    """Write a configuration into a benchmark's folder. Raises OSError when that is not possible."""
    write_json(folder / CONFIGURATION, with_digest({"format": FORMAT, **dataclasses.asdict(configuration)}))


def _as_written(value: Any) -> Any:
    """A record without its digest. One without a digest, as earlier versions wrote it, is taken as it is. Raises Damage if it was changed."""
    if not isinstance(value, dict) or DIGEST not in value:
        return value
    if value[DIGEST] != json_digest(value):
        raise Damage("it was changed after it was written")
    return {key: inner for key, inner in value.items() if key != DIGEST}


def _check_shares(place: str, scores: Scores) -> None:
    for name, value in scores.items():
        if name in _SHARES and abs(value) > 1 + _SLACK:
            raise Damage(f"{place}[{name!r}] is {value:g}, and a share is between 0 and 1")


def _check_abilities(abilities: Mapping[str, Ability]) -> None:
    for task, found in abilities.items():
        for name in ("accuracy", "f1"):
            if not -_SLACK <= getattr(found, name) <= 1 + _SLACK:
                raise Damage(f"abilities[{task!r}].{name} is {getattr(found, name):g}, and a share is between 0 and 1")
