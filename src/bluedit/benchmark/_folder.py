"""A benchmark's folder: which benchmark it holds, and that only one process works in it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from filelock import FileLock, Timeout

from bluedit.benchmark.entry import TARGETS, entries_of
from bluedit.benchmark.record import (
    CONFIGURATION,
    FILES,
    Configuration,
    EntryLog,
    read_configuration,
    write_configuration,
)
from bluedit.errors import BenchmarkError
from bluedit.evaluate.ability import SHOTS, read_items
from bluedit.evaluate.data import SAMPLED_TEXT
from bluedit.facts.records import fact_record
from bluedit.files import PREFIX
from bluedit.model.fingerprint import text_fingerprint
from bluedit.text.corpus import Corpus

if TYPE_CHECKING:
    from bluedit.benchmark.approach import Approach
    from bluedit.benchmark.plan import Benchmark
    from bluedit.model.editable import EditableModel

log = logging.getLogger(__name__)

_LOCK = ".lock"


def configuration_of(
    lm: EditableModel, weights: str, benchmark: Benchmark, chosen: Mapping[str, Approach]
) -> Configuration:
    """The configuration of a benchmark on a model.

    Args:
        weights: fingerprint of the model's weights.
        chosen: what each entry does by its name, as the model runs it.

    Raises:
        FactError, StatisticsError: items of a task or the corpus cannot be read.
    """
    facts = [fact_record(fact) for fact in benchmark.facts]
    groups = {entry.name: entry.group for entry in entries_of(benchmark.entries)}
    settings = {name: approach.settings() for name, approach in chosen.items()}
    settings = {
        name: own | ({"targets": groups[name]} if groups[name] else {}) for name, own in settings.items() if own
    }
    return Configuration(
        model=lm.name,
        weights=weights,
        tokenizer=lm.tokenizer_fingerprint,
        facts=len(facts),
        facts_fingerprint=text_fingerprint(facts),
        batch_size=benchmark.batch_size,
        every=benchmark.every,
        suites=tuple(benchmark.suites),
        passage_tokens=benchmark.passage_tokens,
        passages_fingerprint=text_fingerprint(list(benchmark.text)),
        corpus=benchmark.corpus,
        corpus_fingerprint=Corpus(benchmark.corpus).fingerprint(benchmark.tokens or 0),
        tokens=benchmark.tokens,
        abilities={task: text_fingerprint(read_items(task, file)) for task, file in benchmark.abilities.items()},
        shots=SHOTS,
        sampling=SAMPLED_TEXT,
        versions={name: version(name) for name in ("bluedit", "torch", "transformers")},
        entries=tuple(chosen),
        settings=settings,
        source=benchmark.source,
        device=str(lm.device),
        threads=torch.get_num_threads(),
        at=tuple(sorted(set(benchmark.at))),
        edit_size=benchmark.edit_size,
    )


@contextmanager
def claimed(folder: Path, configuration: Configuration) -> Iterator[Configuration]:
    """Make a folder this benchmark's, or check that it is, and keep other processes out of it. Yields the configuration with the entries
    that the folder holds besides.

    A folder in which no batch is finished may become another benchmark's.

    Raises:
        BenchmarkError: the folder holds something else, or another process works in it; nothing in it is changed.
    """
    configuration = _joined(folder, configuration)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / _LOCK, timeout=0):
            write_configuration(configuration, folder)
            yield configuration
    except Timeout:
        raise BenchmarkError(
            f"another bluedit benchmark is running in {folder}; let it finish, or choose another folder"
        ) from None


def _joined(folder: Path, configuration: Configuration) -> Configuration:
    """The configuration, with the entries that the folder's own one adds to it."""
    found = read_configuration(folder)
    if found is None:
        if folder.exists() and (not folder.is_dir() or any(map(_is_foreign, folder.iterdir()))):
            raise BenchmarkError(
                f"{folder} contains files that are not part of a benchmark; choose a new or empty folder"
            )
        return configuration
    begun = any(folder.glob(f"*/{FILES[EntryLog]}"))
    wrong = configuration.differences(found)
    if wrong and begun:
        raise BenchmarkError(
            f"{folder} holds another benchmark: {', '.join(wrong)} {'differs' if len(wrong) == 1 else 'differ'}; choose another folder, or use the same settings as before"
        )
    if wrong:
        return configuration
    for name in ("device", "threads") if begun else ():
        before, now = getattr(found, name), getattr(configuration, name)
        if before != now:
            log.warning("%s was begun with %s %s, now it is %s; last digits may differ", folder, name, before, now)
    return replace(
        configuration,
        entries=tuple(dict.fromkeys([*found.entries, *configuration.entries])),
        settings={**found.settings, **configuration.settings},
    )


def _is_foreign(file: Path) -> bool:
    """Whether a file beside no configuration is not of a benchmark. A killed run may leave its targets, half a configuration and its lock."""
    return file.name not in (TARGETS, _LOCK) and not file.name.startswith((f".{CONFIGURATION}.", PREFIX))
