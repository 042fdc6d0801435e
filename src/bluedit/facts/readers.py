"""Reading facts from files and data sets of the hub."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from bluedit.errors import FactError, did_you_mean
from bluedit.facts._fields import Fields, json_name
from bluedit.facts._layouts import Entry, file_entries, numbered, unknown_format
from bluedit.facts.fact import Fact
from bluedit.facts.formats import Format, named, told
from bluedit.hub import PREFIX, dataset_rows

log = logging.getLogger(__name__)

BAD_RECORDS = ("refuse", "skip")
_SHOWN = 20  # records named in one message
_IDLE = "it has nothing to teach"


@dataclass(frozen=True)
class Skipped:
    """A record that gave no fact: where it is ("line 3") and why it was left out."""

    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


@dataclass
class _Outcome:
    """What a file's records gave: facts, records that cannot be used or have nothing to teach, and notes for the log."""

    facts: list[Fact] = field(default_factory=list)
    bad: list[Skipped] = field(default_factory=list)
    idle: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_facts(
    path: str | Path,
    *,
    format: str | None = None,
    limit: int | None = None,
    skip: int = 0,
    bad_records: str = "refuse",
    skipped: list[Skipped] | None = None,
) -> list[Fact]:
    """The facts of a file.

    The format is recognised by the extension and the content, never by the rest of the file's name. Blank lines of JSONL and
    CSV and rows of empty cells do not count as records. Each record gives one fact, or as many as its format says. Records with nothing to teach are
    left out with a warning. So is every record logged that does not quite fit: the prompt spells the subject in other case or
    another Unicode form, or has it only inside a longer word, or ends in a space.

    Args:
        path: a JSON, JSONL, CSV or TSV file in UTF-8, with or without byte order mark; or "hf:DATASET", "hf:DATASET:CONFIG:SPLIT".
        format: one of `formats()`, for a file whose format is not recognised.
        limit: how many records to read at most; None reads all.
        skip: how many records to leave out at the beginning.
        bad_records: what to do if a record cannot be used: "refuse" the file, or "skip" the record with a warning.
        skipped: a list to which each record that was left out is appended, with the reason.

    Raises:
        FactError: no such file, not text, an unknown format, rows that cannot be told apart because of a wrong double quote, no
            record that can be used, or, with "refuse", any that cannot: all of them together, with their line (JSONL, CSV)
            or number (JSON).
    """
    check_range(limit, skip)
    check_bad_records(bad_records)
    asked = named(format) if format is not None else None
    end = None if limit is None else skip + limit
    if str(path).startswith(PREFIX):
        layout, entries = "json", numbered(islice(dataset_rows(str(path), FactError), end))
    else:
        layout, entries = file_entries(Path(path), asked)
    if not entries:
        raise FactError(f"{path} holds no records; write at least one fact into it")
    _check_end(path, entries[:end])
    chosen = entries[skip:end]
    if not chosen:
        raise FactError(f"skip={skip} leaves no record of {path}, which has {len(entries)}; skip fewer")
    how = asked or _format(path, entries, layout)
    outcome = _convert(chosen, how)
    _check(path, outcome, len(chosen), bad_records)
    if skipped is not None:
        skipped += [*outcome.bad, *outcome.idle]
    log.info("read %d facts from %s (format %s)", len(outcome.facts), path, how.name if how else layout)
    return outcome.facts


def check_range(limit: int | None, skip: int) -> None:
    """Raise FactError if limit or skip make no sense."""
    if limit is not None and limit < 1:
        raise FactError(f"a limit of {limit} would read nothing; give at least 1, or none for all records")
    if skip < 0:
        raise FactError(f"skip={skip} is negative; pass how many records to leave out, or 0")


def check_bad_records(choice: str) -> None:
    """Raise FactError if the choice for bad records is unknown."""
    if choice not in BAD_RECORDS:
        raise FactError(f"unknown choice {choice!r} for bad records; {did_you_mean(str(choice), BAD_RECORDS)}")


def _format(path: str | Path, entries: Sequence[Entry], layout: str) -> Format | None:
    """The format that the first records tell, so that one bad record among them does no harm; None if no record has keys."""
    records = [e.value for e in entries if isinstance(e.value, dict)]
    if not records:
        return None
    if found := told(records, layout):
        return found
    raise unknown_format(path, records[0], "first record")


def _check_end(path: str | Path, entries: Sequence[Entry]) -> None:
    """Raise FactError if more records are lost with one of the entries, and nobody knows how many."""
    for entry in entries:
        if entry.ends:
            anyway = "so the file is refused even with bad_records='skip' (--bad-records skip)"
            raise FactError(f"{path}: {entry.where}: {entry.fault}, {anyway}")


def _convert(entries: Sequence[Entry], how: Format | None) -> _Outcome:
    outcome = _Outcome()
    for entry in entries:
        fields = Fields(entry.value if isinstance(entry.value, dict) else {})
        try:
            found = _facts(entry, fields, how)
        except FactError as error:
            outcome.bad.append(Skipped(entry.where, str(error)))
            continue
        outcome.facts += found
        if fields.notes:
            outcome.notes.append(f"{entry.where}: {'; '.join(fields.notes)}")
        if not found:
            outcome.idle.append(Skipped(entry.where, _IDLE))
    return outcome


def _facts(entry: Entry, fields: Fields, how: Format | None) -> list[Fact]:
    if entry.fault:
        raise FactError(entry.fault)
    if how is None or not isinstance(entry.value, dict):
        raise FactError(f"a record must be a JSON object with named keys, not {json_name(entry.value)}")
    fields.faults += how.unread(fields)
    facts = how.convert(fields)
    fields.check()
    return facts


def _check(path: str | Path, outcome: _Outcome, total: int, bad_records: str) -> None:
    """Raise for records that cannot be used, unless they are to be skipped and others are left; log the rest."""
    bad, idle, notes = outcome.bad, outcome.idle, outcome.notes
    if bad and (bad_records == "refuse" or not outcome.facts):
        remedy = "; fix them, or leave them out with bad_records='skip' (--bad-records skip)" if outcome.facts else ""
        raise FactError(_listed(f"{path}: {len(bad)} of {total} records cannot be used{remedy}", bad))
    if not outcome.facts:
        raise FactError(f"{path}: none of the {total} records has anything to teach; read others")
    if bad:
        log.warning("%s", _listed(f"{path}: {len(bad)} of {total} records cannot be used and are skipped", bad))
    if idle:
        shown = ", ".join(one.where for one in idle[:_SHOWN]) + (", ..." if len(idle) > _SHOWN else "")
        log.warning("%s: %d records have nothing to teach and are left out: %s", path, len(idle), shown)
    if notes:
        log.warning("%s", _listed(f"{path}: {len(notes)} of {total} records were not read quite as they stand", notes))


def _listed(first: str, items: Sequence[object]) -> str:
    more = [f"... and {len(items) - _SHOWN} more"] if len(items) > _SHOWN else []
    return "\n".join([first, *map(str, items[:_SHOWN]), *more])
