"""Who is changing a workspace: one process at a time, which others are told about."""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from bluedit.decoding import Damage, decode, read_json
from bluedit.errors import WorkspaceError
from bluedit.files import locked
from bluedit.interrupts import uninterrupted

LOCK = "lock.json"
_PATIENCE_S = 10.0  # for others that look at the lock


@dataclass(frozen=True)
class Owner:
    """A process that changes a workspace.

    Attributes:
        pid, host: which one, and where.
        started: when it started, in the system's own clock, so that a number that is used again is not taken for it; 0 if not known.
        since: when it took the lock, in seconds since 1970.
        task: what it is doing.
    """

    pid: int
    host: str
    started: int
    since: float
    task: str

    @classmethod
    def this(cls, task: str) -> Owner:
        """The process that runs now."""
        return cls(os.getpid(), socket.gethostname(), _started(os.getpid()), time.time(), task)

    @property
    def gone(self) -> bool:
        """Whether it is known to have ended. A process on another machine never is."""
        if self.host != socket.gethostname():
            return False
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, OverflowError):  # no process has a number beyond 2**31
            return True
        except OSError:
            return False
        return self.started != _started(self.pid)


@contextmanager
def owned(folder: Path, task: str, *, break_lock: bool = False) -> Iterator[Owner]:
    """Inside the `with`, this process alone changes the workspace. A lock whose process has ended is taken over.

    Args:
        break_lock: take the lock from a process that still has it.

    Raises:
        WorkspaceError: another process has it, or the folder is not writable.
    """
    me = Owner.this(task)
    try:
        _take(folder, me, break_lock=break_lock)
        yield me
    finally:
        with uninterrupted(), suppress(OSError), locked(folder, _PATIENCE_S):
            if _read(folder) == me:
                (folder / LOCK).unlink(missing_ok=True)


def _take(folder: Path, me: Owner, *, break_lock: bool) -> None:
    try:
        with locked(folder, _PATIENCE_S):
            _check_regular(folder / LOCK)
            found = _read(folder)
            if found and not found.gone and not break_lock:
                raise WorkspaceError(_in_use(folder, found))
            _write(folder / LOCK, me)
    except OSError as error:
        raise WorkspaceError(
            f"cannot change the workspace {folder}: {error.strerror or error}; it is as it was"
        ) from error


def _write(file: Path, me: Owner) -> None:
    try:
        file.write_text(json.dumps(asdict(me)), "utf-8")
    except OSError:
        file.unlink(missing_ok=True)
        raise


def check_owned(folder: Path, me: Owner) -> None:
    """Raises WorkspaceError if another process has broken the lock meanwhile."""
    if _read(folder) != me:
        raise WorkspaceError(
            f"another process took over the lock of the workspace {folder} meanwhile; nothing was recorded. Run the command again"
        )


def _read(folder: Path) -> Owner | None:
    """Who has the lock; None if nobody has, or a process died while it took it."""
    try:
        return decode(Owner, read_json(folder / LOCK))
    except Damage:
        return None


def _check_regular(file: Path) -> None:
    if os.path.lexists(file) and (file.is_symlink() or not file.is_file()):
        raise OSError(errno.EINVAL, f"{file.name} is not a regular file", str(file))


def _in_use(folder: Path, owner: Owner) -> str:
    who = "this process" if owner.pid == os.getpid() else f"process {owner.pid}"
    return (
        f"the workspace {folder} is in use: {who} on {owner.host} has been busy with {owner.task!r} for "
        f"{max(0.0, time.time() - owner.since):.0f} s; let it finish or, if you know that it never will, break its lock "
        "(break_lock=True, --break-lock)"
    )


def _started(pid: int) -> int:
    """Start of a process in clock ticks since boot; 0 where the system does not tell."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0
