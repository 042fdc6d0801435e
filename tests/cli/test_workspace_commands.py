"""`bluedit init` and `bluedit -C DIR ...`: a history of edits from the command line."""

from __future__ import annotations

import json
import shutil
import stat
from types import SimpleNamespace

import pytest
import torch
from cli_help import FACT, SETTINGS, assert_fails, files, flat, key_pair, run
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from bluedit import Patch, Workspace
from bluedit.cli.edit_output import finish_all

SET = [word for path, value in SETTINGS.items() for word in ("--set", f"{path}={value}")]
EDIT = ["edit", "-r", "memit", "--known", "edit", "--allow-missed", "--no-report", *SET]
ROME, RAIN = "The capital of {France} is => Rome", "The rain in {Berlin} is => mild"


@pytest.fixture
def folder(model, tmp_path):
    """A workspace of a read-only model, with two entries."""
    made = run("init", tmp_path / "w", "-m", model, "--tokens", 480)
    assert made.exit_code == 0, made.stderr
    for fact in (FACT, ROME):
        result = run("-C", tmp_path / "w", *EDIT, "-f", fact)
        assert result.exit_code == 0, result.stderr
    return tmp_path / "w"


def test_a_history_from_the_command_line(model, folder):
    before = files(model)
    for file in [model, *model.iterdir()]:
        file.chmod(file.stat().st_mode & ~stat.S_IWUSR)

    def ok(*arguments, **options):
        result = run("-C", folder, *arguments, **options)
        assert result.exit_code == 0, (result.stdout, result.stderr)
        return flat(result.stdout)

    try:
        text = ok(*EDIT, "-f", "The capital of {France} is => Berlin", "--phrasing", "The {Gallic} capital is")
        assert f"Entry 3 of {folder}. Take it back: bluedit -C {folder} undo" in text
        assert "It supersedes entry 2: The capital of France is => Rome" in text
        assert "superseded by 3" in ok("log") and "still said" in ok("log", "--health")
        assert ok("ask", "The capital of France is").count("The capital of France is") >= 1
        assert "Berlin" in ok("show", 3) and "Berlin" not in ok("show", 2)
        assert "Rome" in ok("find", "france")
        assert "Berlin" in ok("find", "gallic")
        ok("tag", "three")
        assert ok("undo") == "Entry 3 is undone, bit for bit. 'redo' brings it back."
        assert "+ 3" not in ok("diff", "three") and "- 3" in ok("diff", "three")
        assert ok("redo") == "Brought back. Standing entries: 1, 2, 3"
        assert "Entries 2, 3 will be solved again" in flat(run("-C", folder, "undo", 1, input="n\n").stdout)
        assert len(Workspace.open(folder).log()) == 3
        assert "Entry 1 is undone. 'redo' brings it back. Entry 2 was solved again: 1 fact" in ok("undo", 1, "--yes")
        assert "All is as it was written" in ok("verify")
        assert "Standing entries: 1, 2, 3. Back to where you were: checkout" in ok("checkout", "three")
        assert "checkout three" in ok("log", "--events")
        ok("heal", "--no-report", "--allow-missed")
        assert files(model) == before
    finally:
        for file in [model, *model.iterdir()]:
            file.chmod(file.stat().st_mode | stat.S_IWUSR)


def test_refusals(model, folder, tmp_path):
    for name, arguments in (("log", []), ("undo", []), ("redo", []), ("find", ["x"]), ("tag", ["x"])):
        sentence = f"'{name}' works in a workspace; say which: bluedit -C DIR {name} ('bluedit init DIR' makes one)"
        assert_fails(run(name, *arguments), 14, sentence)
    assert_fails(
        run("-C", folder, "facts", "world:2"), 14, "'bluedit facts' does not work in a workspace; leave -C out."
    )
    assert_fails(run("-C", folder, *EDIT, "-f", RAIN, "-m", model), 14, "the workspace decides on --model;")
    assert_fails(run("-C", folder, "ask", "x", "--patch", folder), 14, "the workspace decides on --patch;")
    assert_fails(run("-C", tmp_path, "log"), 14, f"{tmp_path} is not a workspace: it contains no workspace.json;")
    assert_fails(run("init", folder, "-m", model), 14, f"{folder} is a workspace already;")
    assert_fails(run("edit", "-m", model, "-f", FACT), 7, "--out FOLDER says where the patch goes;")
    assert_fails(run("show"), 7, "say which patch: bluedit show FOLDER;")
    assert_fails(run("-C", folder, "show", "9"), 14, "there is no entry '9'; there are 2, numbered from 1")
    assert len(Workspace.open(folder).log()) == 2


def test_damage_and_locks(folder):
    file = next((folder / "batches").glob("0001-*.json"))
    file.write_text(json.dumps(json.loads(file.read_text())), "utf-8")
    result = run("-C", folder, "verify", "--files")
    assert result.exit_code == 14 and result.stdout.startswith("entry 2: "), result.stdout
    (folder / "lock.json").write_text(
        json.dumps({"pid": 1, "host": "elsewhere", "started": 0, "since": 0, "task": "edit"})
    )
    assert_fails(run("-C", folder, "tag", "x"), 14, f"the workspace {folder} is in use: process 1 on elsewhere")
    assert run("-C", folder, "--break-lock", "tag", "x").exit_code == 0


