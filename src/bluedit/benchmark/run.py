"""Running a benchmark: entry by entry, batch by batch, with measurements along the way."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bluedit.benchmark._entry_run import EntryRun
from bluedit.benchmark._folder import claimed, configuration_of
from bluedit.benchmark.entry import TARGETS, Entry, entries_of
from bluedit.benchmark.front import write_front
from bluedit.benchmark.record import FILES, Configuration, EntryLog, Failure, read, write
from bluedit.benchmark.results import Row, rows_of, write_table
from bluedit.benchmark.running import Work
from bluedit.benchmark.sweep import swept
from bluedit.benchmark.trace import BenchmarkTrace
from bluedit.editing.editor import Editor
from bluedit.editing.known import with_spacing
from bluedit.errors import BenchmarkError, BluEditError
from bluedit.evaluate.model_queries import ModelQueries
from bluedit.facts.conflicts import conflicts
from bluedit.model.fingerprint import text_fingerprint, weights_fingerprint
from bluedit.writing.target_store import TargetStore

if TYPE_CHECKING:
    from bluedit.benchmark.approach import Approach
    from bluedit.benchmark.plan import Benchmark
    from bluedit.execution import Execution
    from bluedit.model.editable import EditableModel
    from bluedit.progress import Progress

log = logging.getLogger(__name__)


def run_benchmark(
    lm: EditableModel,
    benchmark: Benchmark,
    folder: Path,
    progress: Progress,
    *,
    trace: BenchmarkTrace | None = None,
    execution: Execution | None = None,
) -> list[Row]:
    """Run a benchmark, or continue one. The model is unchanged afterwards.

    Args:
        folder: of the benchmark; made if need be.
        trace: called as the benchmark proceeds.
        execution: precision, tokens per step and where statistics live, as in `Editor`.

    Returns:
        The rows of the table, which is also written: first those of the benchmark's entries, in order, then those of the other entries that
        the folder holds.

    Raises:
        BenchmarkError: the folder holds another benchmark or cannot be written; or, after all the others, entries could not be finished.
            What was measured stays.
        FactError, RecipeError, StatisticsError: the benchmark cannot be run; nothing was begun.
    """
    benchmark.check()
    benchmark.check_for(ModelQueries(lm))
    benchmark = replace(benchmark, facts=with_spacing(lm, benchmark.facts))  # scored as they are taught
    if clashes := conflicts(benchmark.facts):
        log.warning("%d facts repeat or contradict earlier ones, and the later one wins: %s", len(clashes), clashes[0])
    weights = weights_fingerprint(lm.model)
    store = TargetStore(benchmark.targets or folder / TARGETS, weights)
    editor = Editor(
        lm, corpus=benchmark.corpus, tokens=benchmark.tokens, targets=store, execution=execution, progress=progress
    )
    entries = entries_of(benchmark.entries)
    if benchmark.front:
        entries = entries_of(swept(editor, entries, benchmark.front, benchmark.front_values))
        benchmark = replace(benchmark, entries=entries)
    chosen = {entry.name: entry.approach.prepared(editor, entry.settings) for entry in entries}
    failures: dict[str, BluEditError] = {}
    try:
        with claimed(folder, configuration_of(lm, weights, benchmark, chosen)) as configuration:
            for entry in _counted(entries, progress):
                store.share(_shared(entry, entries, chosen, configuration))
                work = Work(editor, store, folder / entry.folder, benchmark.batch_size)
                run = EntryRun(benchmark, entry, chosen[entry.name], work, trace or BenchmarkTrace())
                failure = _finish(run)
                if failure:
                    failures[entry.name] = failure
                rows = rows_of(_logs(folder, configuration.entries))
                write_table(rows, folder)
                write_front(rows, folder)
    except OSError as error:
        raise BenchmarkError(
            f"cannot write to {folder}: {error.strerror or error}; free disk space or choose another place, and run the same command again: "
            "finished batches are kept"
        ) from error
    if failures:
        reasons = "; ".join(f"{name}: {error}" for name, error in failures.items())
        raise BenchmarkError(
            f"{len(failures)} of {len(entries)} entries could not be finished ({reasons}). What was measured before is kept"
        )
    return rows_of(_logs(folder, dict.fromkeys([*chosen, *configuration.entries])))


def _counted(entries: Sequence[Entry], progress: Progress) -> Iterator[Entry]:
    """The entries, each reported when the next one is asked for."""
    with progress.task("benchmark", len(entries), "entries") as finished:
        for entry in entries:
            yield entry
            finished()


def _shared(
    entry: Entry, entries: Sequence[Entry], chosen: Mapping[str, Approach], configuration: Configuration
) -> str:
    """The name under which the entries of a group share targets: all that these depend on. Empty for an entry without a group."""
    if not entry.group:
        return ""
    first = next(other for other in entries if other.group == entry.group)
    depends = (
        configuration.facts_fingerprint,
        configuration.batch_size,
        configuration.corpus_fingerprint,
        *filter(None, [configuration.edit_size]),
    )
    return text_fingerprint(entry.group, chosen[first.name].settings(), *depends)


def _finish(run: EntryRun) -> BluEditError | None:
    """Finish an entry, and take its edits back. If it cannot be finished, say why, and keep that for the page."""
    try:
        run.finish()
    except BluEditError as error:
        log.warning("%s is given up, the others go on: %s", run.entry.name, error)
        write(Failure(run.entry.name, str(error)), run.folder)
        return error
    (run.folder / FILES[Failure]).unlink(missing_ok=True)
    return None


def _logs(folder: Path, names: Iterable[str]) -> list[EntryLog]:
    """The logs of some entries; one that is damaged was reported when it was the entry's turn."""
    logs = []
    for name in names:
        with suppress(BenchmarkError):
            logs.append(read(EntryLog, folder / Entry(name, None).folder))
    return [found for found in logs if found is not None]
