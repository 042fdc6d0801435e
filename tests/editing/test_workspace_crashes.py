"""A workspace survives whatever happens while it is changed, notices damage, and is changed by one process at a time."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from editing_help import bits, make_editor, same_bits
from test_workspace import numbers, reopened, write

from bluedit import Workspace
from bluedit.editing import _owner
from bluedit.errors import PatchError, WorkspaceError
from toys import FACTS, disk_full_at, files_in


@pytest.fixture(scope="module")
def original(tmp_path_factory, statistics):
    """A workspace with three entries and a tag, not to be changed."""
    workspace = Workspace.create(tmp_path_factory.mktemp("w") / "w", make_editor(statistics=statistics))
    for fact in FACTS:
        write(workspace, fact, "memit")
    workspace.tag("all")
    return workspace.folder


@pytest.fixture
def folder(original, tmp_path):
    for name, content in files_in(original).items():
        (tmp_path / "w" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "w" / name).write_bytes(content)
    return tmp_path / "w"


@pytest.mark.parametrize("what", ["edit", "undo 1", "tag"])
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_full_disk_changes_nothing(what, nth, folder, statistics, monkeypatch):
    workspace = Workspace.open(folder, editor=make_editor(statistics=statistics))
    before, files = bits(workspace.editor.model), files_in(folder)
    act = {
        "edit": lambda: write(workspace, FACTS[0], "memit"),
        "undo 1": lambda: workspace.undo(1),
        "tag": lambda: workspace.tag("x"),
    }[what]
    if what == "tag" and nth > 1:
        pytest.skip("a tag writes one file")
    with monkeypatch.context() as patched:
        disk_full_at(patched, nth)
        with pytest.raises(WorkspaceError, match=r"No space left on device; it is as it was"):
            act()
    assert same_bits(workspace.editor.model, before)
    now = files_in(folder)
    assert {name: now[name] for name in files} == files, "files of batches that no event names may be left"
    assert numbers(workspace) == [1, 2, 3]
    act()  # now it works
    assert workspace.verify(model=False) == []
    named = {n for event in workspace.events for one in event.add for n in one.batches}
    assert what == "tag" or {file.stem for file in (folder / "batches").iterdir()} == named, "and nothing is left over"


def test_a_disk_without_room_for_the_lock_leaves_none(folder, monkeypatch):
    def write_text(file, *_):
        file.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = files_in(folder)
    with monkeypatch.context() as full:
        full.setattr("bluedit.editing._owner.Path.write_text", write_text)
        with pytest.raises(WorkspaceError, match="No space left on device; it is as it was"):
            Workspace.open(folder).tag("x")
    assert files_in(folder) == before


KILLED = """
import os, sys
sys.path[:0] = {paths!r}
from editing_help import make_editor
from test_workspace import write
from toys import FACTS
from bluedit import Workspace
from bluedit import files
calls, replace = iter(range(10**6)), files.Path.replace
def killed(self, *rest):
    if next(calls) == {nth}:
        os.kill(os.getpid(), 9)
    return replace(self, *rest)
