"""The table of a benchmark as CSV and Markdown, and how tables are put together from several runs."""

import csv
import importlib.util
import sys
from pathlib import Path

from bluedit.benchmark.results import write_table

ASKED = {"sst2": {"accuracy": 0.875, "f1": 0.8}, "rte": {"accuracy": 0.5, "f1": 0.25}}
REPRODUCTION = Path(__file__).parents[2] / "benchmarks" / "reproduction.py"


def row(recipe, facts, abilities=None, efficacy=0.75):
    return {
        "recipe": recipe,
        "facts": facts,
        "batches": facts // 2,
        "efficacy": efficacy,
        "perplexity": 20.0,
        "seconds_per_edit": 1.5,
        "reach": {4: 0.5},
        "first_batch": {"efficacy": 0.5},
        "abilities": abilities,
    }


def read(file):
    return list(csv.DictReader(file.open(encoding="utf-8")))


def test_general_ability_stands_beside_the_rows_that_were_asked(tmp_path):
    write_table([row("memit", 2), row("memit", 4, ASKED)], tmp_path)
    half, end, first = read(tmp_path / "results.csv")
    assert (half["recipe"], half["facts"], half["sst2 accuracy"]) == ("memit", "2", "")
    assert [end[f"{task} {m}"] for task in ASKED for m in ("accuracy", "f1")] == ["87.5", "80.0", "50.0", "25.0"]
    assert (first["recipe"], first["efficacy"], first["rte f1"]) == ("memit, first batch", "50.0", "")
    assert "87.5 / 80.0" in (tmp_path / "results.md").read_text("utf-8")


def test_no_columns_for_abilities_that_were_not_asked(tmp_path):
    write_table([row("memit", 2)], tmp_path)
    assert list(read(tmp_path / "results.csv")[0])[-1] == "reach by layer"


def test_a_recipe_run_again_takes_the_place_of_its_rows(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("reproduction", REPRODUCTION)
    reproduction = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, reproduction)
    spec.loader.exec_module(reproduction)
    table = tmp_path / "reproduction-counterfact.csv"
    for rows in ([row("memit", 4), row("rect", 4)], [row("memit", 4, ASKED, efficacy=0.25)]):
        write_table(rows, tmp_path)
        reproduction.keep(tmp_path / "results.csv", table)
    kept = read(table)
    assert [r["recipe"] for r in kept] == ["rect", "rect, first batch", "memit", "memit, first batch"]
    assert [r["efficacy"] for r in kept] == ["75.0", "50.0", "25.0", "50.0"]
    assert [r["sst2 accuracy"] for r in kept] == ["", "", "87.5", ""]
    assert table.with_suffix(".md").read_text("utf-8").count("\n| ") == 1 + len(kept)
