"""Replacing tensors in a safetensors file without reading the others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch

from bluedit.shapes import Tensor


def overwrite(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Put other values into tensors of a file; their dtypes and shapes stay, and so does every other byte.

    Raises:
        OSError: the file cannot be written.
        ValueError: a tensor of another size than the file's.
    """
    with file.open("rb+") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
        for name, tensor in tensors.items():
            start, end = header[name]["data_offsets"]
            data = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
            if data.nbytes != end - start:
                raise ValueError(f"{name} has {end - start} bytes in {file.name}, not {data.nbytes}")
            stream.seek(8 + length + start)
            stream.write(data.data)
