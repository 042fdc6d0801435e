"""A sample of the facts is written by several schedules and in sequences; all of them have residuals of their own."""

import json
from dataclasses import astuple

import pytest
import torch

from bluedit.explain._residual_vectors import compute_residuals, of_sample
from bluedit.facts import Fact, world_facts
from bluedit.model.editable import EditableModel
from toys import toy_llama, toy_tokenizer


@pytest.fixture(scope="module")
def whole(analyse, tmp_path_factory):
    return analyse(tmp_path_factory.mktemp("whole") / "out", world_facts(5), known="edit")


def test_what_a_sample_is_measured_on(analyse, whole, tmp_path):
    facts = world_facts(5)
    options = {"sample": 3, "known": "edit"}
    part, alone = analyse(tmp_path / "part", facts, **options), analyse(tmp_path / "alone", facts[:3], **options)
    for name in ("contributions", "single_layer", "geometry", "passive", "growth"):
        assert part.tables[name] == whole.tables[name], name
    for name in ("remaining", "steps"):
        assert len(part.tables[name]) < len(whole.tables[name])
        assert {row.fact for row in part.tables[name]} == {0, 1, 2}
        for row, other in zip(part.tables[name], alone.tables[name], strict=True):
            assert [v for v in astuple(row) if isinstance(v, int | str)] == [
                v for v in astuple(other) if isinstance(v, int | str)
            ]
    for row, other in zip(part.tables["remaining"], alone.tables["remaining"], strict=True):
        assert row.share == pytest.approx(other.share, rel=1e-4, abs=1e-6)
    assert [row.edited for row in part.tables["shift"]] == [row.edited for row in alone.tables["shift"]]
    assert part.notes[0] == (
        "What is written by several schedules (steps, what is left) and in sequences of batches (shift) was measured on the first 3 of the 5 "
        "facts (--sample)."
    )
    assert not any("--sample" in note for note in (*whole.notes, *alone.notes))
    assert part.notes[0] in json.loads((part.folder / "results.json").read_text("utf-8"))["notes"]


def test_the_residuals_of_a_sample(analyse, setting_of, tmp_path):
    """Of four facts the first and the last have a second column: their subjects begin the text."""
    facts = [Fact("{} stands for", name, "queen") for name in ("Q", "Bruges", "Michel Rocard", "X")]
    setting = setting_of(
        lambda: analyse(
            tmp_path / "out", facts, EditableModel.of(toy_llama(), toy_tokenizer(), "toy"), sample=2, known="edit"
        )
    )
    assert (setting.batch.n, setting.sample.batch.n) == (6, 3)
    residuals = compute_residuals(setting)
    stored = set((tmp_path / "out" / "targets").iterdir())
    some = of_sample(setting, residuals)
    assert len(set((tmp_path / "out" / "targets").iterdir()) - stored) == len(setting.layers)
    for column, key in enumerate(setting.sample.batch.columns):
        same = setting.batch.columns.index(key)
        for layer in setting.layers:
            assert torch.equal(some.computed(layer)[:, column], residuals.computed(layer)[:, same])
    optimised = compute_residuals(setting.sample)  # from the store: what the sample's edits will get
    for layer in setting.layers:
        assert torch.equal(optimised.computed(layer), some.computed(layer))
    assert of_sample(setting.sample, some) is some
