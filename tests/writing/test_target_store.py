"""Targets on disk: found again for exactly the same question, and for no other."""

import logging
from dataclasses import replace

import pytest
import torch

from bluedit.model.editable import EditableModel
from bluedit.model.sites import Site
from bluedit.methods.recipe import Objective
from bluedit.text.prompts import rows_of
from bluedit.writing.target_store import TargetStore
from bluedit.writing.targets import Targets
from toys import FACTS, toy_gpt2, toy_tokenizer

OBJECTIVE, SITE = Objective(), Site("block", 2)


@pytest.fixture
def lm():
    return EditableModel.of(toy_gpt2(), toy_tokenizer(), "toy")


def ask(store, lm, *, facts=FACTS[:2], site=SITE, objective=OBJECTIVE, prefixes=(), made=None):
    """(targets, whether they had to be made)."""
    calls = []

    def make():
        calls.append(1)
        n = len(facts)
        return made or Targets(torch.randn(32, n), torch.randn(32, n), torch.arange(n), torch.rand(n))

    return store.get(lm, rows_of(lm.tokenizer, facts, prefixes, drift=True), site, objective, make), bool(calls)


def test_the_same_question_is_answered_once(lm, tmp_path):
    store = TargetStore(tmp_path, "base")
    first, made = ask(store, lm)
    again, made_again = ask(TargetStore(tmp_path, "base"), lm)
    assert made and not made_again
    for part in ("z", "start", "steps", "loss"):
        assert torch.equal(getattr(first, part), getattr(again, part))


def test_anything_else_is_another_question(lm, tmp_path):
    store = TargetStore(tmp_path, "base")
    ask(store, lm)
    others = [
        {"facts": FACTS[1:]},
        {"site": Site("block", 1)},
        {"site": Site("mlp", 2)},
        {"objective": replace(OBJECTIVE, clamp=1.0)},
        {"prefixes": ("The weather was mild that morning.",)},
    ]
    assert all(ask(store, lm, **other)[1] for other in others)
    assert not ask(store, lm, objective=replace(OBJECTIVE, weights="unedited"))[1]  # the weights say where it was made
    assert ask(TargetStore(tmp_path, "other base"), lm)[1]
    with torch.no_grad():
        lm.projection(0).matrix()[0, 0] += 1e-9
    assert ask(store, lm)[1]


def test_a_damaged_file_is_made_anew(lm, tmp_path, caplog):
    store = TargetStore(tmp_path, "base")
    ask(store, lm)
    (file,) = tmp_path.glob("*.safetensors")
    file.write_bytes(b"nothing")
    with caplog.at_level(logging.WARNING):
        assert ask(store, lm)[1]
    assert "stored targets are unreadable and made again" in caplog.text
    assert not ask(store, lm)[1]


def test_a_full_disk_is_no_reason_to_stop(lm, tmp_path, monkeypatch, caplog):
    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bluedit.writing.target_store.write_file", full)
    with caplog.at_level(logging.WARNING):
        assert ask(TargetStore(tmp_path, "base"), lm)[1]
    assert "targets are not kept" in caplog.text


def test_a_fair_timing_counts_what_was_spared(lm, tmp_path):
    store = TargetStore(tmp_path, "base")
    ask(store, lm)
    assert store.spared == 0
    ask(store, lm)
    assert store.spared > 0
