"""The header of a GGUF file, checked before a reader goes through it: a damaged length would keep the reader of the package gguf going for ever.

Layout: magic, version, numbers of tensors and of metadata entries; the entries (name, type, value); a record for each tensor (name, number of
sides, sides, type, offset).
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes of a value by type
_STRING, _ARRAY = 8, 9
_MOST_SIDES = 4


def check_header(file: Path) -> None:
    """Raises ValueError if a length or a type in the header cannot be right; OSError if the file cannot be read."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        _Header(stream, size).check()


class _Header:
    """A header that is read from its beginning to its end."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._size, self._order = stream, size, "<"

    def check(self) -> None:
        if self._stream.read(4) != b"GGUF":
            raise ValueError("it does not begin with GGUF")
        version = self._number("I")
        if version & 0xFFFF == 0:  # written on a big-endian machine
            self._order = ">"
        tensors, entries = self._number("Q"), self._number("Q")
        for _ in range(entries):
            self._skip(self._number("Q"))
            self._skip_value(self._number("I"))
        for _ in range(tensors):
            self._skip(self._number("Q"))
            sides = self._number("I")
            if sides > _MOST_SIDES:
                raise ValueError(f"a tensor has {sides} sides")
            self._skip(8 * sides + 12)

    def _skip_value(self, kind: int) -> None:
        if kind in _SIZES:
            self._skip(_SIZES[kind])
        elif kind == _STRING:
            self._skip(self._number("Q"))
        elif kind == _ARRAY:
            self._skip_array(self._number("I"), self._number("Q"))
        else:
            raise ValueError(f"an entry is of the unknown type {kind}")

    def _skip_array(self, kind: int, length: int) -> None:
        if kind in _SIZES:
            self._skip(_SIZES[kind] * length)
        elif kind == _STRING:
            for _ in range(length):
                self._skip(self._number("Q"))
        else:
            raise ValueError(f"an array is of the type {kind}, which no model has")

    def _skip(self, count: int) -> None:
        if count > self._size - self._stream.tell():
            raise ValueError(f"{count:,} bytes are said to follow byte {self._stream.tell():,} of {self._size:,}")
        self._stream.seek(count, 1)

    def _number(self, kind: str) -> int:
        data = self._stream.read(struct.calcsize(kind))
        if len(data) < struct.calcsize(kind):
            raise ValueError("it ends within its header")
        return struct.unpack(self._order + kind, data)[0]
