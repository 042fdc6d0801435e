"""The scripts of `benchmarks/`, each on a toy model: what the docs tell to run has to run."""

from __future__ import annotations

import argparse
import csv
import importlib
import json
from pathlib import Path

import pytest
import torch

from bluedit.writing import loop
from toys import TEXT, toy_llama, toy_tokenizer

SCRIPTS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("models") / "toy"
    toy_llama(dtype=torch.float32).save_pretrained(folder)
    toy_tokenizer(bos=True).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def script(monkeypatch):
    """A script as a module, told its arguments."""

    def load(name, *arguments):
        monkeypatch.syspath_prepend(SCRIPTS)
        monkeypatch.setattr("sys.argv", [f"{name}.py", *map(str, arguments)])
        return importlib.import_module(name)

    return load


@pytest.fixture
def facts(tmp_path) -> Path:
    """Two records of CounterFact in EasyEdit's form."""
    records = [
        {
            "prompt": f"The mother tongue of {name} is",
            "subject": name,
            "target_new": "English",
            "ground_truth": "French",
            "rephrase_prompt": f"{name} speaks",
            "locality_prompt": "The capital of France is",
            "locality_ground_truth": "Paris",
        }
        for name in ("Danielle Darrieux", "Michel Rocard")
    ]
    file = tmp_path / "data" / "counterfact_easyedit.jsonl"
    file.parent.mkdir()
    file.write_text("\n".join(map(json.dumps, records)))
    return file


def test_every_script_is_here():
    helpers = {"textbook"}
    assert {file.stem for file in SCRIPTS.glob("*.py")} - helpers == {
        "speed",
        "solve",
        "scale",
        "evaluation",
        "reproduction",
    }


def test_speed_finds_the_textbooks_targets(model, script, tmp_path, monkeypatch):
    speed = script("speed")
    monkeypatch.setattr(speed, "gemm_peak", lambda _dtype: 1.0)
    args = argparse.Namespace(model=model, facts=None, skip=0, out=tmp_path, batches=[2], textbook_facts=2)
    found = [
        speed.measure(args, {"way": way, "recipe": "memit-seq-blue", "precision": "full", "facts": 2})
        for way in ("textbook", "bluedit")
    ]
    assert all(row["seconds"] > 0 for row in found)
    assert 0 < max(found[1]["z_apart"].values()) < 1e-3


@pytest.mark.parametrize("recipe", ["memit-seq", "alphaedit"])
def test_solve_measures_both_ways(recipe, script):
    solve = script("solve")
    for way, earlier in (("dense", 0), ("bluedit", 0), ("bluedit", 8)):
        assert solve.measure(recipe, way, 96, earlier, 4)["batch_s"] > 0


def test_scale(model, script, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loop, "optimise_targets", loop.optimise_targets)  # the script puts another in its place
    script("scale", "--model", model, "--batches", 2, "--batch-size", 3, "--prefixes", 0, "--out", tmp_path).main()
    assert [row["batch"] for row in json.loads((tmp_path / "scale.json").read_text())["log"]] == [1, 2]


def test_evaluation(model, script, facts, capsys):
    script("evaluation", "--model", model, "--facts", facts).main()
    assert capsys.readouterr().out.startswith("2 records in ")


def test_reproduction_keeps_its_rows_in_the_order_of_the_part(model, script, facts, tmp_path):
    (facts.parent / "wikipedia_passages.jsonl").write_text(json.dumps({"text": TEXT}))
    table = tmp_path / "tables" / "reproduction-counterfact.csv"
    for recipe in ("memit-blue", "unedited"):
        options = ("--data", facts.parent, "--out", tmp_path / recipe, "--model", model, "--keep", table.parent)
        script("reproduction", *options, "--only", "counterfact", "--light", "--recipes", recipe).main()
    rows = list(csv.DictReader(table.open()))
    assert [row["recipe"] for row in rows] == ["unedited", "memit-blue"]
    assert table.with_suffix(".md").read_text().count("\n") == 2 + len(rows)
