"""A recipe that writes facts into the weights."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bluedit.benchmark.record import BatchRecord, EntryLog
from bluedit.benchmark.running import Running
from bluedit.editing.patch import Patch
from bluedit.errors import BenchmarkError
from bluedit.writing.batch import mean_reach

if TYPE_CHECKING:
    from bluedit.editing.edit import Edit
    from bluedit.facts.fact import Fact
    from bluedit.writing.batch import Update


class WrittenRun(Running):
    """Edits batch after batch; the patch in the folder holds all of them."""

    patch = "patch"

    def restore(self, log: EntryLog, parts: Sequence[Sequence[Fact]]) -> None:
        del parts
        patch = self.saved(log)
        if patch:
            self.editor.apply(patch)

    def saved(self, log: EntryLog) -> Patch | None:
        """The patch after the batches of the log. The one in the folder is a batch ahead if the benchmark was killed in between."""
        done = sum(batch.written for batch in log.batches)
        if not done:
            return None
        saved = Patch.load(self.work.folder / self.patch)
        if len(saved.batches) < done:
            raise BenchmarkError(
                f"{self.work.folder} logs {done} batches and its patch holds {len(saved.batches)}; "
                "delete that folder to run the entry again"
            )
        return Patch(saved.base, saved.batches[:done])

    def write(self, parts: Sequence[Sequence[Fact]]) -> BatchRecord:
        edit, seconds = self.edited(parts[-1])
        by_layer: dict[int, list[Update]] = {}
        for update in (one for batch in edit.patch.batches for one in batch.updates if len(one.reach)):
            by_layer.setdefault(update.layer, []).append(update)
        return BatchRecord(
            facts=len(parts[-1]),
            written=len(edit.patch.batches),
            seconds=seconds,
            reach=tuple((layer, mean_reach(updates)) for layer, updates in by_layer.items()),
            norms=self.editor.change_norms(),
            measured=None,
        )

    def edited(self, part: Sequence[Fact]) -> tuple[Edit, float]:
        """Write facts in one edit. Its seconds include those that stored targets took when they were optimised."""
        store = self.work.store
        started, spared = time.perf_counter(), store.spared
        edit = self.editor.edit(part, self.approach.recipe, batch_size=self.work.batch_size, known="edit", report=False)
        return edit, time.perf_counter() - started + store.spared - spared

    def save(self, number: int) -> None:
        del number
        self.editor.patch.append_to(self.work.folder / self.patch)
