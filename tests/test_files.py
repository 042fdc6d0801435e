"""Files and folders are written whole or not at all."""

import errno
import json
import os
from itertools import count
from pathlib import Path

import pytest

from bluedit.files import as_json, write_file, write_folder, write_json
from toys import disk_full_at, files_in


def test_json_has_no_numbers_that_are_not_finite(tmp_path):
    value = {"a": [1.5, float("inf"), (float("nan"), "é")], "b": {"c": -float("inf")}}
    assert json.loads(as_json(value)) == {"a": [1.5, None, [None, "é"]], "b": {"c": None}}
    write_json(tmp_path / "value.json", value)
    assert (tmp_path / "value.json").read_bytes() == as_json(value)


def test_write_file_clears_what_killed_processes_left(tmp_path):
    old, new, other = (tmp_path / name for name in (".weights.12345", ".weights.12346", ".weights.json"))
    for file in (old, new, other):
        file.write_bytes(b"half")
    for file in (old, other):
        os.utime(file, (0, 0))
    write_file(tmp_path / "weights", b"one")
    assert {file.name for file in tmp_path.iterdir()} == {"weights", ".weights.12346", ".weights.json"}


def test_write_file_replaces_or_keeps(tmp_path, monkeypatch):
    file = tmp_path / "a" / "b.bin"
    write_file(file, b"one")
    write_file(file, b"two")
    assert files_in(tmp_path) == {"a/b.bin": b"two"}
    disk_full_at(monkeypatch, 1)
    with pytest.raises(OSError, match="No space left"):
        write_file(file, b"three")
    assert files_in(tmp_path) == {"a/b.bin": b"two"}


@pytest.mark.parametrize(
    "exception", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), ValueError("x")]
)
def test_write_folder_keeps_the_old_folder_when_writing_fails(exception, tmp_path):
    folder = tmp_path / "folder"
    write_folder(folder, lambda new: (new / "a").write_bytes(b"old") and None)

    def write(new: Path) -> None:
        (new / "a").write_bytes(b"new")
        raise exception

    with pytest.raises(type(exception)):
        write_folder(folder, write)
    assert files_in(tmp_path) == {"folder/a": b"old"}
    assert [f.name for f in tmp_path.iterdir()] == ["folder"]
    write_folder(folder, lambda new: (new / "b").write_bytes(b"new") and None)
    assert files_in(tmp_path) == {"folder/b": b"new"}
    assert [f.name for f in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("exception", [OSError(errno.EIO, "input/output error"), KeyboardInterrupt()])
def test_write_folder_keeps_the_old_folder_when_renaming_fails(exception, tmp_path, monkeypatch):
    folder = tmp_path / "folder"
    write_folder(folder, lambda new: (new / "a").write_bytes(b"old") and None)
    original, calls = Path.rename, count(1)

    def rename(self, target):
        if next(calls) == 2:
            raise exception
        return original(self, target)

    with monkeypatch.context() as context, pytest.raises(type(exception)):
        context.setattr(Path, "rename", rename)
        write_folder(folder, lambda new: (new / "a").write_bytes(b"new") and None)
    assert files_in(tmp_path) == {"folder/a": b"old"}
