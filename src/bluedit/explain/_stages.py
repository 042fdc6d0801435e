"""A measurement in stages: results of finished stages in its folder, and the tables made of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bluedit.decoding import read_digested
from bluedit.errors import MALFORMED
from bluedit.explain.folder import claimed, saving
from bluedit.explain.residual_data import as_csv, rows_as_json, rows_from_json
from bluedit.files import with_digest, write_file, write_json
from bluedit.model.fingerprint import text_fingerprint

log = logging.getLogger(__name__)
STAGES, TARGETS, FIGURES = "stages", "targets", "figures"

Tables = dict[str, list[Any]]
Kinds = Mapping[str, type[Any]]  # the rows of each table


@dataclass(eq=False)
class Stages:
    """Results of stages in a folder: each is computed once for a request, and read afterwards.

    Attributes:
        folder: of the measurement.
        kinds: the rows of each table.
        fingerprint: of the request.
        done: stages that were found finished.
    """

    folder: Path
    kinds: Kinds
    fingerprint: str
    done: list[str] = field(default_factory=list)

    def get(self, name: str, compute: Callable[[], Tables]) -> Tables:
        """The tables of a stage: those that are kept, or those that `compute` gives now, which are kept at once."""
        file = self.folder / STAGES / f"{name}.json"
        kept = self._kept(file)
        if kept is not None:
            self.done.append(name)
            return kept
        started = time.perf_counter(), time.process_time()
        tables = compute()
        log.info(
            "%s: %.1f s (processor: %.1f s)", name, time.perf_counter() - started[0], time.process_time() - started[1]
        )
        content = {table: rows_as_json(rows) for table, rows in tables.items()}
        with saving(self.folder):
            write_json(file, with_digest({"of": self.fingerprint, "tables": content}))
        return tables

    def _kept(self, file: Path) -> Tables | None:
        if not file.exists():
            return None
        try:
            content = read_digested(file)
            if content["of"] != self.fingerprint:
                return None
            return {table: rows_from_json(self.kinds[table], rows) for table, rows in content["tables"].items()}
        except MALFORMED as error:
            log.warning("%s is damaged (%s); this stage is computed again", file, error)
            return None


@contextmanager
def staged(folder: Path, request: Mapping[str, Any], kinds: Kinds, *, file: str, what: str) -> Iterator[Stages]:
    """Make a folder this request's for the duration of the `with`; arguments and errors as `bluedit.explain.folder.claimed`."""
    begun = any((folder / STAGES).glob("*.json"))
    with claimed(folder, request, file=file, what=what, begun=begun):
        yield Stages(folder, kinds, text_fingerprint(dict(request)))


def write_tables(folder: Path, tables: Tables, kinds: Kinds, about: Mapping[str, Any]) -> None:
    """Write a CSV file for every table, and results.json: what `about` says and all tables.

    Raises:
        OSError: the folder cannot be written.
    """
    for name, rows in tables.items():
        write_file(folder / f"{name}.csv", as_csv(kinds[name], rows))
    content = {name: rows_as_json(rows) for name, rows in tables.items()}
    write_json(folder / "results.json", {**about, **content})
