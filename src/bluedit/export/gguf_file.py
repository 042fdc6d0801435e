"""GGUF files: reading what an export needs, and a copy in which some tensors are replaced and everything else keeps its bytes.

Layout: magic, version, number of tensors and of metadata entries; the entries; one record a tensor (name, sides, type, offset); then, from an
aligned place on, the tensors themselves, each at an aligned offset.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from bluedit.errors import ExportError, ModelError
from bluedit.model.gguf_header import check_header

if TYPE_CHECKING:
    from gguf import GGUFReader

_HEAD = 24  # bytes of magic, version and the two counts
_UINT32, _STRING, _ARRAY = 4, 8, 9
TYPES = ("F16", "BF16", "Q8_0", "F32")
_LARGEST = {"F16": float(np.finfo(np.float16).max)}
Value = str | int | Sequence[str]


def read_text(file: Path, key: str) -> str:
    """A text of a GGUF file's metadata; empty if it has none of that name."""
    return GgufFile(file).text(key)


def _text(file: Path, reader: GGUFReader, key: str) -> str:
    field = reader.fields.get(key)
    try:
        return str(field.contents()) if field is not None else ""
    except Exception as error:  # a damaged field fails in many ways, too
        raise ModelError(f"cannot read {key} in the GGUF file {file}: {error}") from error


@dataclass(eq=False)
class GgufFile:
    """A GGUF file.

    Raises:
        ModelError: it cannot be read, in part or as a whole, or is one of several parts of a model.
    """

    path: Path

    @cached_property
    def reader(self) -> GGUFReader:
        """The reader of the package gguf."""
        from gguf import GGUFEndian, GGUFReader

        try:
            check_header(self.path)
            reader = GGUFReader(self.path)
        except Exception as error:  # a damaged file makes the reader fail in many ways
            raise ModelError(f"cannot read the GGUF file {self.path}: {' '.join(str(error).split())[:200]}") from error
        if reader.endianess != GGUFEndian.LITTLE:
            raise ModelError(f"{self.path} is a big-endian GGUF file; convert it to little-endian first")
        parts = _text(self.path, reader, "split.count")
        if parts not in ("", "0", "1"):
            raise ModelError(
                f"{self.path} is one of {parts} parts of a model; merge them first (llama-gguf-split --merge)"
            )
        return reader

    def text(self, key: str) -> str:
        """A text of the metadata; empty if there is none of that name."""
        return _text(self.path, self.reader, key)

    @property
    def architecture(self) -> str:
        """The name of the model's architecture, e.g. "llama"."""
        return self.text("general.architecture")

    @cached_property
    def tensors(self) -> dict[str, Any]:
        """The package's records of the tensors by name."""
        return {tensor.name: tensor for tensor in self.reader.tensors}

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, rows first as in torch."""
        return tuple(int(side) for side in reversed(self.tensors[name].shape))

    def values(self, name: str) -> np.ndarray:
        """A tensor in float32, whatever its type."""
        from gguf.quants import dequantize

        tensor = self.tensors[name]
        return dequantize(tensor.data, tensor.tensor_type).reshape(self.shape(name))


def quantized(name: str, values: np.ndarray, kind: str) -> tuple[Any, np.ndarray]:
    """(type, bytes) of a float32 matrix in one of TYPES.

    Raises:
        ExportError: the type does not take such a matrix.
    """
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import quantize

    of_type = GGMLQuantizationType[kind]
    block, _ = GGML_QUANT_SIZES[of_type]
    if values.shape[-1] % block:
        raise ExportError(
            f"{kind} takes rows of a multiple of {block} numbers, and {name} has {values.shape[-1]}; use F16 or BF16"
        )
    limit = _LARGEST.get(kind, np.inf)
    if np.abs(values).max(initial=0) > limit:
        raise ExportError(f"{name} has values above {limit:g}, the largest of {kind}; use BF16")
    data = np.ascontiguousarray(quantize(np.ascontiguousarray(values, dtype=np.float32), of_type))
    return of_type, data.view(np.uint8).reshape(-1)


def rewrite(
    source: GgufFile, target: Path, tensors: Mapping[str, tuple[Any, np.ndarray]], notes: Mapping[str, Value]
) -> None:
    """Copy a GGUF file with other values for some tensors and further metadata. All other bytes of both stay as they are.

    Args:
        tensors: (type, bytes) by name; shapes stay.
        notes: entries that are added after the file's own.
    """
    reader = source.reader
    infos = [tensor.field for tensor in reader.tensors]
    alignment, added = int(reader.alignment), b"".join(_entry(key, value) for key, value in notes.items())
    sizes = [len(tensors[t.name][1]) if t.name in tensors else int(t.n_bytes) for t in reader.tensors]
    records, offset = b"", 0
    for tensor, size in zip(reader.tensors, sizes, strict=True):
        of_type = tensors[tensor.name][0] if tensor.name in tensors else tensor.tensor_type
        records += _record(tensor.name, [int(side) for side in tensor.shape], int(of_type), offset)
        offset = _aligned(offset + size, alignment)
    with source.path.open("rb") as old, target.open("wb") as new:
        new.write(old.read(8))
        new.write(struct.pack("<QQ", len(infos), _count(reader) + len(notes)))
        old.seek(_HEAD)
        new.write(old.read(infos[0].offset - _HEAD))
        new.write(added + records)
        _pad(new, alignment)
        for tensor in reader.tensors:
            if tensor.name in tensors:
                new.write(tensors[tensor.name][1].tobytes())
            else:
                old.seek(int(tensor.data_offset))
                shutil.copyfileobj(_Part(old, int(tensor.n_bytes)), new, 2**22)  # pyright: ignore[reportArgumentType]
            _pad(new, alignment)


class _Part:
    """The next bytes of a file, up to a number."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._left = stream, size

    def read(self, size: int) -> bytes:
        data = self._stream.read(min(size, self._left))
        self._left -= len(data)
        return data


def _count(reader: GGUFReader) -> int:
    return int(reader.fields["GGUF.kv_count"].parts[-1][0])


def _aligned(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment


def _pad(stream: BinaryIO, alignment: int) -> None:
    stream.write(bytes(_aligned(stream.tell(), alignment) - stream.tell()))


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _entry(key: str, value: Value) -> bytes:
    if isinstance(value, str):
        return _string(key) + struct.pack("<I", _STRING) + _string(value)
    if isinstance(value, int):
        return _string(key) + struct.pack("<II", _UINT32, value)
    items = b"".join(map(_string, value))
    return _string(key) + struct.pack("<IIQ", _ARRAY, _STRING, len(value)) + items


def _record(name: str, sides: Sequence[int], of_type: int, offset: int) -> bytes:
    return _string(name) + struct.pack(f"<I{len(sides)}QIQ", len(sides), *sides, of_type, offset)
