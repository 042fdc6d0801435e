"""Reading files of facts. What a record means is in `formats`; here is where it stands in the file."""

from __future__ import annotations

import csv
import difflib
import io
import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from bluedit.errors import FactError, did_you_mean
from bluedit.facts._fields import json_name
from bluedit.facts.fact import Fact
from bluedit.facts.formats import COLUMNS, Format, formats, named, recognised
from bluedit.facts.records import KEYS, REQUIRED
from bluedit.hub import PREFIX, dataset_rows

log = logging.getLogger(__name__)

_SHOWN = 20
_LINES = (".jsonl", ".ndjson")
_JSON = (".json", *_LINES)


@dataclass(frozen=True)
class _Entry:
    """One record as it stands in the file: where, and what; or why it could not even be parsed."""

    where: str
    value: object = None
    fault: str = ""


def read_facts(path: str | Path, *, format: str | None = None, limit: int | None = None, skip: int = 0) -> list[Fact]:
    """The facts of a file.

    The format is told from the extension and the content, never from the file's name. Blank lines of JSONL and CSV are
    no records. Every record becomes one fact, or as many as its format says; those that cannot be used are named in the
    error, and those with nothing to teach are left out with a warning.

    Args:
        path: a JSON, JSONL or CSV file in UTF-8, with or without byte order mark; or "hf:DATASET", "hf:DATASET:CONFIG:SPLIT".
        format: one of `formats()`, for a file whose format cannot be told.
        limit: how many records to read at most; None reads all.
        skip: how many records to leave out at the beginning.

    Raises:
        FactError: no such file, not text, an unknown format, or records that cannot be used: all of them together, with
            their line (JSONL, CSV) or number (JSON).
    """
    check_range(limit, skip)
    wanted = named(format) if format is not None else None
    end = None if limit is None else skip + limit
    if str(path).startswith(PREFIX):
        layout, entries = "json", _numbered(islice(dataset_rows(str(path), FactError), end))
    else:
        layout, entries = _file_entries(Path(path), wanted)
    if not entries:
        raise FactError(f"{path} holds no records; write at least one fact into it")
    chosen = entries[skip:end]
    if not chosen:
        raise FactError(f"skip={skip} leaves no record of {path}, which has {len(entries)}; skip fewer")
    how = wanted or _format(path, entries, layout)
    facts = _convert(path, chosen, how)
    log.info("read %d facts from %s (format %s)", len(facts), path, how.name if how else layout)
    return facts


# The file as text


def check_range(limit: int | None, skip: int) -> None:
    """Raises FactError when limit or skip make no sense."""
    if limit is not None and limit < 1:
        raise FactError(f"limit={limit} would read nothing; pass at least 1, or None for all records")
    if skip < 0:
        raise FactError(f"skip={skip} is negative; pass how many records to leave out, or 0")


def _text(path: Path) -> str:
    """The text of the file without its byte order mark."""
    try:
        if path.is_dir():
            raise FactError(f"{path} is a folder; pass one file of facts{_inside(path)}")
        data = path.read_bytes()
    except FileNotFoundError:
        raise FactError(f"there is no file {path}{_similar(path)}") from None
    except OSError as error:
        raise FactError(f"cannot read {path}: {error.strerror}") from error
    text = _decoded(path, data)
    if not text.strip():
        raise FactError(f"{path} is empty; expected facts as JSON, JSONL or CSV")
    return text


