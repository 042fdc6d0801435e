"""What `explain residuals` refuses, folders that fail, and the command."""

import errno
import json
import os

import pytest
import torch
from cli_help import assert_fails, flat, run

from bluedit.errors import ExplainError
from bluedit.explain import _residual_shift, _stages, folder
from bluedit.facts import world_facts
from toys import toy_llama, toy_tokenizer


def test_numbers_that_cannot_be(analyse, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ExplainError, match=r"critical layers are \[\]; distribution needs two or more, ascending"):
        analyse(out, layers=())
    for options, message in (
        ({"batches": 0}, "batches is 0; it must be a whole number and at least 1"),
        ({"batches": 1.5}, "batches is 1.5; it must be a whole number"),
        ({"fluent": -1}, "fluent is -1; it must be a whole number and at least 0"),
        ({"sample": 0}, "sample is 0; it must be a whole number and at least 1"),
    ):
        with pytest.raises(ExplainError, match=message):
            analyse(out, **options)
    assert not out.exists()


@pytest.mark.parametrize("content", ["[]", "3", "{"])
def test_a_damaged_analysis(analyse, tmp_path, content):
    (tmp_path / "analysis.json").write_text(content)
    with pytest.raises(
        ExplainError, match=r"analysis.json cannot be read \(.*\); delete the folder, or choose another one"
    ):
        analyse(tmp_path)
    assert (tmp_path / "analysis.json").read_text() == content


@pytest.mark.parametrize("name", ["analysis.json", "contributions.json", "geometry.csv", "results.json"])
def test_a_full_disk(analyse, tmp_path, monkeypatch, name):
    """Wherever it happens, it is one sentence, finished stages stay, and the same call goes on."""
    options = {"facts": world_facts(1), "known": "edit", "batches": 1}

    def full(original):
        def written(file, content):
            if file.name == name:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            original(file, content)

        return written

    with monkeypatch.context() as patch:
        for module, write in ((folder, "write_json"), (_stages, "write_json"), (_stages, "write_file")):
            patch.setattr(module, write, full(getattr(module, write)))
        with pytest.raises(ExplainError, match=r"cannot write to .*out: No space left on device; free disk space"):
            analyse(tmp_path / "out", **options)
    finished = len(list((tmp_path / "out" / "stages").glob("*.json")))
    assert len(analyse(tmp_path / "out", **options).resumed) == finished
    assert finished == (0 if name in ("analysis.json", "contributions.json") else 15)


def test_another_process_in_the_folder(analyse, tmp_path):
    with (
        folder.claimed(tmp_path / "out", {}, file="analysis.json", what="explain residuals", begun=False),
        pytest.raises(ExplainError, match="another bluedit process is running in"),
    ):
        analyse(tmp_path / "out")


def test_without_unrelated_facts_the_shift_is_left_out(analyse, tmp_path, monkeypatch):
    facts = world_facts(3)
    monkeypatch.setattr(_residual_shift, "world_facts", lambda **_: facts)
    found = analyse(tmp_path / "out", facts[:2], batches=1, known="edit")
    assert "shift" not in found.tables and "remaining" in found.tables
    (note,) = found.notes
    assert note.startswith("The shift was not measured: of the bundled facts 1 are about other subjects")
    assert note in json.loads((found.folder / "results.json").read_text("utf-8"))["notes"]


def test_the_command_refuses(tmp_path):
    for layers, message in (
        ("four", "--layers is 'four'; write the first and the last layer, e.g. 4-8"),
        ("8-4", "--layers is '8-4'; write the lower layer first: 4-8"),
    ):
        assert_fails(run("explain", "residuals", "--layers", layers, "--out", tmp_path / "out"), 11, message)
    plots = run("explain", "residuals", "--plots", "gif", "--facts", "world:2", "--out", tmp_path / "out")
    assert_fails(plots, 11, "unknown format of figures 'gif'")
    assert run("explain", "residuals", "--count", "2", "--out", tmp_path / "out").exit_code == 2  # it is --limit


def test_the_command(tmp_path, analyse):
    model, out = tmp_path / "toy", tmp_path / "out"
    toy_llama(dtype=torch.float32).save_pretrained(model)
    toy_tokenizer(bos=True).save_pretrained(model)
    asked = ("--facts", "world:9", "--limit", 2, "--known", "edit", "--layers", "1-2", "--corpus", analyse.corpus)
    settings = ("-s", "objective.steps=3", "-s", "contexts.count=1", "--tokens", 480, "--batches", 1, "--fluent", 0)
    done = run("explain", "residuals", "-m", model, "--recipe", "nse", *asked, *settings, "--out", out)
    assert done.exit_code == 0, done.stderr
    results = json.loads((out / "results.json").read_text("utf-8"))
    assert len({row["fact"] for row in results["geometry"]}) == 2
    said = flat(done.stdout)
    assert len(results["notes"]) == 1
    assert all(flat(sentence) in said for sentence in (*results["summary"], *results["notes"]))
    assert "Page written to" in said and (out / "residuals.html").is_file()
