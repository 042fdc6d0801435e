"""Running one entry of a benchmark."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from bluedit.benchmark.record import (
    EntryLog,
    FactRecord,
    FactRecords,
    FineTuned,
    Measured,
    read,
    write,
)
from bluedit.errors import BenchmarkError
from bluedit.evaluate.ability import ability, read_items
from bluedit.evaluate.hidden import hidden_drift
from bluedit.evaluate.metrics import Columns, means
from bluedit.evaluate.passages import passages_beyond
from bluedit.evaluate.suites import suites_of
from bluedit.evaluate.training import Training, trained
from bluedit.facts.records import fact_record

if TYPE_CHECKING:
    from pathlib import Path

    from bluedit.benchmark.approach import Approach
    from bluedit.benchmark.entry import Entry
    from bluedit.benchmark.plan import Benchmark
    from bluedit.benchmark.running import Running, Work
    from bluedit.benchmark.trace import BenchmarkTrace
    from bluedit.editing.editor import Editor
    from bluedit.evaluate.data import Ability
    from bluedit.evaluate.queries import Queries
    from bluedit.facts.fact import Fact

_HALVED = 4  # batches from which on an entry is also measured half-way
_KNOWN = 1000  # prompts whose hidden states are compared
_SHOWN = 8  # tokens of each fact's continuation that are kept


@dataclass(frozen=True, eq=False)
class EntryRun:
    """One entry of a benchmark.

    Attributes:
        approach: what the entry does, as the model runs it.
        work: the editor of the model, without edits, and the entry's folder.
    """

    benchmark: Benchmark
    entry: Entry
    approach: Approach
    work: Work
    trace: BenchmarkTrace

    @property
    def editor(self) -> Editor:
        return self.work.editor

    @property
    def folder(self) -> Path:
        return self.work.folder

    def finish(self) -> None:
        """Write and measure the batches that are not in the folder yet.

        Raises:
            BluEditError: the entry cannot be finished.
            OSError: the folder cannot be written.
        """
        parts = self.approach.parts(list(self.benchmark.facts), self.benchmark.facts_of_an_edit)
        log = read(EntryLog, self.folder) or EntryLog(self.entry.name, ())
        if log.entry != self.entry.name:
            raise BenchmarkError(f"{self.folder} holds the entry {log.entry!r}; move that folder away")
        training = self.benchmark.then_finetune
        found = read(FineTuned, self.folder)
        to_train = training is not None and (found is None or found.training != training)
        if len(log.batches) == len(parts) and not to_train:
            return
        running = self.approach.start(self.work)
        try:
            running.restore(log, parts)
            for number in range(len(log.batches) + 1, len(parts) + 1):
                log = self._batch(running, log, parts[:number], of=len(parts))
            if training and to_train:
                self._finetune(running, training, log)
        finally:
            running.close()

    def _batch(self, running: Running, log: EntryLog, parts: Sequence[Sequence[Fact]], *, of: int) -> EntryLog:
        """Write and measure the last of these batches; there are `of` in all. Returns the log including it, which is also saved."""
        number = len(parts)
        wanted = self.benchmark.abilities or not self.benchmark.at
        last, half = number == of, bool(wanted) and of >= _HALVED and number == of // 2
        self.trace.on_start(self.entry, number)
        self.work.store.begin(number)
        record = running.write(parts)
        self.trace.on_written(self.entry, number)
        facts = sum(map(len, parts))
        if self.benchmark.is_due(facts - len(parts[-1]), facts, number) or last or half:
            record = replace(record, measured=self._measure(running, parts, last=last, able=last or half))
            self.trace.on_measured(self.entry, number)
        if log.edited:
            running.save(number)
            self.trace.on_saved(self.entry, number)
        log = replace(log, batches=(*log.batches, record))
        write(log, self.folder)
        self.trace.on_finished(self.entry, number, record)
        return log

    def _measure(self, running: Running, parts: Sequence[Sequence[Fact]], *, last: bool, able: bool) -> Measured:
        """The metrics over all facts so far, and over those of each batch: what is kept of the earlier ones."""
        facts = [fact for part in parts for fact in part]
        queries = running.queries(running.unedited)
        columns = self._columns(queries, facts)
        if last:
            self._keep_facts(queries, facts, columns)
            self._keep_hidden(running, facts)
        ends = [0, *accumulate(map(len, parts))]
        by_batch = [means({name: values[a:b] for name, values in columns.items()}) for a, b in pairwise(ends)]
        everything = means(columns) | self._on_passages(queries)
        return Measured(everything, tuple(by_batch), self._abilities(queries) if able else {})

    def _columns(self, queries: Queries, facts: Sequence[Fact]) -> Columns:
        columns: Columns = {}
        for suite in suites_of(self.benchmark.suites):
            columns |= suite.measure(queries, facts)
        return columns

    def _on_passages(self, queries: Queries) -> dict[str, float]:
        text, tokens = self.benchmark.text, self.benchmark.passage_tokens
        found: dict[str, float] = {}
        for suite in suites_of(self.benchmark.suites):
            found |= suite.measure_passages(queries, text, tokens)
        return found | {"perplexity": queries.perplexity(text, tokens)}

    def _abilities(self, queries: Queries) -> dict[str, Ability]:
        return {task: ability(queries, task, read_items(task, file)) for task, file in self.benchmark.abilities.items()}

    def _keep_facts(self, queries: Queries, facts: Sequence[Fact], columns: Columns) -> None:
        """Write the scores fact by fact, in the order of the data set, which may differ from that of the batches."""
        says = queries.continuations([fact.text for fact in facts], _SHOWN)
        records = {
            id(fact): FactRecord(fact_record(fact), text, {name: values[i] for name, values in columns.items()})
            for i, (fact, text) in enumerate(zip(facts, says, strict=True))
        }
        write(FactRecords(tuple(records[id(fact)] for fact in self.benchmark.facts)), self.folder)

    def _keep_hidden(self, running: Running, facts: Sequence[Fact]) -> None:
        """Write the hidden states of known facts before and after, if there are at least two to compare."""
        prompts = sorted({neighbour.prompt for fact in facts for neighbour in fact.neighbours})
        if len(prompts) > 1:
            write(hidden_drift(self.editor.lm, prompts[:_KNOWN], running.unedited), self.folder)

    def _finetune(self, running: Running, training: Training, log: EntryLog) -> None:
        """Fine-tune the edited model for a while and measure again, against the weights before edits and training."""
        before = log.batches[-1].measured
        if before is None:
            raise BenchmarkError(
                f"{self.folder} lacks the measurement after the last batch; delete that folder to run the entry again"
            )
        self.trace.on_finetune(self.entry)
        text = passages_beyond(self.editor.lm, self.benchmark.text, self.benchmark.passage_tokens)
        with trained(self.editor.lm, text, training, self.editor.progress) as untrained:

            @contextmanager
            def unedited() -> Iterator[None]:
                with untrained(), running.unedited():
                    yield

            queries = running.queries(unedited)
            after = means(self._columns(queries, self.benchmark.facts)) | self._on_passages(queries)
            abilities = self._abilities(queries)
        write(FineTuned(training, before.all, after, abilities), self.folder)
