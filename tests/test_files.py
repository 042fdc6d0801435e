"""Files and folders are written whole or not at all."""

import errno
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest

from bluedit.files import (
    as_json,
    expanded,
    physical_memory,
    read_regular,
    replacing,
    write_file,
    write_folder,
    write_json,
)
from bluedit.places import check_new_folder, check_writable
from toys import disk_full_at, files_in


def test_json_has_no_numbers_that_are_not_finite(tmp_path):
    value = {"a": [1.5, float("inf"), (float("nan"), "é")], "b": {"c": -float("inf")}}
    assert json.loads(as_json(value)) == {"a": [1.5, None, [None, "é"]], "b": {"c": None}}
    write_json(tmp_path / "value.json", value)
    assert (tmp_path / "value.json").read_bytes() == as_json(value)


def test_write_file_clears_what_killed_processes_left(tmp_path):
    old, new, other = (tmp_path / name for name in (".bluedit-1-2.tmp", ".bluedit-1-3.tmp", ".bluedit.json"))
    for file in (old, new, other):
        file.write_bytes(b"half")
    folder = tmp_path / ".bluedit-xyz.tmp"
    (folder / "new").mkdir(parents=True)
    for file in (old, other, folder / "new", folder):
        os.utime(file, (0, 0))
    write_file(tmp_path / "weights", b"one")
    assert {file.name for file in tmp_path.iterdir()} == {"weights", ".bluedit-1-3.tmp", ".bluedit.json"}


def test_a_folder_that_is_still_being_filled_stays(tmp_path):
    folder = tmp_path / ".bluedit-xyz.tmp"
    (folder / "new").mkdir(parents=True)
    (folder / "new" / "shard").write_bytes(b"half")
    os.utime(folder, (0, 0))
    write_folder(tmp_path / "model", lambda new: (new / "a").write_bytes(b"1") and None)
    assert files_in(tmp_path) == {".bluedit-xyz.tmp/new/shard": b"half", "model/a": b"1"}


def test_write_file_follows_links_and_keeps_the_mode(tmp_path):
    file, link = tmp_path / "facts.jsonl", tmp_path / "link"
    file.write_bytes(b"one")
    file.chmod(0o600)
    link.symlink_to(file)
    write_file(link, b"two")
    assert link.is_symlink() and file.read_bytes() == b"two"
    assert file.stat().st_mode & 0o777 == 0o600


def test_write_file_writes_to_a_pipe(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor() as pool:
        found = pool.submit(pipe.read_bytes)
        write_file(pipe, b"facts")
        assert found.result(10) == b"facts"
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    with pytest.raises(OSError, match="not a regular file"), replacing(pipe):
        pass
    with pytest.raises(IsADirectoryError):
        write_file(tmp_path, b"x")


def test_threads_that_write_one_file(tmp_path):
    contents = [bytes([i]) * 10_000 for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda data: write_file(tmp_path / "a", data), contents * 20))
    assert (tmp_path / "a").read_bytes() in contents
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


@pytest.mark.parametrize("name", ["n" * 300, "file/below", "loop/below", "loop"])
def test_places_where_nothing_can_be_written(name, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError):
        check_writable(tmp_path / name)
    check_writable(tmp_path / "new" / "folder")


def test_folders_that_cannot_be_put_in_place(tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for place in (Path(), here, Path("..")):
        with pytest.raises(OSError, match="it is the folder that the command runs in, or above it"):
            check_new_folder(place)
    with pytest.raises(OSError, match="something is mounted there"):
        check_new_folder(Path("/proc"))
    for place in (Path("new"), Path("new/deeper")):
        check_new_folder(place)
    (tmp_path / "empty").mkdir()
    check_new_folder(tmp_path / "empty")


def test_a_folder_behind_a_link_is_made_there(tmp_path):
    (tmp_path / "disk" / "models").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "models")
    write_folder(tmp_path / "link", lambda new: (new / "a").write_bytes(b"1"))
    assert (tmp_path / "link").is_symlink() and (tmp_path / "disk" / "models" / "a").read_bytes() == b"1"


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


def test_what_is_read_is_a_regular_file_of_bounded_size(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert read_regular(tmp_path / "a", 5) == b"12345"
    with pytest.raises(ValueError, match="a has 5 bytes, more than the 4 that are read"):
        read_regular(tmp_path / "a", 4)
    with pytest.raises(ValueError, match="is not a regular file"):
        read_regular(tmp_path)
    with pytest.raises(ValueError, match="b is missing"):
        read_regular(tmp_path / "b")
    assert 2**28 < physical_memory() < 2**60


def test_a_user_that_does_not_exist_has_no_home():
    assert expanded("~no-such-user/model") == Path("~no-such-user/model")
    assert expanded("~/model") == Path.home() / "model"


def test_a_path_that_is_not_utf8_can_be_stored(tmp_path):
    assert json.loads(as_json({"out": "a\udcff", "n": float("nan")})) == {"out": "a\udcff", "n": None}
