"""The records of a file's text: a JSON array, JSONL, one JSON object, or the rows of a table with commas or tabs."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bluedit.errors import FactError, did_you_mean
from bluedit.facts._fields import Repeats, json_name
from bluedit.facts._text import JSON, LINES, read_text
from bluedit.facts.formats import COLUMNS, FORMATS, Format, formats, named, nearest_first, recognised
from bluedit.facts.records import KEYS, REQUIRED

_SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons"}
_NO_NAME = re.compile(r"(?:Unnamed: \d+)?")  # pandas' name for a column without a name
_COLUMNS = frozenset(KEYS).union(*(f.keys for f in FORMATS if "csv" in f.layouts))


@dataclass(frozen=True)
class Entry:
    """One record of a file: where it is and its value, or why it cannot even be parsed.

    With `ends`, more records are lost with it, and nobody knows how many.
    """

    where: str
    value: object = None
    fault: str = ""
    ends: bool = False


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
    header = _header(next(_csv_rows(text.lstrip(), _separator(path)), Entry("")))
    if len(header) == 1:
        header = re.split("[;\t]", header[0])  # which get a sentence of their own
    if suffix in (".csv", ".tsv") or (asked and "csv" in asked.layouts) or recognised(dict.fromkeys(header), "csv"):
        return "csv"
    raise FactError(
        f"cannot tell the format of {path}: it begins neither like JSON nor with a CSV header that has the columns "
        f"{', '.join(REQUIRED)}; pass format= as one of {', '.join(formats())}"
    )


# JSON


def _json_entries(path: Path, text: str) -> list[Entry]:
    """The records of a JSON array, of JSONL, or of the one list in a JSON object."""
    repeats = Repeats()
    if _is_lines(path, text):
        lines = enumerate(text.split("\n"), 1)
        entries = [_json_line(line, number, repeats) for number, line in lines if line.strip()]
    else:
        value = _document(path, text, repeats)
        entries = numbered(value if isinstance(value, list) else [value])
    found = _unwrapped(entries)
    if found is not entries and (fault := repeats.within(entries[0].value, deep=False)):
        raise FactError(f"{path}: {fault}")
    return [replace(e, fault=fault) if (fault := repeats.within(e.value)) else e for e in found]


def _is_lines(path: Path, text: str) -> bool:
    """Whether each line is a record: the first line is an object by itself, or the extension or the other lines say so."""
    start = text.lstrip()
    named_so = path.suffix.lower() in LINES
    first = start.split("\n", 1)[0]
    if start[0] != "{":
        return named_so and (start[0] != "[" or (_parses(first) and not _parses(text)))
    return _parses(first) or (not _parses(text) and (named_so or _mostly_objects(text)))


def _mostly_objects(text: str) -> bool:
    """Whether most lines that are not blank are an object each."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    return 2 * sum(line.startswith("{") and _parses(line) for line in lines) > len(lines)


def _parses(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _json_line(line: str, number: int, repeats: Repeats) -> Entry:
    where = f"line {number}"
    try:
        return Entry(where, json.loads(line, object_pairs_hook=repeats.pairs))
    except json.JSONDecodeError as error:
        return Entry(where, fault=f"broken JSON at column {error.colno}: {error.msg}")
    except (ValueError, RecursionError) as error:
        return Entry(where, fault=f"broken JSON: {error}")


def _document(path: Path, text: str, repeats: Repeats) -> list[object] | dict[str, object]:
    """The one JSON value of the file."""
    try:
        value = json.loads(text, object_pairs_hook=repeats.pairs)
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
    separator = _separator(path)
    rows = list(_csv_rows(text, separator))
    if not rows:
        return []
    first, *rows = rows
    if first.fault:
        raise FactError(f"{path}: {first.where}: {first.fault}")
    header = _header(first)
    left_out = _left_out(header, rows)
    names = [name for i, name in enumerate(header) if i not in left_out]
    how = asked or recognised(dict.fromkeys(names), "csv") or named("csv")
    own = how.name == "csv"
    if own:
        _check_header(path, first.where, names, separator)
    elif faults := _repeated(names, sorted(how.keys)):
        raise FactError(f"{path}: the header in {first.where} cannot be used: " + "; ".join(faults))
    columns = [None if i in left_out else name for i, name in enumerate(header)]
    return [_by_column(row, columns, separator, own=own) for row in rows]


def _separator(path: Path) -> str:
    return "\t" if path.suffix.lower() == ".tsv" else ","


def _csv_rows(text: str, separator: str) -> Iterator[Entry]:
    """The rows that are not blank. Reading ends at a row whose quotes are wrong, because what follows cannot be trusted.

    White space around a cell is layout and dropped, but a space at the start of a quoted cell stays: in a target it counts.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True)
    while True:
        where = f"line {reader.line_num + 1}"
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Entry(where, fault=_broken(error), ends=True)
            return
        if "".join(row).strip():
            yield Entry(where, [cell.rstrip() for cell in row])


def _broken(error: csv.Error) -> str:
    if "field limit" in str(error):
        return (
            f"a cell has more than {csv.field_size_limit()} characters, because a double quote is missing or because the text is "
            "that long; check the double quotes, or write these facts as JSONL; what follows was not read"
        )
    return f"broken CSV ({error}); check the double quotes; what follows was not read"


def _cells(row: Entry) -> list[str]:
    return [cell.strip() for cell in row.value] if isinstance(row.value, list) else []


def _header(row: Entry) -> list[str]:
    """The names of the columns; one that is known but for its case, or a space for "_", is written as it is known."""
    names = _cells(row)
    folded = [re.sub(r"[\s-]+", "_", name.lower()) for name in names]
    return [
        known if known in _COLUMNS and known not in names else name for name, known in zip(names, folded, strict=True)
    ]


def _left_out(header: Sequence[str], rows: Sequence[Entry]) -> set[int]:
    """The places of columns that table programs add: those without a name that are empty, and a first one that counts the rows."""
    found = set()
    for i, name in enumerate(header):
        if _NO_NAME.fullmatch(name):
            cells = [cell for row in rows for cell in _cells(row)[i : i + 1] if cell]
            if not cells or (i == 0 and all(map(str.isdecimal, cells))):
                found.add(i)
    return found


def _check_header(path: Path, where: str, header: list[str], separator: str) -> None:
    """Raise all faults of the header of bluedit's own table together."""
    for other, name in _SEPARATORS.items():
        if len(header) == 1 and other in header[0]:
            rename = {("\t", ","): ", or name the file .csv", (",", "\t"): ", or name the file .tsv"}.get(
                (separator, other), ""
            )
            right = _SEPARATORS[separator] + rename
            raise FactError(f"{path}: the columns are separated by {name}; separate them by {right}")
    if len(set(REQUIRED).intersection(header)) < 2 and len(header) > 2:
        raise unknown_format(path, filter(None, header), "header")
    faults = [_unknown_column(c) for c in header if c and c not in COLUMNS]
    faults += [f"column {c!r} is missing" for c in REQUIRED if c not in header]
    faults += _repeated(header, COLUMNS)
    if faults:
        raise FactError(f"{path}: the header in {where} cannot be used: " + "; ".join(faults))


def _repeated(header: list[str], known: Iterable[str]) -> list[str]:
    return [f"column {c!r} occurs {header.count(c)} times" for c in known if header.count(c) > 1]


def _unknown_column(name: str) -> str:
    if name in KEYS:
        return f"{name!r} cannot be a column, because its values are objects; write these facts as JSON or JSONL"
    return f"unknown column {name!r} ({did_you_mean(name, COLUMNS)})"


def _by_column(row: Entry, header: Sequence[str | None], separator: str, *, own: bool) -> Entry:
    """The cells of a row by the names of their columns, without those of columns that are left out (None)."""
    if row.fault or not isinstance(row.value, list):
        return row
    cells: list[str] = row.value
    count = f"{len(cells)} cell{'s' * (len(cells) > 1)}, but the header has {len(header)}"
    if len(cells) > len(header):
        return Entry(row.where, fault=f"{count}; put a cell with {_SEPARATORS[separator]} in double quotes")
    if own and set(REQUIRED).intersection(header[len(cells) :]) and _holds_rows(cells, len(header), separator):
        return Entry(
            row.where, fault=f"{count}; check the double quotes; a cell holds what looks like other rows", ends=True
        )
    record: dict[str, str | None] = dict.fromkeys(filter(None, header))
    for number, (name, cell) in enumerate(zip(header, cells, strict=False), 1):
        if name:
            record[name] = cell if name == "target" else cell.strip()
        elif own and name is not None and cell.strip():
            fault = f"{cell.strip()!r} stands in column {number}, which has no name in the header; name the column or empty the cell"
            return Entry(row.where, fault=fault)
    return Entry(row.where, record)


def _holds_rows(cells: Sequence[str], columns: int, separator: str) -> bool:
    """Whether a cell goes on over several lines, and one of them has as many separators as a row."""
    parts = [line for cell in cells if "\n" in cell for line in cell.split("\n")]
    return any(line.count(separator) >= columns - 1 for line in parts)
