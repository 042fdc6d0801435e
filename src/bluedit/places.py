"""Checking places before a long computation whose result goes there."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def check_writable(place: Path) -> None:
    """Check that a file or folder can be made at a place, before a long computation whose result goes there.

    Raises:
        OSError: the name is too long, something above it is no folder, or there is no permission.
    """
    if os.path.lexists(place):
        place.stat()  # a loop of links
    nearest = place if place.is_dir() else next(p for p in place.absolute().parents if os.path.lexists(p))
    nearest.stat()
    if not nearest.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"{nearest} is not a folder", str(place))
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, f"no permission to write in {nearest}", str(place))


def check_new_folder(folder: Path) -> None:
    """Check that `files.write_folder` can make a folder, or put one in place of an empty one that is there.

    Raises:
        OSError: as `check_writable`; or the folder that is there cannot be replaced: the process runs in it, or something is mounted there.
    """
    real = Path(os.path.realpath(folder))
    if not real.is_dir():
        check_writable(folder)
        return
    if Path.cwd().is_relative_to(real):
        raise OSError(errno.EBUSY, "it is the folder that the command runs in, or above it", str(folder))
    if real.is_mount():
        raise OSError(errno.EBUSY, "something is mounted there; name a new folder in it", str(folder))
    check_writable(real.parent)
