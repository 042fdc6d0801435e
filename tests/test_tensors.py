"""Files of tensors: they read back, and what was changed in them is found."""

import os

import pytest
import torch

from bluedit.tensors import UNREADABLE, read_metadata, read_tensors, write_tensors

TENSORS = {
    "a": torch.arange(6.0).reshape(2, 3),
    "b": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "scalar": torch.tensor(3),
    "empty": torch.zeros(0, 4),
}


def test_there_and_back(tmp_path):
    file = tmp_path / "x.safetensors"
    write_tensors(file, {**TENSORS, "a": TENSORS["a"].T}, {"of": "x"})
    found, metadata = read_tensors(file)
    assert metadata == {"of": "x"} and set(found) == set(TENSORS)
    assert torch.equal(found["a"], TENSORS["a"].T)
    assert all(torch.equal(found[name], TENSORS[name]) and found[name].dtype == TENSORS[name].dtype for name in "b")
    said, shapes = read_metadata(file)
    assert said["of"] == "x" and shapes == {"a": (3, 2), "b": (2,), "scalar": (), "empty": (0, 4)}


def test_every_flipped_bit_is_found(tmp_path):
    file = tmp_path / "x.safetensors"
    write_tensors(file, TENSORS, {"of": "x"})
    whole = file.read_bytes()
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 8
        file.write_bytes(damaged)
        try:
            found, metadata = read_tensors(file)
        except UNREADABLE:
            continue
        assert metadata == {"of": "x"}  # a bit that changes nothing, such as white space of the header
        assert all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)


def test_files_that_are_cut_off_or_no_files(tmp_path):
    file = tmp_path / "x.safetensors"
    write_tensors(file, TENSORS, {})
    file.write_bytes(file.read_bytes()[:-1])
    for place in (file, tmp_path, tmp_path / "missing"):
        with pytest.raises(UNREADABLE):
            read_tensors(place)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        read_tensors(tmp_path / "pipe")
