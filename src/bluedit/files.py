"""Writing files and folders completely or not at all: under a temporary name, flushed to disk, then renamed."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import secrets
import shutil
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bluedit.errors import BluEditError
from bluedit.interrupts import uninterrupted

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

PREFIX, _SUFFIX = ".bluedit-", ".tmp"  # of temporary names, which a killed process may leave
DIGEST = "digest"  # where a JSON object carries one
_STALE_S = 3600.0  # nothing is written for that long without a change

written: deque[Path] = deque(maxlen=1000)
"""Files and folders that this process has finished, in order. An interrupted command names those that are still there."""


def cache_dir() -> Path:
    """Where converted models and key statistics are kept: $BLUEDIT_CACHE, else the user's cache folder.

    Raises:
        BluEditError: there is neither of them.
    """
    if explicit := os.environ.get("BLUEDIT_CACHE"):
        return Path(explicit)
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "bluedit"
    try:
        return Path.home() / ".cache" / "bluedit"
    except RuntimeError:
        raise BluEditError(
            "this user has no home folder; set BLUEDIT_CACHE to a folder for models and statistics"
        ) from None


def expanded(name: str | Path) -> Path:
    """A path with a "~" at its beginning as the home folder; unchanged where there is no such user or folder."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A temporary path for the `with` to write to; at its end it becomes `file`. The folder is made if need be.

    A symbolic link stays, and the file it leads to is replaced. A file that is replaced keeps its mode.

    Raises:
        OSError: the disk is full, or the place is not writable or no regular file; an older file is unchanged and nothing else is left behind.
    """
    place = Path(os.path.realpath(file))
    place.parent.mkdir(parents=True, exist_ok=True)
    mode = _mode(place)
    remove_stale(place.parent)
    temporary = place.with_name(f"{PREFIX}{os.getpid()}-{threading.get_ident()}{_SUFFIX}")
    try:
        yield temporary
        if mode is not None:
            temporary.chmod(mode)
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        with uninterrupted():
            temporary.replace(place)
            written.append(file)
        _flush_folder(place.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _mode(place: Path) -> int | None:
    """Permissions of an existing file; None if there is none. Raises OSError if it is no regular file."""
    try:
        found = place.stat()
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(place))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(place))
    return stat.S_IMODE(found.st_mode)


def _flush_folder(folder: Path) -> None:
    """Make a rename last through a power failure, where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_file(file: Path, data: bytes) -> None:
    """Replace or create a file at once. Its folder is made if need be. A device or a pipe is written to.

    Raises:
        OSError: as `replacing`.
    """
    if file.exists() and not file.is_file() and not file.is_dir():
        with file.open("wb") as stream:
            stream.write(data)
        return
    with replacing(file) as temporary:
        temporary.write_bytes(data)


def read_bounded(file: Path, most: int = 2**30) -> bytes:
    """Content of a file, a pipe or a device, which may never end.

    Raises:
        OSError: it cannot be read, or holds more than `most` bytes.
    """
    with file.open("rb") as stream:
        data = stream.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it holds more than {most:,} bytes", str(file))
    return data


def read_regular(file: Path, most: int = 2**30) -> bytes:
    """Content of a file that another file names, or that belongs to a folder.

    Raises:
        ValueError: it is a device, a pipe or a folder, or missing, or has more than `most` bytes.
        OSError: it cannot be read.
    """
    if not file.is_file():
        raise ValueError(f"{file.name} is missing" if not file.exists() else f"{file.name} is not a regular file")
    if (size := file.stat().st_size) > most:
        raise ValueError(f"{file.name} has {size:,} bytes, more than the {most:,} that are read")
    return file.read_bytes()


def physical_memory() -> int:
    """Bytes of memory that this machine has; 64 GiB where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows
        return 2**36


def remove_stale(folder: Path) -> None:
    """Delete temporary files and folders that killed processes left in a folder."""
    for left in folder.glob(f"{PREFIX}*{_SUFFIX}"):
        with suppress(OSError):
            inside = (inner.lstat().st_mtime for inner in left.rglob("*"))
            if time.time() - max([left.lstat().st_mtime, *inside]) > _STALE_S:
                shutil.rmtree(left) if left.is_dir() else left.unlink()


@contextmanager
def locked(folder: Path, patience: float) -> Iterator[None]:
    """Keeps other processes out that lock the same folder, without a file of its own. Without effect on systems that have no such locks.

    Args:
        folder: an existing folder.
        patience: seconds to wait for others.

    Raises:
        TimeoutError: another process still has it.
    """
    if fcntl is None:
        yield
        return
    handle, until = os.open(folder, os.O_RDONLY), time.monotonic() + patience
    try:
        while not _lock(handle):
            if time.monotonic() > until:
                raise TimeoutError(errno.ETIMEDOUT, "another process is at work there", str(folder))
            time.sleep(0.02)
        yield
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    assert fcntl
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def write_json(file: Path, value: Any) -> None:
    """Replace or create a JSON file at once. Numbers that are not finite, which JSON cannot represent, become null.

    Raises:
        OSError: as `replacing`.
    """
    write_file(file, as_json(value))


def json_digest(value: Mapping[str, Any]) -> str:
    """Hash of everything that a JSON object says, but for a digest of its own. Raises RecursionError if it is nested too deeply."""
    said = {key: inner for key, inner in value.items() if key != DIGEST}
    text = json.dumps(said, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def with_digest(value: Mapping[str, Any]) -> dict[str, Any]:
    """The value as JSON gives it back, with a digest of itself in place of an older one."""
    said: dict[str, Any] = json.loads(as_json({key: inner for key, inner in value.items() if key != DIGEST}))
    return {DIGEST: json_digest(said), **said}  # first: what cuts it off at the end is noticed


def as_json(value: Any) -> bytes:
    """Indented JSON. Numbers that are not finite, which JSON cannot represent, become null."""
    said = _finite(value)
    try:
        return json.dumps(said, indent=1, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:  # a path that is not UTF-8
        return json.dumps(said, indent=1, allow_nan=False).encode()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_folder(folder: Path, write: Callable[[Path], None], *, keep: bool = False) -> None:
    """Make a folder completely or not at all: `write` fills a temporary one beside it, which then takes its name.

    With `keep`, a folder of that name that another process has made meanwhile stays.

    Raises:
        OSError: the disk is full or the place not writable; an older folder is unchanged.
    """
    folder = Path(os.path.realpath(folder))  # a link stays, and leads to the new folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(folder.parent)
    temporary = folder.with_name(f"{PREFIX}{secrets.token_hex(8)}{_SUFFIX}")
    try:
        temporary.mkdir(mode=0o700)
        new, old = temporary / "new", temporary / "old"
        new.mkdir()
        write(new)
        if keep and folder.exists():
            return
        with uninterrupted():
            _swap(new, folder, old)
            written.append(folder)
        _flush_folder(folder.parent)
    finally:
        with uninterrupted():
            shutil.rmtree(temporary, ignore_errors=True)


def _swap(new: Path, folder: Path, old: Path) -> None:
    """Give a folder the place of another, which moves away."""
    if folder.exists():
        folder.rename(old)
    try:
        new.rename(folder)
    except BaseException:
        if old.exists():
            old.rename(folder)
        raise
