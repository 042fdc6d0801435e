"""Writing files so that a reader never sees half of one: under a temporary name, to the disk, then renamed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def write_file(file: Path, data: bytes) -> None:
    """Replace or create a file at once; its folder is made if need be.

    Raises:
        OSError: the disk is full or the place not writable; an older file is unchanged and nothing else is left behind.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def write_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Make a folder completely or not at all: `write` fills a temporary one beside it, which then takes its name.

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
            folder.rename(temporary / "old")
        try:
            new.rename(folder)
        except BaseException:
            if (temporary / "old").exists():
                (temporary / "old").rename(folder)
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