def test_a_model_that_was_moved(model, tmp_path):
    before, after, folder = tmp_path / "before", tmp_path / "after", tmp_path / "w"
    shutil.copytree(model, before)
    assert run("init", folder, "-m", before, "--tokens", 480).exit_code == 0
    assert run("-C", folder, *EDIT, "-f", FACT).exit_code == 0
    before.rename(after)
    result = run("-C", folder, "log", "--health")
    assert (
        result.exit_code == 4
        and "If the workspace's model was moved, say where it is now: bluedit -C DIR --base" in flat(result.stderr)
    )
    wrong = run("-C", folder, "--base", tmp_path / "nowhere", "log", "--health")
    assert_fails(wrong, 4, f"there is no model '{tmp_path / 'nowhere'}': no such folder")
    assert "still said" in flat(run("-C", folder, "--base", after, "log", "--health").stdout)
    assert Workspace.open(folder, model=str(after)).editor.journal.base.model == str(after)
    assert_fails(run("--base", after, "facts", "world:2"), 14, "--base is about a workspace; say which: bluedit -C DIR")
    tensors = load_file(after / "model.safetensors")
    name = next(name for name in tensors if "down_proj" in name)
    save_file(tensors | {name: tensors[name] + 1}, after / "model.safetensors", {"format": "pt"})
    assert_fails(run("-C", folder, "--base", after, "log", "--health"), 14, f"the workspace {folder} was made for")


def test_its_patch_is_a_patch(folder, tmp_path):
    Workspace.open(folder).patch.save(tmp_path / "p")
    assert [fact.target for fact in Patch.load(tmp_path / "p").facts] == ["English", "Rome"]


def test_commands_that_read_a_patch_read_the_folder_of_a_workspace(model, folder, tmp_path):
    before = files(folder)
    workspace = Workspace.open(folder)
    shown = run("show", folder)
    assert shown.exit_code == 0, shown.stderr
    assert "Danielle Darrieux" in shown.stdout and "Rome" in shown.stdout

    written = run("export", folder, tmp_path / "out", "--to", "checkpoint")
    assert written.exit_code == 0, written.stderr
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto").state_dict()
    assert all(torch.equal(value, found[name]) for name, value in workspace.editor.model.state_dict().items())

    explained = run("explain", "edit", folder, "--fact", "Rome", "-m", model)
    assert explained.exit_code == 0, explained.stderr
    assert files(folder) == before, "reading changes nothing"

    assert_fails(
        run("diff", model, folder), 12, f"{folder} is a workspace, and diff compares models. Compare two states"
    )
    for _ in range(2):
        assert run("-C", folder, "undo").exit_code == 0
    refused = run("export", folder, tmp_path / "none", "--to", "checkpoint")
    assert_fails(
        refused, 12, "there are no edits to export: the patch is empty, or all entries of the workspace were undone"
    )
    assert not (tmp_path / "none").exists()


def test_a_workspace_is_signed(folder, tmp_path):
    pytest.importorskip("model_signing")
    keys = key_pair(tmp_path)
    assert run("sign", folder, "--key", keys[0]).exit_code == 0
    assert run("verify", folder, "--key", keys[1]).exit_code == 0
    assert run("-C", folder, "undo").exit_code == 0
    assert_fails(run("verify", folder, "--key", keys[1]), 12, f"{folder} is not what ")


@pytest.mark.parametrize("kind", ["workspace", "files", "file", "below a file"])
def test_a_place_that_is_taken_is_refused_before_the_model_is_loaded(kind, tmp_path):
    place, said = tmp_path / "w", f"{tmp_path / 'w'} exists and is not empty"
    if kind in ("workspace", "files"):
        place.mkdir()
        (place / "workspace.json").write_text("{}")
        said = f"{place} is a workspace already"
        if kind == "files":
            (place / "workspace.json").rename(place / "notes.txt")
            said = f"{place} exists and is not empty"
    elif kind == "file":
        place.write_text("x")
    else:
        (tmp_path / "f").write_text("x")
        place = tmp_path / "f" / "w"
        said = f"no workspace can be made at {place}: {tmp_path / 'f'} is not a folder; choose another place"
    assert_fails(run("init", place, "-m", "no-such-model"), 14, said)


def test_all_entries_that_heal_makes_say_what_they_lack(capsys):
    def made(missed):
        report = SimpleNamespace(missed=["x"] * missed)
        recipe = SimpleNamespace(update=SimpleNamespace(preserve=None))
        return SimpleNamespace(report=report, left_out=(), facts=["x", "y"], recipe=recipe)

    edits = [(made(1), ["show", "3"]), (made(0), ["show", "4"]), (made(2), ["show", "5"])]
    with pytest.raises(SystemExit) as caught:
        finish_all(edits, allow_missed=False)
    assert caught.value.code == 10
    text = capsys.readouterr().err
    assert "1 fact of 2 was not learned" in text and "2 facts of 2 were not learned" in text and "show 4" not in text
