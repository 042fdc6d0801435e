"""Folders of measurements that can be continued: which request a folder holds, and that only one process works in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bluedit.decoding import read_json
from bluedit.errors import ExplainError
from bluedit.files import PREFIX, write_json

_LOCK = ".lock"


@contextmanager
def claimed(folder: Path, configuration: Mapping[str, Any], *, file: str, what: str, begun: bool) -> Iterator[None]:
    """Make a folder this request's, or check that it is, and keep other processes out of it for the duration of the `with`.

    Args:
        folder: made if need be.
        configuration: the request, as JSON can hold it.
        file: where the folder keeps it.
        what: the command, for messages.
        begun: whether results of the request it holds are there.

    Raises:
        ExplainError: it holds results of another request or other things, another process works in it, or it cannot be written; of what
            was there nothing is changed.
    """
    lock = FileLock(folder / _LOCK, timeout=0)
    with saving(folder):
        _check(folder, configuration, file, what, begun=begun)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            raise ExplainError(
                f"another bluedit process is running in {folder}; let it finish, or choose another folder (--out)"
            ) from None
    try:
        with saving(folder):
            write_json(folder / file, dict(configuration))
        yield
    finally:
        lock.release()


@contextmanager
def saving(folder: Path) -> Iterator[None]:
    """For the time in which files of the folder are written. Raises ExplainError for an OSError in it."""
    try:
        yield
    except OSError as error:
        raise ExplainError(
            f"cannot write to {folder}: {error.strerror or error}; free disk space or choose another place, and run the same command again: what is finished is kept"
        ) from error


def _check(folder: Path, configuration: Mapping[str, Any], name: str, what: str, *, begun: bool) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ExplainError(f"{folder} is a file; choose a folder (--out)")
    file = folder / name
    if not file.is_file():
        foreign = sorted(one.name for one in folder.iterdir() if one.name != _LOCK and not one.name.startswith(PREFIX))
        if foreign:
            raise ExplainError(
                f"{folder} contains files that {what} did not write ({', '.join(foreign[:3])}); choose a new or empty folder (--out)"
            )
        return
    try:
        found = read_json(file)
        if not isinstance(found, dict):
            raise ValueError("it holds no JSON object")
    except ValueError as error:
        raise ExplainError(
            f"{file} cannot be read ({error}); delete the folder, or choose another one (--out)"
        ) from error
    wanted = json.loads(json.dumps(dict(configuration)))
    wrong = [key.replace("_", " ") for key in wanted if found.get(key) != wanted[key]]
    if wrong and begun:
        raise ExplainError(
            f"{folder} holds the results of another request: {', '.join(wrong)} differ; choose another folder (--out), or use the same settings as before"
        )
