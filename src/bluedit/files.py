"""Writing files and folders completely or not at all: under a temporary name, flushed to disk, then renamed."""

from __future__ import annotations

import glob
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_STALE_S = 3600.0  # no file takes that long to write


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A temporary path for the `with` to write to; at its end it becomes `file`. The folder is made if need be.

    Raises:
        OSError: the disk is full or the place not writable; an older file is unchanged and nothing else is left behind.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    _remove_stale(file)
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def write_file(file: Path, data: bytes) -> None:
    """Replace or create a file at once. Its folder is made if need be.

    Raises:
        OSError: as `replacing`.
    """
    with replacing(file) as temporary:
        temporary.write_bytes(data)


def _remove_stale(file: Path) -> None:
    """Delete temporary files that killed processes left beside this one."""
    for left in file.parent.glob(f".{glob.escape(file.name)}.*"):
        with suppress(OSError):
            if left.suffix[1:].isdecimal() and time.time() - left.stat().st_mtime > _STALE_S:
                left.unlink()


def write_json(file: Path, value: Any) -> None:
    """Replace or create a JSON file at once. Numbers that are not finite, which JSON cannot represent, become null.

    Raises:
        OSError: as `replacing`.
    """
    write_file(file, as_json(value))


def as_json(value: Any) -> bytes:
    """Indented JSON. Numbers that are not finite, which JSON cannot represent, become null."""
    return json.dumps(_finite(value), indent=1, ensure_ascii=False, allow_nan=False).encode()


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
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        new = temporary / "new"
        new.mkdir()
        write(new)
        if folder.exists():
            if keep:
                return
            folder.rename(temporary / "old")
        try:
            new.rename(folder)
        except BaseException:
            if (temporary / "old").exists():
                (temporary / "old").rename(folder)
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
