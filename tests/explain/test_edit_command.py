"""`bluedit explain edit` and `bluedit explain conflicts` as commands."""

import json

import pytest
import torch
from cli_help import FACT, assert_fails, assert_fits, edit, run

from toys import toy_llama, toy_tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "toy"
    toy_llama(dtype=torch.float32).save_pretrained(folder)
    toy_tokenizer(bos=True).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def patch(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("patches")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("BLUEDIT_CACHE", str(folder / "cache"))
        edit(model, folder / "patch", "-f", FACT, "-f", "The capital of {France} is => Rome")
    return folder / "patch"


@pytest.fixture(autouse=True)
def terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def test_an_edit_is_explained(model, patch, tmp_path):
    result = run("explain", "edit", patch, "-f", "Danielle", "-m", model, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("The fact is")
    *shown, page = result.stdout.rstrip().split("\n")
    assert_fits("\n".join(shown), "The mother tongue of Danielle", "part of the move")
    assert page == f"Page: {tmp_path / 'out' / 'edit.html'}"
    record = json.loads((tmp_path / "out" / "edit.json").read_text("utf-8"))
    assert record["number"] == 1
    assert (tmp_path / "out" / "texts.csv").is_file()
    assert not (tmp_path / "out" / "figures").exists()
    printed = json.loads(run("explain", "edit", patch, "-f", "1", "-m", model, "--json").stdout)
    assert printed["sentence"] == record["sentence"]


def test_figures_as_files(model, patch, tmp_path):
    words = ("explain", "edit", patch, "-f", "1", "-m", model)
    assert run(*words, "-o", tmp_path / "out", "--plots", "png, pdf").exit_code == 0
    assert {file.suffix for file in (tmp_path / "out" / "figures").iterdir()} == {".png", ".pdf"}
    assert_fails(run(*words, "--plots", "png"), 11, "--plots writes figures into the folder of --out; give that, too")
    assert_fails(run(*words, "-o", tmp_path / "no", "--plots", "gif"), 11, "unknown format of figures 'gif'")


def test_facts_and_patches_that_are_not_there(model, patch, tmp_path):
    assert_fails(
        run("explain", "edit", patch, "-f", "Spain", "-m", model),
        3,
        "no fact has the number or id 'Spain' or holds this text; choose one by its number: 1: The mother tongue",
    )
    assert_fails(
        run("explain", "edit", tmp_path / "none", "-f", "1", "-m", model), 7, f"{tmp_path / 'none'} is not a patch"
    )
    other = tmp_path / "other"
    toy_llama(seed=1, dtype=torch.float32).save_pretrained(other)
    toy_tokenizer(bos=True).save_pretrained(other)
    assert_fails(run("explain", "edit", patch, "-f", "1", "-m", other), 7, "the patch was made for other weights")
    (tmp_path / "file").write_text("")
    assert_fails(
        run("explain", "edit", patch, "-f", "1", "-m", model, "-o", tmp_path / "file"),
        11,
        f"cannot write {tmp_path / 'file' / 'edit.html'}",
    )


def test_conflicts_are_listed(model, patch, tmp_path):
    facts = tmp_path / "facts.jsonl"
    lines = [
        {"prompt": "The capital of {} is", "subject": "France", "target": "Berlin"},
        {"prompt": "{} plays the", "subject": "France", "target": "violin"},
    ]
    facts.write_text("\n".join(map(json.dumps, lines)))
    result = run("explain", "conflicts", facts, patch)
    assert result.exit_code == 0, result.stderr
    assert_fits(result.stdout, "What to do:", "Edits that a later fact overwrites: 1", "Facts about one subject: 1")
    assert run("explain", "conflicts", facts, patch, "--strict").exit_code == 13
    record = json.loads(run("explain", "conflicts", facts, patch, "--json").stdout)
    assert record["counts"]["overwritten"] == 1
    with_keys = run("explain", "conflicts", facts, patch, "-m", model)
    assert with_keys.exit_code == 0, with_keys.stderr
    assert "keys were compared at layers 1, 3" in " ".join(with_keys.stdout.split())
    assert run("explain", "conflicts", "world:3", "--strict").exit_code == 0
    assert "Nothing stands in the way of 3 facts." in run("explain", "conflicts", "world:3").stdout


def test_facts_that_cannot_be_read(tmp_path):
    assert_fails(run("explain", "conflicts", tmp_path / "no.jsonl"), 3, "")
