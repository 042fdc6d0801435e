"""Entries that cannot be finished: they are given up with their reason, and the others go on."""

from dataclasses import replace

import pytest
import torch
from benchmark_help import BLUE, FACTS, SETTINGS, Stopped, run

from bluedit.benchmark.reading import read_benchmark
from bluedit.errors import BenchmarkError, EditError
from bluedit.facts import Neighbour
from bluedit.model.editable import EditableModel
from toys import toy_gpt2, toy_tokenizer


def broken_model():
    return EditableModel.of(toy_gpt2(), toy_tokenizer(), "broken")


def test_a_model_that_is_not_finite(tmp_path):
    broken = broken_model()
    facts = [replace(fact, neighbours=(*fact.neighbours, Neighbour(f"{fact.subject} is in"))) for fact in FACTS]
    for number, weight in enumerate((broken.anatomy.head.weight, broken.model.transformer.h[1].mlp.c_fc.weight)):
        with torch.no_grad():
            weight[0] = float("nan")
        place = tmp_path / str(number)
        with pytest.raises(BenchmarkError, match="broken computes NaN or infinity"):
            run(broken, place, entries=("unedited",), facts=facts, suites=("counterfact", "fluency", "locality"))
        assert [file.name for file in place.glob("*/*.json")] == ["failed.json"]


def test_a_model_that_is_not_finite_at_one_neighbour_only(tmp_path):
    """Perplexity does not show it, and a comparison with NaN would count as lost."""
    broken = broken_model()
    token = broken.tokenizer(" London", add_special_tokens=False)["input_ids"][0]
    with torch.no_grad():
        broken.model.transformer.wte.weight[token] = float("nan")
    facts = [replace(FACTS[0], neighbours=(Neighbour("The capital of London is", "Rome"),))]
    for suite in ("counterfact", "locality"):
        with pytest.raises(BenchmarkError, match="broken computes NaN or infinity"):
            run(broken, tmp_path / suite, entries=("unedited",), facts=facts, suites=(suite,))


def test_an_entry_that_fails_does_not_stop_the_others(lm, tmp_path):
    folder, entries = tmp_path / "r", (BLUE, "unedited")
    failing = Stopped("on_start", 2, EditError("this batch cannot be written"), entry=BLUE)
    message = r"^1 of 2 entries could not be finished \(memit-seq-blue:.*: this batch cannot be written\)\. What was"
    with pytest.raises(BenchmarkError, match=message):
        run(lm, folder, failing, entries=entries)
    assert "unedited" in (folder / "results.csv").read_text()
    found = read_benchmark(folder)
    assert [entry.name for entry in found.entries] == ["unedited"]
    assert found.failures == {BLUE: "this batch cannot be written"} and found.unfinished == [BLUE]
    run(lm, folder, entries=entries)
    assert read_benchmark(folder).failures == {}


def test_a_damaged_log_does_not_stop_the_others(lm, tmp_path):
    run(lm, tmp_path / "r", entries=("unedited",))
    (tmp_path / "r" / "unedited" / "batches.json").write_text("[{")
    with pytest.raises(BenchmarkError, match=r"^1 of 2 entries could not be finished \(unedited: .*is damaged \(it is"):
        run(lm, tmp_path / "r", entries=("unedited", f"memit:{SETTINGS}"))
    table = (tmp_path / "r" / "results.csv").read_text()
    assert "memit" in table and "unedited" not in table
