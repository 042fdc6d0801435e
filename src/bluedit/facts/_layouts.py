"""The records of a file's text: a JSON array, JSONL, one JSON object, or the rows of a CSV table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bluedit.errors import FactError, did_you_mean
from bluedit.facts._fields import json_name
from bluedit.facts._text import JSON, LINES, read_text
from bluedit.facts.formats import COLUMNS, Format, formats, nearest_first, recognised
from bluedit.facts.records import KEYS, REQUIRED


@dataclass(frozen=True)
class Entry:
    """One record of a file: where it is and its value, or why it cannot even be parsed."""

    where: str
    value: object = None
    fault: str = ""


def file_entries(path: Path, asked: Format | None) -> tuple[str, list[Entry]]:
    """The layout ("json" or "csv") and the records of a file.

    Raises:
        FactError: the file cannot be read, or its layout cannot be told.
    """
    text = read_text(path)
    layout = _layout(path, text, asked)
    # the two layouts of text files, not kinds of a part
    return layout, _csv_entries(path, text, asked) if layout == "csv" else _json_entries(path, text)


def numbered(values: Iterable[object]) -> list[Entry]:
    """Records that have no line, by their number."""
    return [Entry(f"record {i}", value) for i, value in enumerate(values, 1)]


def unknown_format(path: str | Path, keys: Iterable[str], what: str) -> FactError:
    """The error for a file whose format cannot be told; the nearest formats come first."""
    keys = list(keys)
    near = nearest_first(keys)
    missing = ", ".join(key.replace("|", " or ") for key in near[0].missing(keys))
    nearest = f"the nearest format is {near[0].name}{f', which also needs {missing}' if missing else ''}"
    listed = "\n".join(f"  {f.name}: {f.description}" for f in near)
    names = ", ".join(map(repr, keys)) or "no keys at all"
    return FactError(
        f"cannot tell the format of {path}: its {what} has {names}; {nearest}. Known formats, the nearest first:\n{listed}"
    )


def _layout(path: Path, text: str, asked: Format | None) -> str:
    """How the records are stored. Text that begins like JSON is JSON."""
    if asked and len(asked.layouts) == 1:
        return asked.layouts[0]
    suffix = path.suffix.lower()
    if text.lstrip()[0] in "[{" or suffix in JSON:
        return "json"
    header = _cells(next(_csv_rows(text.lstrip()), Entry("")))
    if suffix == ".csv" or (asked and "csv" in asked.layouts) or recognised(dict.fromkeys(header), "csv"):
        return "csv"
    raise FactError(
        f"cannot tell the format of {path}: it begins neither like JSON nor with a CSV header that has the columns "
        f"{', '.join(REQUIRED)}; pass format= as one of {', '.join(formats())}"
    )


# JSON


def _json_entries(path: Path, text: str) -> list[Entry]:
    """The records of a JSON array, of JSONL, or of the one list in a JSON object."""
    if _is_lines(path, text):
        lines = enumerate(text.split("\n"), 1)
        entries = [_json_line(line, number) for number, line in lines if line.strip()]
    else:
        value = _document(path, text)
        entries = numbered(value if isinstance(value, list) else [value])
    return _unwrapped(entries)


def _is_lines(path: Path, text: str) -> bool:
    """Whether each line is a record: the first line is an object by itself, or the extension says so."""
    start = text.lstrip()
    named_so = path.suffix.lower() in LINES
    if start[0] != "{":
        return named_so and start[0] != "["
    return _parses(start.split("\n", 1)[0]) or (named_so and not _parses(text))


def _parses(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _json_line(line: str, number: int) -> Entry:
    where = f"line {number}"
    try:
        return Entry(where, json.loads(line))
    except json.JSONDecodeError as error:
        return Entry(where, fault=f"broken JSON at column {error.colno}: {error.msg}")
    except (ValueError, RecursionError) as error:
        return Entry(where, fault=f"broken JSON: {error}")


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


def _unwrapped(entries: list[Entry]) -> list[Entry]:
    """The items of the one list in the only entry, if that entry is a wrapper and not itself a record."""
    value = entries[0].value if len(entries) == 1 else None
    if not isinstance(value, dict) or recognised(value, "json"):
        return entries
    lists = [v for v in value.values() if isinstance(v, list)]
    if len(value) > 1:
        lists = [v for v in lists if any(isinstance(item, dict) for item in v)]
    return numbered(lists[0]) if len(lists) == 1 else entries


# CSV


def _csv_entries(path: Path, text: str, asked: Format | None) -> list[Entry]:
    """The rows below the header, as cells by column; an entry's line is where its row begins."""
    rows = _csv_rows(text)
    first = next(rows, None)
    if first is None:
        return []
    if first.fault:
        raise FactError(f"{path}: {first.where}: {first.fault}")
    header = _cells(first)
    how = asked or recognised(dict.fromkeys(header), "csv")
    if how is None or how.name == "csv":  # our own columns; other formats bring theirs
        _check_header(path, first.where, header)
    return [_by_column(row, header) for row in rows]


def _csv_rows(text: str) -> Iterator[Entry]:
    """The rows that are not blank. Reading ends at a row whose quotes are wrong, because what follows cannot be trusted.

    White space around a cell is layout and dropped, but a space at the start of a quoted cell stays: in a target it counts.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    while True:
        where = f"line {reader.line_num + 1}"
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Entry(where, fault=f"broken CSV ({error}); check the double quotes; what follows was not read")
            return
        if len(row) > 1 or "".join(row).strip():
            yield Entry(where, [cell.rstrip() for cell in row])


def _cells(row: Entry) -> list[str]:
    return [cell.strip() for cell in row.value] if isinstance(row.value, list) else []


def _check_header(path: Path, where: str, header: list[str]) -> None:
    """Raise all faults of the header of bluedit's own table together."""
    for separator, name in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and separator in header[0]:
            raise FactError(f"{path}: the columns are separated by {name}; separate them by commas")
    if len(set(REQUIRED).intersection(header)) < 2 and len(header) > 2:
        raise unknown_format(path, header, "header")
    faults = [_unknown_column(c) for c in header if c not in COLUMNS]
    faults += [f"column {c!r} is missing" for c in REQUIRED if c not in header]
    faults += [f"column {c!r} occurs {header.count(c)} times" for c in COLUMNS if header.count(c) > 1]
    if faults:
        raise FactError(f"{path}: the header in {where} cannot be used: " + "; ".join(faults))


def _unknown_column(name: str) -> str:
    if name in KEYS:
        return f"{name!r} cannot be a column, because its values are objects; write these facts as JSON or JSONL"
    return f"unknown column {name!r} ({did_you_mean(name, COLUMNS)})"


def _by_column(row: Entry, header: list[str]) -> Entry:
    if row.fault or not isinstance(row.value, list):
        return row
    cells: list[str] = row.value
    if len(cells) > len(header):
        fault = f"{len(cells)} cells, but the header has {len(header)}; put a cell with commas in double quotes"
        return Entry(row.where, fault=fault)
    kept = [cell if name == "target" else cell.strip() for name, cell in zip(header, cells, strict=False)]
    return Entry(row.where, dict(zip(header, kept, strict=False)))
