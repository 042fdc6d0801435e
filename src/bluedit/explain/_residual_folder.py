"""The folder of an analysis: which analysis it holds, the results of finished stages, and the tables made of them."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bluedit.errors import ExplainError
from bluedit.explain.residual_data import TABLES, as_csv, rows_as_json, rows_from_json
from bluedit.files import write_file, write_json
from bluedit.model.fingerprint import text_fingerprint

log = logging.getLogger(__name__)
_CONFIGURATION, _LOCK = "analysis.json", ".lock"
STAGES, TARGETS, FIGURES = "stages", "targets", "figures"

Tables = dict[str, list[Any]]


@dataclass(eq=False)
class Stages:
    """Results of stages in a folder: each is computed once for a configuration, and read afterwards.

    Attributes:
        folder: of the analysis.
        fingerprint: of its configuration.
        done: stages that were found finished.
    """

    folder: Path
    fingerprint: str
    done: list[str] = field(default_factory=list)

    def get(self, name: str, compute: Callable[[], Tables]) -> Tables:
        """The tables of a stage: those that are kept, or those that `compute` gives now, which are kept at once."""
        file = self.folder / STAGES / f"{name}.json"
        kept = self._kept(file)
        if kept is not None:
            self.done.append(name)
            return kept
        started = time.perf_counter()
        tables = compute()
        log.info("%s: %.1f s", name, time.perf_counter() - started)
        content = {table: rows_as_json(rows) for table, rows in tables.items()}
        with saving(self.folder):
            write_json(file, {"analysis": self.fingerprint, "tables": content})
        return tables

    def _kept(self, file: Path) -> Tables | None:
        try:
            content = json.loads(file.read_text("utf-8"))
            if content["analysis"] != self.fingerprint:
                return None
            return {table: rows_from_json(TABLES[table], rows) for table, rows in content["tables"].items()}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("%s is unreadable and is computed again: %s", file, error)
            return None


@contextmanager
def claimed(folder: Path, configuration: Mapping[str, Any]) -> Iterator[Stages]:
    """Make a folder this analysis', or check that it is, and keep other processes out of it.

    Raises:
        ExplainError: it holds another analysis or other things, or another process works in it; nothing in it is changed.
    """
    lock = FileLock(folder / _LOCK, timeout=0)
    with saving(folder):
        _check(folder, configuration)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            raise ExplainError(
                f"another bluedit process is running in {folder}; let it finish, or choose another folder (--out)"
            ) from None
    try:
        with saving(folder):
            write_json(folder / _CONFIGURATION, dict(configuration))
        yield Stages(folder, text_fingerprint(dict(configuration)))
    finally:
        lock.release()


@contextmanager
def saving(folder: Path) -> Iterator[None]:
    """For the time in which files of the folder are written. Raises ExplainError for an OSError in it."""
    try:
        yield
    except OSError as error:
        raise ExplainError(
            f"cannot write to {folder}: {error.strerror or error}; free disk space or choose another place, and run the same command again: finished stages are kept"
        ) from error


def _check(folder: Path, configuration: Mapping[str, Any]) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ExplainError(f"{folder} is a file; choose a folder (--out)")
    file = folder / _CONFIGURATION
    if not file.is_file():
        foreign = sorted(one.name for one in folder.iterdir() if one.name != _LOCK)
        if foreign:
            raise ExplainError(
                f"{folder} contains files that are not part of an analysis ({', '.join(foreign[:3])}); choose a new or empty folder (--out)"
            )
        return
    try:
        found = json.loads(file.read_text("utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it holds no JSON object")
    except (OSError, ValueError) as error:
        raise ExplainError(
            f"{file} cannot be read ({error}); delete the folder, or choose another one (--out)"
        ) from error
    wanted = json.loads(json.dumps(dict(configuration)))
    wrong = [name.replace("_", " ") for name in wanted if found.get(name) != wanted[name]]
    if wrong and any((folder / STAGES).glob("*.json")):
        raise ExplainError(
            f"{folder} holds another analysis: {', '.join(wrong)} differ; choose another folder (--out), or use the same settings as before"
        )


def write_tables(
    folder: Path, tables: Tables, configuration: Mapping[str, Any], summary: Sequence[str], notes: Sequence[str]
) -> None:
    """Write results.json and a CSV file for every table.

    Raises:
        OSError: the folder cannot be written.
    """
    for name, rows in tables.items():
        write_file(folder / f"{name}.csv", as_csv(TABLES[name], rows))
    content = {name: rows_as_json(rows) for name, rows in tables.items()}
    about = {name: value for name, value in configuration.items() if name != "facts"}
    said = {"summary": list(summary), "notes": list(notes)}
    write_json(folder / "results.json", {"analysis": about, **said, **content})
