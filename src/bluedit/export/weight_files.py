"""The weight files of a checkpoint: which tensors they hold, read one at a time."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError, safe_open

from bluedit.decoding import decode
from bluedit.errors import ModelError
from bluedit.files import read_regular
from bluedit.shapes import Tensor


class _Reader:
    """The tensors of one file by name."""

    def __init__(self, file: Path) -> None:
        raise NotImplementedError

    def names(self) -> list[str]:
        raise NotImplementedError

    def tensor(self, name: str) -> Tensor:
        raise NotImplementedError

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.tensor(name).shape)


class _Safetensors(_Reader):
    def __init__(self, file: Path) -> None:
        self._file: Any = safe_open(file, framework="pt")

    def names(self) -> list[str]:
        return list(self._file.keys())

    def tensor(self, name: str) -> Tensor:
        return self._file.get_tensor(name)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._file.get_slice(name).get_shape())


class _Pickled(_Reader):
    """A file of torch.save. Only tensors are unpickled, and they stay on disk until they are used."""

    def __init__(self, file: Path) -> None:
        try:
            self.state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # the format before torch 1.6 cannot be mapped
            self.state = torch.load(file, map_location="cpu", weights_only=True)
        if not isinstance(self.state, dict):
            raise ValueError("it holds no dictionary of tensors")

    def names(self) -> list[str]:
        return [name for name, value in self.state.items() if isinstance(value, Tensor)]

    def tensor(self, name: str) -> Tensor:
        return self.state[name]


@dataclass(frozen=True)
class Layout:
    """A way to store weights: one file, or several with an index that says where each tensor is."""

    single: str
    reader: type[_Reader]
    safe: bool

    @property
    def index(self) -> str:
        """Name of the index file, where there are several files."""
        return f"{self.single}.index.json"


LAYOUTS = (
    Layout("model.safetensors", _Safetensors, True),
    Layout("pytorch_model.bin", _Pickled, False),
)


@dataclass(frozen=True, eq=False)
class WeightFiles:
    """The weights of a checkpoint folder.

    Attributes:
        folder, layout: where they are, and how they are stored.
        places: the file (its name in the folder) of every tensor.
        index: the index as it is on disk; None if there is a single file.
    """

    folder: Path
    layout: Layout
    places: Mapping[str, str]
    index: Mapping[str, Any] | None = None
    _open: dict[str, _Reader] = field(default_factory=dict, repr=False)

    OPEN: ClassVar[int] = 1  # files that are open at once

    @classmethod
    def of(cls, folder: Path) -> WeightFiles:
        """The weights that transformers would load from a folder.

        Raises:
            ModelError: there are none, or their index is damaged.
        """
        for layout in LAYOUTS:
            if (folder / layout.single).is_file():
                whole = cls(folder, layout, {})
                return cls(folder, layout, dict.fromkeys(whole.reader(layout.single).names(), layout.single))
            if (folder / layout.index).is_file():
                index = _read_index(folder / layout.index)
                return cls(folder, layout, dict(index["weight_map"]), index)
        wanted = ", ".join(name for layout in LAYOUTS for name in (layout.single, layout.index))
        raise ModelError(f"{folder} holds no weights that can be read file by file (one of {wanted})")

    @property
    def files(self) -> list[str]:
        """Names of the files, each once, in order."""
        return sorted(set(self.places.values()))

    def reader(self, file: str) -> _Reader:
        """The reader of a file; one file is open at a time. Raises ModelError if it is missing or damaged."""
        if file not in self._open:
            self._open.clear()
            try:
                self._open[file] = self.layout.reader(self.folder / file)
            except (OSError, SafetensorError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
                raise ModelError(
                    f"cannot read {self.folder / file}: {' '.join(str(error).split())[:200]}; get the file again"
                ) from error
        return self._open[file]

    def tensor(self, name: str) -> Tensor:
        """A tensor, as it is stored. Raises ModelError if its file is missing or damaged."""
        reader = self.reader(self.places[name])
        try:
            return reader.tensor(name)
        except (SafetensorError, KeyError, RuntimeError) as error:
            raise ModelError(
                f"{self.folder / self.places[name]} holds no tensor {name}, though the index says so"
            ) from error

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor. Raises ModelError as `tensor`."""
        reader = self.reader(self.places[name])
        try:
            return reader.shape(name)
        except (SafetensorError, KeyError, RuntimeError) as error:
            raise ModelError(
                f"{self.folder / self.places[name]} holds no tensor {name}, though the index says so"
            ) from error

    def in_file(self, file: str) -> Iterator[tuple[str, Tensor]]:
        """The tensors that belong to a file."""
        for name in sorted(name for name, place in self.places.items() if place == file):
            yield name, self.tensor(name)


def _read_index(file: Path) -> dict[str, Any]:
    try:
        index = dict(json.loads(read_regular(file)))
        places = decode(Mapping[str, str], index["weight_map"], "weight_map")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"the index {file} is damaged ({error}); get it again") from error
    for name in set(places.values()):
        if Path(name).name != name or name in ("", ".", ".."):
            raise ModelError(f"the index {file} names {name!r}, which is not a file in its own folder")
    if not places:
        raise ModelError(f"the index {file} names no tensors; get it again")
    return index
