"""The table of a benchmark as CSV and Markdown, and how tables are put together from several runs."""

import csv
import importlib.util
import math
import sys
from pathlib import Path

import pytest
import torch

from bluedit.benchmark.record import BatchRecord, EntryLog, Measured
from bluedit.benchmark.results import Row, rows_of, write_table
from bluedit.evaluate.data import Ability
from bluedit.writing.batch import Update, mean_reach

ASKED = {"sst2": Ability("sst2", 0.875, 0.8, 8), "rte": Ability("rte", 0.5, 0.25, 8)}
REPRODUCTION = Path(__file__).parents[2] / "benchmarks" / "reproduction.py"


def row(entry, facts, abilities=None, efficacy=0.75):
    scores = {"efficacy": efficacy, "perplexity": 20.0}
    return Row(entry, facts, facts // 2, scores, {"efficacy": 0.5}, abilities or {}, 1.5, {4: 0.5})


def test_rows_are_means_over_the_batches_so_far():
    measured = Measured({"efficacy": 0.5, "perplexity": 20.0}, ({"efficacy": 1.0}, {"efficacy": 0.0}), {})
    batches = (
        BatchRecord(2, 1, 4.0, ((4, 0.5), (8, 1.0)), {}, None),
        BatchRecord(1, 1, 2.0, ((4, 0.25), (8, 0.5)), {}, measured),
    )
    (edited,) = rows_of([EntryLog("memit", batches)])
    assert (edited.facts, edited.batches, edited.seconds_per_edit) == (3, 2, 2.0)
    assert edited.reach == {4: 0.375, 8: 0.75} and edited.first_batch == {"efficacy": 1.0}
    (plain,) = rows_of([EntryLog("unedited", batches)])
    assert (plain.batches, plain.seconds_per_edit) == (0, None)


def read(file):
    return list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))


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
    monkeypatch.syspath_prepend(REPRODUCTION.parent)
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


def test_the_reach_of_several_writes_counts_each_by_what_it_was_asked_for():
    def update(length, reach):
        R = torch.tensor([[length, 0.0], [0.0, 2.0]])
        return Update(4, R, torch.eye(2), torch.eye(2), torch.tensor(reach))

    first, again = update(4.0, [0.8, 0.5]), update(0.0, [0.0, 0.1])  # the first fact was not due again
    assert mean_reach([first, again]) == pytest.approx((16 * 0.8 + 4 * 0.5 + 4 * 0.1) / 24)
    assert mean_reach([first]) == first.mean_reach and math.isnan(mean_reach([]))
