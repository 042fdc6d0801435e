"""The history of an editor: which batches its model carries, in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bluedit.editing.patch import Base, Patch, chained
from bluedit.writing.batch import Batch
from bluedit.writing.weights import Snapshot, digests_of

if TYPE_CHECKING:
    from bluedit.editing.edit import Edit


@dataclass(frozen=True, eq=False)
class Entry:
    """One edit or applied patch.

    Attributes:
        batches: what it wrote.
        edit: the edit; None for a patch that was applied.
        state: fingerprint of the model after it.
        digests: of the layers it wrote, as they were before it, where they carried earlier updates.
        snapshot: those layers as they were before it; kept for the last entry only.
    """

    batches: tuple[Batch, ...]
    edit: Edit | None
    state: str
    digests: Mapping[int, bytes]
    snapshot: Snapshot | None


class Journal:
    """Append-only sequence of batches on top of an unedited model. Only its last batches can be removed.

    States are chained: the fingerprint of the model after a batch is a hash of the one before it and the batch's digest. So the whole model is
    hashed once, when it is opened.
    """

    def __init__(self, base: Base) -> None:
        self.base = base
        self._entries: list[Entry] = []

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All edits and applied patches, oldest first."""
        return tuple(self._entries)

    @property
    def batches(self) -> tuple[Batch, ...]:
        """All batches, oldest first."""
        return tuple(batch for entry in self._entries for batch in entry.batches)

    @property
    def state(self) -> str:
        """Fingerprint of the model as it is."""
        return self._entries[-1].state if self._entries else self.base.fingerprint

    @property
    def patch(self) -> Patch:
        """All batches as one patch of the unedited model."""
        return Patch(self.base, self.batches)

    def append(self, batches: Sequence[Batch], snapshot: Snapshot, edit: Edit | None = None) -> None:
        """Record what was just written; the snapshot of the entry before it is released."""
        state = chained(self.state, batches)
        if self._entries:
            self._entries[-1] = replace(self._entries[-1], snapshot=None)
        self._entries.append(Entry(tuple(batches), edit, state, digests_of(snapshot), snapshot))

    def describe(self, batches: Sequence[Batch]) -> None:
        """Replace the last entry's batches by the same batches with more in their origins, e.g. a report."""
        self._entries[-1] = replace(self._entries[-1], batches=tuple(batches))

    def pop(self) -> Entry:
        """Remove the last entry."""
        return self._entries.pop()

    def clear(self) -> None:
        """Remove all entries."""
        self._entries.clear()

    def place_of(self, edit: Edit) -> int | None:
        """Index of an edit's entry; None if it is not here any more."""
        return next((i for i, entry in enumerate(self._entries) if entry.edit is edit), None)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Entries that were added inside the `with` are removed again unless it succeeds."""
        count = len(self._entries)
        try:
            yield
        except BaseException:
            del self._entries[count:]
            raise
