"""The folder of a measurement in stages: what it measures, the results of finished stages, and the tables made of them."""

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
from bluedit.explain.locate_data import TABLES
from bluedit.explain.residual_data import as_csv, rows_as_json, rows_from_json
from bluedit.files import write_file, write_json
from bluedit.model.fingerprint import text_fingerprint

log = logging.getLogger(__name__)
_CONFIGURATION, _LOCK, _STAGES = "location.json", ".lock", "stages"
TARGETS, FIGURES = "targets", "figures"

Tables = dict[str, list[Any]]


@dataclass(eq=False)
class Stages:
    """Results of stages in a folder: each is computed once for what it depends on, and read afterwards.

    Attributes:
        folder: of the measurement.
        done: stages that were found finished.
    """

    folder: Path
    done: list[str] = field(default_factory=list)

    def get(self, name: str, depends: Mapping[str, Any], compute: Callable[[], Tables]) -> Tables:
        """The tables of a stage: those that are kept, or those that `compute` gives now, which are kept at once."""
        file, fingerprint = self.folder / _STAGES / f"{name}.json", text_fingerprint(dict(depends))
        kept = self._kept(file, fingerprint)
        if kept is not None:
            self.done.append(name)
            return kept
        started = time.perf_counter()
        tables = compute()
        log.info("%s: %.1f s", name, time.perf_counter() - started)
        content = {table: rows_as_json(rows) for table, rows in tables.items()}
        write_json(file, {"of": fingerprint, "tables": content})
        return tables

    def _kept(self, file: Path, fingerprint: str) -> Tables | None:
        try:
            content = json.loads(file.read_text("utf-8"))
            if content["of"] != fingerprint:
                return None
            return {table: rows_from_json(TABLES[table], rows) for table, rows in content["tables"].items()}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("%s is unreadable and is computed again: %s", file, error)
            return None


@contextmanager
def claimed(folder: Path, configuration: Mapping[str, Any]) -> Iterator[Stages]:
    """Make a folder this measurement's, or check that it is, and keep other processes out of it.

    Raises:
        ExplainError: it holds another measurement or other things, or another process works in it; nothing in it is changed.
    """
    _check(folder, configuration)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / _LOCK, timeout=0):
            write_json(folder / _CONFIGURATION, dict(configuration))
            yield Stages(folder)
    except Timeout:
        raise ExplainError(
            f"another bluedit process is at work in {folder}; let it finish, or choose another folder (--out)"
        ) from None
    except OSError as error:
        raise ExplainError(
            f"cannot write to {folder}: {error.strerror or error}; make room or choose another place, and run the same again: finished stages stay"
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
                f"{folder} holds other things than what locate writes ({', '.join(foreign[:3])}); choose a new or empty folder (--out)"
            )
        return
    try:
        found = dict(json.loads(file.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ExplainError(
            f"{file} cannot be read ({error}); delete the folder, or choose another one (--out)"
        ) from error
    wanted = json.loads(json.dumps(dict(configuration)))
    wrong = [name.replace("_", " ") for name in wanted if found.get(name) != wanted[name]]
    if wrong and any((folder / _STAGES).glob("*.json")):
        raise ExplainError(
            f"{folder} holds the layers of another request: {', '.join(wrong)} differ; choose another folder (--out), or ask for the same as before"
        )


def write_tables(folder: Path, tables: Tables, configuration: Mapping[str, Any], summary: Sequence[str]) -> None:
    """Write results.json and a CSV file for every table.

    Raises:
        OSError: the folder cannot be written.
    """
    for name, rows in tables.items():
        write_file(folder / f"{name}.csv", as_csv(TABLES[name], rows))
    content = {name: rows_as_json(rows) for name, rows in tables.items()}
    write_json(folder / "results.json", {"about": dict(configuration), "summary": list(summary), **content})
