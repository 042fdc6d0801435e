"""Following a benchmark while it runs."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bluedit.benchmark.entry import Entry
    from bluedit.benchmark.record import BatchRecord

log = logging.getLogger(__name__)


class BenchmarkTrace:
    """Follows a benchmark: override the methods of interest. By default finished batches are logged.

    A BluEditError that a method raises ends the entry, any other exception the benchmark. Finished batches stay.
    """

    def on_start(self, entry: Entry, number: int) -> None:
        """Batch `number` of an entry, counted from 1, is about to be written and measured."""

    def on_written(self, entry: Entry, number: int) -> None:
        """The batch was written into the model."""

    def on_measured(self, entry: Entry, number: int) -> None:
        """The metrics were measured after the batch."""

    def on_saved(self, entry: Entry, number: int) -> None:
        """The batch is in the patch in the entry's folder, but not yet in the entry's log."""

    def on_finished(self, entry: Entry, number: int, batch: BatchRecord) -> None:
        """The batch is in the entry's log; an interrupted benchmark continues after it."""
        log.info("%s: batch %d is finished, %d facts in %.1f s", entry.name, number, batch.facts, batch.seconds)

    def on_finetune(self, entry: Entry) -> None:
        """Further fine-tuning is about to begin."""
