"""Reading the text of a file, with errors that say why it cannot be read."""

from __future__ import annotations

import difflib
from pathlib import Path

from bluedit.errors import FactError, did_you_mean
from bluedit.files import read_bounded

LINES = (".jsonl", ".ndjson")
JSON = (".json", *LINES)


def read_text(path: Path) -> str:
    """The text of a UTF-8 file without its byte order mark.

    Raises:
        FactError: no such file, a folder, an empty or binary file, or another encoding.
    """
    try:
        if path.is_dir():
            raise FactError(f"{path} is a folder; pass one file of facts{_inside(path)}")
        data = read_bounded(path)
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
    names = [n for n in _names(folder) if Path(n).suffix.lower() in (*JSON, ".csv")]
    return f" in it, such as {names[0]!r}" if names else ""


def _similar(path: Path) -> str:
    if not path.parent.is_dir():
        return f"; the folder {path.parent} does not exist either"
    close = difflib.get_close_matches(path.name, _names(path.parent), n=3)
    return f"; {did_you_mean(path.name, close)}" if close else "; check the name"
