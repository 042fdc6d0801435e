"""The folder of a workspace: its history and the files of its batches. It knows nothing of the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bluedit.editing._folder import BATCH_FILE, load_batch, readable, remove, write_batch
from bluedit.editing._history import ABOUT, BATCHES, History, Standing, read_about, read_history, write_history
from bluedit.editing._owner import Owner, check_owned, owned
from bluedit.editing.patch import Base
from bluedit.errors import BluEditError, PatchError, WorkspaceError
from bluedit.interrupts import uninterrupted
from bluedit.writing.batch import Batch


def is_workspace(folder: Path) -> bool:
    """Whether a folder is a workspace."""
    return (folder / ABOUT).is_file()


class Store:
    """A workspace on disk. Files of batches are written before the journal that names them.

    Attributes:
        folder: where.
        about: what `workspace.json` says.
        base: the model that the workspace was made for.
        history: as it was read last.

    Raises:
        WorkspaceError: it is no workspace, or it is damaged.
    """

    def __init__(self, folder: Path, *, break_lock: bool = False) -> None:
        self.folder = folder
        self.about = read_about(folder)
        try:
            self.base = Base.read(self.about.get("base"))
        except ValueError as error:
            raise WorkspaceError(f"{folder / ABOUT} is damaged ({error}); restore it from a copy") from error
        self.history = History()
        self._break_lock = break_lock
        self._owner: Owner | None = None
        self._pending: set[str] = set()  # batches written for an event that is not recorded yet
        self.read()

    def read(self) -> History:
        """Read the journal again. Raises WorkspaceError if it is damaged."""
        self.history = read_history(self.folder, self.about["digest"])
        return self.history

    @contextmanager
    def owned(self, task: str) -> Iterator[None]:
        """Inside the `with` this process alone may record, and the history is up to date.

        Raises:
            WorkspaceError: another process is changing the workspace, or it is not writable.
        """
        with owned(self.folder, task, break_lock=self._break_lock) as self._owner:
            self._break_lock, self._pending = False, set()
            self.read()
            try:
                yield
            finally:
                self._forget_pending()
        self._owner = None

    def write(self, batches: Sequence[Batch]) -> tuple[str, ...]:
        """Write batches that the next event will name, and return their names. Files that a killed process left are deleted.

        Raises:
            WorkspaceError: the disk is full or not writable, or the lock was broken; nothing was recorded.
        """
        assert self._owner
        check_owned(self.folder, self._owner)  # else the files of whoever broke it would be deleted
        place = self.folder / BATCHES
        known = {name for event in self.history.events for one in event.add for name in one.batches}
        pending = {name for name in self._pending if name not in known}
        new: list[Path] = []
        try:
            place.mkdir(exist_ok=True)
            files = [file for file in place.iterdir() if BATCH_FILE.fullmatch(file.name)]
            remove(file for file in files if file.stem not in known | pending)
            start = 1 + max((int(name.partition("-")[0]) for name in known | pending), default=-1)
            names = tuple(write_batch(place, start + i, batch, new) for i, batch in enumerate(batches))
            self._pending = pending | set(names)
            new.clear()
        except OSError as error:
            raise self._cannot_write(error) from error
        finally:
            remove(new)
        return names

    def _forget_pending(self) -> None:
        """Delete the batches that were written for an event that was not recorded, unless another process has recorded the same meanwhile."""
        with suppress(BluEditError):
            self.read()
        named = {name for event in self.history.events for one in event.add for name in one.batches}
        remove(
            self.folder / BATCHES / f"{name}{suffix}"
            for name in self._pending - named
            for suffix in (".json", ".safetensors")
        )

    def record(self, kind: str, keep: int, add: Sequence[Standing] = (), **about: Any) -> None:
        """Add an event to the journal.

        Raises:
            WorkspaceError: the disk is full or not writable, or the lock was broken; nothing was recorded.
        """
        assert self._owner
        check_owned(self.folder, self._owner)
        history = self.history.and_then(kind, keep, add, **about)
        try:
            with uninterrupted():
                write_history(self.folder, self.about["digest"], history)
                self.history = history
        except OSError as error:
            raise self._cannot_write(error) from error

    def batches_of(self, one: Standing) -> tuple[Batch, ...]:
        """The batches of an entry. Raises PatchError, which names the entry, if one is missing or damaged."""
        with self.naming(one):
            return self.read_batches(one)

    def read_batches(self, one: Standing) -> tuple[Batch, ...]:
        """The same, with a PatchError that says only what is wrong."""
        with readable(self.folder / BATCHES):
            return tuple(load_batch(self.folder / BATCHES, name) for name in one.batches)

    @contextmanager
    def naming(self, one: Standing) -> Iterator[None]:
        """Gives a PatchError inside the `with` the number of the entry that is read."""
        try:
            yield
        except PatchError as error:
            cause = error.__cause__ or error
            state = "cannot be read here" if isinstance(cause, PatchError) else "is damaged"
            raise PatchError(
                f"entry {one.entry} of the workspace {self.folder} {state} ({type(cause).__name__}: {cause}). Restore {BATCHES}/ from a copy, "
                "or leave the entry out with 'checkout' of an earlier event"
            ) from error

    def standing_batches(self) -> tuple[Batch, ...]:
        """The batches of all standing entries, in order. Raises PatchError if one is missing or damaged."""
        return tuple(batch for one in self.history.standing for batch in self.batches_of(one))

    def _cannot_write(self, error: OSError) -> WorkspaceError:
        return WorkspaceError(
            f"cannot write to the workspace {self.folder}: {error.strerror or error}; it is as it was. Free disk space, or check its permissions"
        )
