"""An approach at work on a model, from its first batch to its last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bluedit.benchmark.record import BatchRecord, EntryLog
from bluedit.evaluate.model_queries import ModelQueries

if TYPE_CHECKING:
    from bluedit.editing.editor import Editor
    from bluedit.evaluate.queries import Queries
    from bluedit.facts.fact import Fact
    from bluedit.model.editable import EditableModel
    from bluedit.writing.target_store import TargetStore

Unedited = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, eq=False)
class Work:
    """What an approach works with.

    Attributes:
        editor: of the model, without edits.
        store: the editor's targets.
        folder: the entry's own.
        batch_size: facts that an edit writes at once.
    """

    editor: Editor
    store: TargetStore
    folder: Path
    batch_size: int


class Running:
    """An approach at work. From `write` on the model behaves as edited, until `close`. This one leaves the model as it is."""

    def __init__(self, approach: Any, work: Work) -> None:
        self.approach = approach
        self.work = work

    @property
    def editor(self) -> Editor:
        """The editor of the model."""
        return self.work.editor

    @property
    def lm(self) -> EditableModel:
        """The model."""
        return self.work.editor.lm

    def restore(self, log: EntryLog, parts: Sequence[Sequence[Fact]]) -> None:
        """Bring back the model after the batches in the log, whose facts are given.

        Raises:
            BenchmarkError: the folder does not hold what that takes.
        """

    def write(self, parts: Sequence[Sequence[Fact]]) -> BatchRecord:
        """Write the last of these batches, on top of the others."""
        return BatchRecord(len(parts[-1]), 0, 0.0, (), {}, None)

    def save(self, number: int) -> None:
        """Keep in the folder what `restore` needs after this batch, counted from 1."""

    def unedited(self) -> AbstractContextManager[None]:
        """Inside the `with` the model is the unedited one."""
        return self.editor.unedited()

    def queries(self, unedited: Unedited) -> Queries:
        """What suites ask.

        Args:
            unedited: gives a context manager inside which the model is the one to compare with.
        """
        return ModelQueries(self.lm, unedited, self.editor.progress)

    def close(self) -> None:
        """Leave the model as it was before the first batch."""
        self.editor.reset()
