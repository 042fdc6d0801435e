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

from bluedit.explain.folder import claimed as claimed_folder
from bluedit.explain.locate_data import TABLES
from bluedit.explain.residual_data import as_csv, rows_as_json, rows_from_json
from bluedit.files import write_file, write_json
from bluedit.model.fingerprint import text_fingerprint

log = logging.getLogger(__name__)
_CONFIGURATION, _STAGES = "location.json", "stages"
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
    """Make a folder this measurement's; see `bluedit.explain.folder.claimed`."""
    begun = any((folder / _STAGES).glob("*.json"))
    with claimed_folder(folder, configuration, file=_CONFIGURATION, what="locate", begun=begun):
        yield Stages(folder)


def write_tables(folder: Path, tables: Tables, configuration: Mapping[str, Any], summary: Sequence[str]) -> None:
    """Write results.json and a CSV file for every table.

    Raises:
        OSError: the folder cannot be written.
    """
    for name, rows in tables.items():
        write_file(folder / f"{name}.csv", as_csv(TABLES[name], rows))
    content = {name: rows_as_json(rows) for name, rows in tables.items()}
    write_json(folder / "results.json", {"about": dict(configuration), "summary": list(summary), **content})
