"""A pass over the corpus that is interrupted goes on where it was."""

import json
import os

import pytest
import torch
from statistics_help import Counting, damage, store

from bluedit import tensors
from bluedit.errors import StatisticsError
from bluedit.files import with_digest
from bluedit.progress import Progress
from bluedit.statistics import _accumulation
from bluedit.text import sampling
from bluedit.text.corpus import Corpus


def test_an_interrupted_pass_goes_on_where_it_was(lm, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(_accumulation, "_SAVE_EVERY_S", -1.0)
    monkeypatch.setattr(_accumulation, "_SAVE_COST", 0.0)
    monkeypatch.setattr(_accumulation, "_TOKENS_PER_PASS", 60)
    wanted = store(lm, tmp_path / "whole", corpus, 5000).get([1, 2])
    rows = len(Corpus(str(corpus)).rows(lm, 5000, Progress()))
    interrupted = store(lm, tmp_path / "s", corpus, 5000)
    with pytest.raises(KeyboardInterrupt):
        interrupted.get([1, 2], Counting(stop=rows - 3))
    (partial,) = interrupted.place.iterdir()
    assert partial.name == "partial-1-2.safetensors"
    assert not any(m._forward_pre_hooks for m in lm.model.modules())

    runs, real = [], lm.model.forward
    monkeypatch.setattr(lm.model, "forward", lambda *a, **k: runs.append(len(k["input_ids"])) or real(*a, **k))
    counting = Counting()
    resumed = store(lm, tmp_path / "s", corpus, 5000).get([1, 2], counting)
    assert sum(runs) < rows / 2
    assert counting.seen[0] == rows - sum(runs) > 0
    assert sum(counting.seen) == rows
    for layer in (1, 2):
        assert torch.equal(resumed[layer].matrix, wanted[layer].matrix)
        assert resumed[layer].tokens == wanted[layer].tokens
    assert {f.name for f in interrupted.place.iterdir()} == {"layer-1.safetensors", "layer-2.safetensors"}


def test_text_drawn_from_the_model_is_kept(lm, tmp_path, monkeypatch):
    """A pass for another layer reads the same text; one that was damaged is drawn again."""
    wanted = {layer: store(lm, tmp_path / str(layer)).get([layer])[layer].matrix for layer in (1, 2, 3)}
    moments = store(lm, tmp_path / "s")
    moments.get([1])
    with monkeypatch.context() as patch:
        patch.setattr(sampling, "_draw", lambda *_: pytest.fail("text was drawn again"))
        assert torch.equal(moments.get([2])[2].matrix, wanted[2])
    (moments.place / "text.json").write_text("[[1, 2")
    assert torch.equal(moments.get([3])[3].matrix, wanted[3])


def test_partial_sums_stay_until_all_is_stored_and_need_not_be_saved(lm, corpus, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(_accumulation, "_SAVE_EVERY_S", -1.0)
    monkeypatch.setattr(_accumulation, "_SAVE_COST", 0.0)
    monkeypatch.setattr(_accumulation, "_TOKENS_PER_PASS", 60)
    wanted = store(lm, tmp_path / "whole", corpus, 5000).get([1, 2])
    replacing, full = tensors.replacing, "layer-2"

    def limited(file):
        if file.name.startswith(full):
            raise OSError(28, "No space left on device")
        return replacing(file)

    monkeypatch.setattr(tensors, "replacing", limited)
    moments = store(lm, tmp_path / "s", corpus, 5000)
    with pytest.raises(StatisticsError, match="cannot store key statistics"):
        moments.get([1, 2])
    assert {f.name for f in moments.place.iterdir()} == {"layer-1.safetensors", "partial-1-2.safetensors"}
    assert torch.equal(moments.get([2])[2].matrix, wanted[2].matrix), "what was computed is still at hand"
    full = "partial"
    found = store(lm, tmp_path / "t", corpus, 5000).get([1, 2])
    assert "cannot be saved" in caplog.text
    assert torch.equal(found[1].matrix, wanted[1].matrix)


@pytest.mark.parametrize("how", ["not safetensors", "no metadata"])
def test_an_unreadable_partial_file_only_costs_time(lm, corpus, tmp_path, how):
    wanted = store(lm, tmp_path / "whole", corpus).get([1])
    moments = store(lm, tmp_path / "s", corpus)
    moments.place.mkdir(parents=True)
    damage(moments.place / "partial-1.safetensors", how, moments)
    assert torch.equal(moments.get([1])[1].matrix, wanted[1].matrix)


def test_a_token_that_was_changed_is_noticed(lm, tmp_path, caplog):
    moments = store(lm, tmp_path / "s", "self", 300)
    wanted = moments.get([2])[2].matrix
    stored = json.loads((moments.place / "text.json").read_text())
    stored["rows"][0][0] ^= 1
    (moments.place / "text.json").write_text(json.dumps(stored))
    (moments.place / "layer-2.safetensors").unlink()
    assert torch.equal(store(lm, tmp_path / "s", "self", 300).get([2])[2].matrix, wanted)
    assert "unreadable; sampling it again" in caplog.text


@pytest.mark.parametrize("text", ["{}", "[[1]]", "[" * 100_000, [[-1]], [[1000000]], [[1.5]], [[]], 3])
def test_text_that_was_damaged_is_sampled_again(lm, text, tmp_path, caplog):
    moments = store(lm, tmp_path / "s", "self", 300)
    wanted = moments.get([2])[2].matrix
    if not isinstance(text, str):  # what is written there has a digest
        text = json.dumps(with_digest({"rows": text}))
    (moments.place / "text.json").write_text(text)
    (moments.place / "layer-2.safetensors").unlink()
    assert torch.equal(store(lm, tmp_path / "s", "self", 300).get([2])[2].matrix, wanted)
    assert "unreadable; sampling it again" in caplog.text


def test_what_killed_passes_left_goes_away(lm, corpus, tmp_path):
    moments = store(lm, tmp_path / "s", corpus)
    wanted = moments.get([1, 2])[1].matrix
    left = [moments.place / name for name in ("partial-1-2.safetensors", "partial-2.safetensors", ".bluedit-1-2.tmp")]
    needed = moments.place / "partial-2-3.safetensors"
    for file in (*left, needed):
        file.write_bytes(b"")
        os.utime(file, (0, 0))
    assert torch.equal(store(lm, tmp_path / "s", corpus).get([1])[1].matrix, wanted)
    assert {f.name for f in moments.place.iterdir()} == {"layer-1.safetensors", "layer-2.safetensors", needed.name}
