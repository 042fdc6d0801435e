"""A workspace that was damaged or forged is refused in a sentence, whichever of its files it is; nothing is followed out of it. No model is needed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from bluedit import Workspace
from bluedit.editing import _entries
from bluedit.editing._folder import hash_of
from bluedit.editing._history import _digest
from bluedit.errors import BluEditError, PatchError, WorkspaceError

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import sound


@pytest.fixture
def folder(tmp_path):
    sound.workspace(tmp_path / "w")
    _entries._batches.cache_clear()
    return tmp_path / "w"


def first_batch(folder, suffix=".json"):
    return next((folder / "batches").glob(f"0000*{suffix}"))


def events_of(folder):
    *lines, _ = (folder / "journal.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "digest"} for line in lines]


def forge(folder, events):
    """Write a journal whose digests are right."""
    digest, lines = json.loads((folder / "workspace.json").read_text())["digest"], []
    for event in events:
        digest = _digest(digest, event)
        lines.append(json.dumps(event | {"digest": digest}))
    lines.append(json.dumps({"events": len(lines), "digest": digest}))
    (folder / "journal.jsonl").write_text("\n".join(lines) + "\n")


def forge_batch(folder, change):
    """Change the record of the first batch, and every name and digest that depends on it."""
    record, factors = first_batch(folder), first_batch(folder, ".safetensors").read_bytes()
    said = json.loads(record.read_text())
    change(said)
    data = json.dumps(said).encode()
    name = f"0000-{hash_of(data, factors)}"
    for suffix, content in ((".json", data), (".safetensors", factors)):
        (folder / "batches" / f"{name}{suffix}").write_bytes(content)
    forge(folder, json.loads(json.dumps(events_of(folder)).replace(record.stem, name)))


def refused(folder, text, error=WorkspaceError):
    with pytest.raises(error) as caught:
        Workspace.open(folder).log()
    assert text in str(caught.value), str(caught.value)


def test_the_sound_one_can_be_read(folder):
    found = Workspace.open(folder)
    assert [(one.number, one.standing, one.said) for one in found.log()] == [(1, True, 1), (2, True, 1)]
    assert found.tags == {"both": 3} and found.verify(model=False) == []


def test_a_fact_that_was_changed_is_not_listed(folder):
    """The list of entries reads no factors, and notices all the same."""
    file = first_batch(folder)
    file.write_text(file.read_text().replace('"Rome"', '"Oslo"', 1))
    text = "was changed after it was written). Restore batches/ from a copy, or leave the entry out with 'checkout' of an earlier event"
    refused(folder, text, PatchError)
    refused(folder, f"entry 1 of the workspace {folder} is damaged (ValueError: batch 0000-", PatchError)
    with pytest.raises(PatchError, match=r"^entry 1 of the workspace"):
        Workspace.open(folder).entry_patch(1)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.parametrize("name", ["journal.jsonl", "batches/{}.json", "batches/{}.safetensors"])
def test_a_pipe_in_place_of_a_file(name, folder):
    file = folder / name.format(first_batch(folder).stem)
    file.unlink()
    os.mkfifo(file)
    refused(folder, f"{file.name} is not a regular file", BluEditError)


@pytest.mark.parametrize("name", ["journal.jsonl", "workspace.json", "batches/{}.json", "batches/{}.safetensors"])
def test_a_file_of_terabytes_is_not_read(name, folder):
    with (folder / name.format(first_batch(folder).stem)).open("rb+") as stream:
        stream.truncate(2**42)
    refused(folder, "has 4,398,046,511,104 bytes, more than the", BluEditError)


def test_a_lock_that_leads_elsewhere_is_not_written(folder, tmp_path):
    (folder / "lock.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WorkspaceError, match=r"lock\.json is not a regular file"):
        Workspace.open(folder).tag("x")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    "lock",
    ['{"pid": "x"}', "[" * 10**5, "\x00", json.dumps({"pid": 2**70, "host": "", "started": 0, "since": 0, "task": ""})],
)
def test_a_lock_that_nobody_has(lock, folder):
    (folder / "lock.json").write_text(lock.replace('"host": ""', f'"host": "{os.uname().nodename}"'))
    Workspace.open(folder).tag("x")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda events: events[0].update(keep=-1), "damaged at event 1 (it keeps -1 of 0 entries)"),
        (lambda events: events[1].update(keep=2), "damaged at event 2 (it keeps 2 of 1 entries)"),
        (lambda events: events[1].update(keep="1"), 'damaged at event 2 (keep is "1", not a whole number)'),
        (lambda events: events[1]["add"][0].update(facts=None), "damaged at event 2 (add[0].facts is null, not a whole number)"),
        (lambda events: events[1].update(add={}), "damaged at event 2 (add is an object, not a list)"),
        (lambda events: events[1].update(more=1), "damaged at event 2 (it has the unknown key 'more')"),
        (lambda events: events[2]["about"].clear(), "damaged at event 3 (it is a tag without a name)"),
        (lambda events: events[3]["about"].update(guard=1), "damaged at event 4 (what it says of a guard cannot be used)"),
        (lambda events: events[4].update(kind="edit"), "damaged at event 6 (it is a redo, and nothing was undone before it)"),
    ],
)  # fmt: skip
def test_a_forged_journal(change, text, folder):
    events = events_of(folder)
    change(events)
    forge(folder, events)
    refused(folder, text)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda said: said.update(facts=[]), "entry 1 has 1 facts, and its batches hold 0"),
        (
            lambda said: said["origin"].update(report={"facts": [{}]}),
            "does not say what bluedit writes (KeyError: 'says_after')",
        ),
        (lambda said: said["guard"].pop("share"), "does not say what bluedit writes (KeyError: 'share')"),
        (lambda said: said.update(origin=3), "is damaged"),
    ],
)
def test_a_forged_batch(change, text, folder):
    forge_batch(folder, change)
    refused(folder, text, PatchError)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"base": {"model": 3}}, "is damaged (base.model is 3, not text)"),
        ({"base": None}, "is damaged (base is null, not an object)"),
        ({"tokens": "many"}, "does not say which text key statistics come from"),
        ({"corpus": None}, "does not say which text key statistics come from"),
    ],
)
def test_a_forged_description(change, text, folder):
    file = folder / "workspace.json"
    said = {key: value for key, value in json.loads(file.read_text()).items() if key != "digest"} | change
    file.write_text(json.dumps(said | {"digest": _digest("", said)}))
    refused(folder, text)


@pytest.mark.parametrize("point", ["9" * 5000, "²", "-1", "1e3", "\udcff"])
def test_points_and_entries_that_there_are_none_of(point, folder):
    found = Workspace.open(folder)
    with pytest.raises(WorkspaceError, match="there is no point"):
        found.checkout(point)
    with pytest.raises(WorkspaceError, match="there is no entry"):
        found.entry_patch(point)