workspace = Workspace.open({folder!r}, editor=make_editor(statistics={statistics!r}))
workspace.editor
files.Path.replace = killed
write(workspace, FACTS[1], "memit")
workspace.undo(2)
"""


@pytest.mark.slow
@pytest.mark.parametrize("nth", [0, 1, 2, 3, 6, 7])
def test_kill_9_leaves_the_last_complete_state(nth, folder, statistics):
    paths = [str(Path(__file__).parents[0]), str(Path(__file__).parents[1])]
    code = KILLED.format(paths=paths, nth=nth, folder=str(folder), statistics=str(statistics))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr[-1000:]
    assert (folder / _owner.LOCK).exists(), "the dead process held it"
    workspace = reopened(Workspace.open(folder), statistics)
    assert numbers(workspace) == ([1, 2, 3] if nth < 3 else [1, 2, 3, 4])
    assert workspace.verify() == []
    write(workspace, FACTS[2], "memit")  # the lock of a dead process does not count
    assert not (folder / _owner.LOCK).exists()


def test_the_second_process_is_told_who_is_at_work(folder):
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        owner = _owner.Owner(sleeper.pid, socket.gethostname(), _owner._started(sleeper.pid), time.time() - 12, "edit")
        (folder / _owner.LOCK).write_text(json.dumps(vars(owner)))
        text = rf"is in use: process {sleeper.pid} on \S+ has been busy with 'edit' for 1\d s; let it finish"
        for act in (Workspace.open(folder).undo, lambda: Workspace.open(folder).tag("x")):
            with pytest.raises(WorkspaceError, match=text):
                act()
        assert len(Workspace.open(folder).log()) == 3, "reading needs no lock"
        Workspace.open(folder, break_lock=True).tag("x")
        assert not (folder / _owner.LOCK).exists()
    finally:
        sleeper.kill()
        sleeper.wait()


def test_whose_lock_was_broken_records_nothing(folder):
    mine = Workspace.open(folder)
    with mine._store.owned("edit"):
        Workspace.open(folder, break_lock=True).tag("theirs")
        with pytest.raises(WorkspaceError, match="another process took over the lock"):
            mine._store.record("tag", 3, name="mine")
    assert set(Workspace.open(folder).tags) == {"all", "theirs"}


def test_whose_lock_was_broken_deletes_nothing_of_the_others(folder, statistics):
    mine, theirs = (Workspace.open(folder, editor=make_editor(statistics=statistics)) for _ in range(2))
    batches = mine._store.batches_of(mine._store.history.standing[0])
    with mine._store.owned("edit"):
        theirs._store._break_lock = True
        write(theirs, FACTS[0], "memit", settings={"preserve.lambda": 3.0})
        with pytest.raises(WorkspaceError, match="another process took over the lock"):
            mine._store.write(batches)
    assert Workspace.open(folder).verify(model=False) == []
    assert len(Workspace.open(folder).log()) == 4


def test_two_workspaces_of_one_folder_see_each_other(folder, statistics):
    one, two = (Workspace.open(folder, editor=make_editor(statistics=statistics)) for _ in range(2))
    one.undo()
    write(two, FACTS[2], "memit")
    one.tag("both")
    assert numbers(one) == [1, 2, 4] and same_bits(one.editor.model, bits(two.editor.model))


# damage


def test_damage_is_found_and_named(folder, statistics):
    second = sorted((folder / "batches").glob("0001-*"))
    for file in second:
        good = file.read_bytes()
        for bad in (good[:-1], bytes([good[0] ^ 1]) + good[1:]):
            file.write_bytes(bad)
            (problem,) = Workspace.open(folder).verify()
            assert problem.entry == 2 and "was changed after it was written" in problem.what
        file.unlink()
        (problem,) = Workspace.open(folder).verify()
        assert problem.entry == 2 and "is missing" in problem.what
        with pytest.raises(PatchError):
            _ = Workspace.open(folder).patch
        file.write_bytes(good)
    assert Workspace.open(folder, editor=make_editor(statistics=statistics)).verify() == []


def test_a_changed_weight_is_found(folder, statistics):
    workspace = Workspace.open(folder, editor=make_editor(statistics=statistics))
    workspace.editor.model.model.norm.weight.data[3] += 1e-9
    (problem,) = workspace.verify()
    assert problem.entry is None and "were changed outside" in problem.what


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda lines: [lines[0], lines[1].replace('"keep": 1', '"keep": 0'), *lines[2:]], "damaged at event 2"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], "damaged at event 1"),
        (lambda lines: [*lines[:2], lines[-1]], "damaged at event 3 (events after it are missing)"),
        (lambda lines: lines[:2], "damaged at event 2"),
        (lambda lines: [*lines[:2], lines[2][:40]], "damaged at event 3"),
        (lambda _: [], "damaged at event 1"),
    ],
)
def test_a_damaged_journal_says_from_where_on(change, text, folder):
    file = folder / "journal.jsonl"
    file.write_text("\n".join(change(file.read_text("utf-8").splitlines())), "utf-8")
    with pytest.raises(WorkspaceError) as caught:
        Workspace.open(folder)
    assert text in str(caught.value), str(caught.value)


def test_a_damaged_description_is_noticed(folder):
    file = folder / "workspace.json"
    file.write_text(file.read_text("utf-8").replace("float64", "float32"), "utf-8")
    with pytest.raises(WorkspaceError, match="was changed after it was written"):
        Workspace.open(folder)
    file.write_text("{")
    with pytest.raises(WorkspaceError, match="is unreadable"):
        Workspace.open(folder)
