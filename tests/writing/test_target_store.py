"""Targets on disk: found again for exactly the same request, and for no other."""

import logging
from dataclasses import replace

import pytest
import torch

from bluedit.methods.objective import Objective
from bluedit.model.editable import EditableModel
from bluedit.model.sites import Site
from bluedit.text.prompts import rows_of
from bluedit.writing.target import Targets
from bluedit.writing.target_store import TargetStore
from toys import FACTS, toy_gpt2, toy_tokenizer

OBJECTIVE, SITE = Objective(), Site("block", 2)


@pytest.fixture
def lm():
    return EditableModel.of(toy_gpt2(), toy_tokenizer(), "toy")


def get(store, lm, *, facts=FACTS[:2], site=SITE, objective=OBJECTIVE, prefixes=(), among=0):
    """(targets, whether they had to be optimised)."""
    calls = []

    def optimise():
        calls.append(1)
        n = len(facts)
        return Targets(torch.randn(32, n), torch.randn(32, n), torch.arange(n), torch.rand(n))

    rows = [replace(row, among=among) for row in rows_of(lm.tokenizer, facts, prefixes, drift=True)]
    return store.get(lm, rows, site, objective, optimise), bool(calls)


def test_targets_are_optimised_once(lm, tmp_path):
    store = TargetStore(tmp_path, "base")
    first, optimised = get(store, lm)
    again, optimised_again = get(TargetStore(tmp_path, "base"), lm)
    assert optimised and not optimised_again
    for part in ("z", "start", "steps", "loss"):
        assert torch.equal(getattr(first, part), getattr(again, part))


def test_other_requests_have_other_targets(lm, tmp_path):
    store = TargetStore(tmp_path, "base")
    get(store, lm)
    others = [
        {"facts": FACTS[1:]},
        {"site": Site("block", 1)},
        {"site": Site("mlp", 2)},
        {"objective": replace(OBJECTIVE, clamp=1.0)},
        {"prefixes": ("The weather was mild that morning.",)},
        {"among": 1},  # texts of one fact weigh less than those of two
    ]
    assert all(get(store, lm, **other)[1] for other in others)
    assert not get(store, lm, objective=replace(OBJECTIVE, weights="unedited"))[1]  # the weights are part of the name
    assert get(TargetStore(tmp_path, "other base"), lm)[1]
    with torch.no_grad():
        lm.projection(0).matrix()[0, 0] += 1e-9
    assert get(store, lm)[1]


def test_a_damaged_file_is_replaced(lm, tmp_path, caplog):
    store = TargetStore(tmp_path, "base")
    get(store, lm)
    (file,) = tmp_path.glob("*.safetensors")
    file.write_bytes(b"nothing")
    with caplog.at_level(logging.WARNING):
        assert get(store, lm)[1]
    assert "stored targets are unreadable and are optimised again: " in caplog.text
    assert not get(store, lm)[1]


def test_a_place_that_cannot_be_written_is_no_reason_to_stop(lm, tmp_path, caplog):
    (tmp_path / "file").write_text("not a folder")
    with caplog.at_level(logging.WARNING):
        assert get(TargetStore(tmp_path / "file", "base"), lm)[1]
    assert "targets cannot be stored: " in caplog.text


def test_the_time_that_stored_targets_saved_is_counted(lm, tmp_path):
    store = TargetStore(tmp_path, "base")
    get(store, lm)
    assert store.spared == 0
    get(store, lm)
    assert store.spared > 0


def test_a_group_shares_targets_though_weights_differ(lm, tmp_path):
    """Within a recipe a second request for the same targets has its own; the next recipe finds both in the same order."""
    store = TargetStore(tmp_path, "base")
    store.share("one")
    first, second = get(store, lm), get(store, lm)
    assert first[1] and second[1] and not torch.equal(first[0].z, second[0].z)
    with torch.no_grad():
        lm.projection(0).matrix()[0, 0] += 1e-9
    store.share("one")
    for wanted in (first, second):
        found, optimised = get(store, lm)
        assert not optimised and torch.equal(found.z, wanted[0].z)
    store.share("other")
    assert get(store, lm)[1]
    store.share("")
    assert get(store, lm)[1] and not get(store, lm)[1]


def test_a_group_that_goes_on_in_the_middle_asks_for_the_targets_of_its_batch(lm, tmp_path):
    """The first recipe of a group asked twice in batch 1 and once in batch 2; one that starts at batch 2 gets that."""
    whole, resumed = TargetStore(tmp_path, "base"), TargetStore(tmp_path, "base")
    whole.share("g")
    whole.begin(1)
    first, second = (get(whole, lm)[0] for _ in range(2))
    whole.begin(2)
    third, optimised = get(whole, lm)
    assert optimised and not torch.equal(first.z, second.z) and not torch.equal(first.z, third.z)
    resumed.share("g")
    resumed.begin(2)
    found, optimised = get(resumed, lm)
    assert not optimised and torch.equal(found.z, third.z)