def _decoded(path: Path, data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise FactError(f"{path} is UTF-16 text; save it as UTF-8")
    if b"\0" in data:
        raise FactError(f"{path} is a binary file (zero byte at {data.index(0)}); facts are JSON, JSONL or CSV text")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FactError(
            f"{path} is not UTF-8: line {line} has the byte 0x{data[error.start]:02x}; save the file as UTF-8"
        ) from None


def _names(folder: Path) -> list[str]:
    """The names in a folder; none if it is missing or may not be read."""
    try:
        return sorted(p.name for p in folder.iterdir())
    except OSError:
        return []


def _inside(folder: Path) -> str:
    names = [n for n in _names(folder) if Path(n).suffix.lower() in (*_JSON, ".csv")]
    return f" in it, such as {names[0]!r}" if names else ""


def _similar(path: Path) -> str:
    if not path.parent.is_dir():
        return f"; the folder {path.parent} does not exist either"
    close = difflib.get_close_matches(path.name, _names(path.parent), n=3)
    return f"; {did_you_mean(path.name, close)}" if close else "; check the name"


# The records in the text


def _file_entries(path: Path, wanted: Format | None) -> tuple[str, list[_Entry]]:
    text = _text(path)
    layout = wanted.layout if wanted else _layout(path, text)
    return layout, _csv_entries(path, text) if layout == "csv" else _json_entries(path, text)


def _layout(path: Path, text: str) -> str:
    """How the records lie in the file: "json" or "csv". Content that begins like JSON is JSON."""
    suffix = path.suffix.lower()
    if text.lstrip()[0] in "[{" or suffix in _JSON:
        return "json"
    header = next(_csv_rows(text.lstrip()), _Entry(""))
    if suffix == ".csv" or recognised(_cells(header), "csv"):
        return "csv"
    raise FactError(
        f"cannot tell the format of {path}: it begins neither like JSON nor with a CSV header that has the columns "
        f"{', '.join(REQUIRED)}; pass format= as one of {', '.join(formats())}"
    )


def _json_entries(path: Path, text: str) -> list[_Entry]:
    """The records of a JSON array, of JSONL, or of the one list in a JSON object."""
    if _is_lines(path, text):
        numbered = enumerate(text.split("\n"), 1)
        entries = [_json_line(line, number) for number, line in numbered if line.strip()]
    else:
        value = _document(path, text)
        entries = _numbered(value if isinstance(value, list) else [value])
    return _unwrapped(entries)


def _is_lines(path: Path, text: str) -> bool:
    """Whether every line is a record: the first one is an object by itself, or the extension says so."""
    start = text.lstrip()
    named_so = path.suffix.lower() in _LINES
    if start[0] != "{":
        return named_so and start[0] != "["
    return _parses(start.split("\n", 1)[0]) or (named_so and not _parses(text))


def _parses(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _json_line(line: str, number: int) -> _Entry:
    where = f"line {number}"
    try:
        return _Entry(where, json.loads(line))
    except json.JSONDecodeError as error:
        return _Entry(where, fault=f"broken JSON at column {error.colno}: {error.msg}")
    except (ValueError, RecursionError) as error:
        return _Entry(where, fault=f"broken JSON: {error}")


def _document(path: Path, text: str) -> list[object] | dict[str, object]:
    """The one JSON value of the file."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise FactError(f"{path}: broken JSON at line {error.lineno}, column {error.colno}: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise FactError(f"{path}: broken JSON: {error}") from None
    if not isinstance(value, list | dict):
        raise FactError(
            f"{path} holds {json_name(value)}; expected a JSON array of records, or one record in each line"
        )
    return value


def _numbered(values: Iterable[object]) -> list[_Entry]:
    return [_Entry(f"record {i}", value) for i, value in enumerate(values, 1)]


def _unwrapped(entries: list[_Entry]) -> list[_Entry]:
    """The items of the one list in the only entry, if that entry is a wrapper and not itself a record."""
    value = entries[0].value if len(entries) == 1 else None
    if not isinstance(value, dict) or recognised(value, "json"):
        return entries
    lists = [v for v in value.values() if isinstance(v, list)]
    if len(value) > 1:
        lists = [v for v in lists if any(isinstance(item, dict) for item in v)]
    return _numbered(lists[0]) if len(lists) == 1 else entries


def _csv_entries(path: Path, text: str) -> list[_Entry]:
    """The rows below the header; `line` is where a row begins, also when its cells have line breaks."""
    rows = _csv_rows(text)
    first = next(rows, None)
    if first is None:
        return []
    if first.fault:
        raise FactError(f"{path}: {first.where}: {first.fault}")
    header = _cells(first)
    _check_header(path, first.where, header)
    return [_named_cells(row, header) for row in rows]


def _csv_rows(text: str) -> Iterator[_Entry]:
    """The rows that are not blank. Reading ends at a row whose quotes are wrong, for what follows cannot be trusted."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    while True:
        where = f"line {reader.line_num + 1}"
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield _Entry(where, fault=f"broken CSV ({error}); check the double quotes; what follows was not read")
            return
        if len(row) > 1 or "".join(row).strip():
            yield _Entry(where, [cell.strip() for cell in row])


def _cells(row: _Entry) -> list[str]:
    return row.value if isinstance(row.value, list) else []


def _check_header(path: Path, where: str, header: list[str]) -> None:
    """Raise all faults of the header together."""
    for separator, name in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and separator in header[0]:
            raise FactError(f"{path}: the columns are separated by {name}; separate them by commas")
    faults = [_unknown_column(c) for c in header if c not in COLUMNS]
    faults += [f"column {c!r} is missing" for c in REQUIRED if c not in header]
    faults += [f"column {c!r} stands there {header.count(c)} times" for c in COLUMNS if header.count(c) > 1]
    if faults:
        raise FactError(f"{path}: the header in {where} cannot be used: " + "; ".join(faults))


def _unknown_column(name: str) -> str:
    if name in KEYS:
        return f"{name!r} cannot be a column, for its values are objects; write these facts as JSON or JSONL"
    return f"unknown column {name!r} ({did_you_mean(name, COLUMNS)})"


def _named_cells(row: _Entry, header: list[str]) -> _Entry:
    cells = _cells(row)
    if len(cells) > len(header):
        fault = f"{len(cells)} cells, but the header has {len(header)}; put a cell with commas in double quotes"
        return _Entry(row.where, fault=fault)
    return row if row.fault else _Entry(row.where, dict(zip(header, cells, strict=False)))


# From records to facts


def _format(path: str | Path, entries: list[_Entry], layout: str) -> Format | None:
    """The format of the first record that has keys; None if there is no such record."""
    first = next((e.value for e in entries if isinstance(e.value, dict)), None)
    if first is None:
        return None
    if found := recognised(first, layout):
        return found
    keys = ", ".join(repr(k) for k in first) or "no keys at all"
    known = "\n".join(f"  {name}: {text}" for name, text in formats().items())
    raise FactError(f"cannot tell the format of {path}: its first record has {keys}; known formats are\n{known}")


def _convert(path: str | Path, entries: list[_Entry], how: Format | None) -> list[Fact]:
    facts: list[Fact] = []
    faults: list[str] = []
    idle: list[str] = []
    for entry in entries:
        try:
            found = _facts(entry, how)
        except FactError as error:
            faults.append(f"{entry.where}: {error}")
            continue
        facts += found
        if not found:
            idle.append(entry.where)
    if faults:
        raise FactError(_report(path, faults, len(entries)))
    if not facts:
        raise FactError(f"{path}: none of the {len(entries)} records has anything to teach; read others")
    if idle:
        shown = ", ".join(idle[:_SHOWN]) + (", ..." if len(idle) > _SHOWN else "")
        log.warning("%s: %d records have nothing to teach and are left out: %s", path, len(idle), shown)
    return facts


def _facts(entry: _Entry, how: Format | None) -> list[Fact]:
    if entry.fault:
        raise FactError(entry.fault)
    if how is None or not isinstance(entry.value, dict):
        raise FactError(f"a record must be a JSON object with named keys, not {json_name(entry.value)}")
    return how.convert(entry.value)


def _report(path: str | Path, faults: list[str], total: int) -> str:
    lines = [f"{path}: {len(faults)} of {total} records cannot be used", *faults[:_SHOWN]]
    if len(faults) > _SHOWN:
        lines.append(f"... and {len(faults) - _SHOWN} more")
    return "\n".join(lines)
