"""Factors on disk: columns that a round did not write and keys that a layer has already are not stored, and every bit comes back."""

from dataclasses import replace

import pytest
import torch
from editing_help import edit, make_editor

from bluedit import Fact, Patch
from bluedit.editing._batch_record import batch_tensors, read_updates
from bluedit.writing.batch import Batch, Update


def update(layer: int, *columns: int, keys: torch.Tensor) -> Update:
    """Of five columns, of which these are written."""
    R, A = torch.zeros(3, 5), torch.zeros(5, 4)
    R[:, list(columns)], A[list(columns)] = torch.randn(3, len(columns)), torch.randn(len(columns), 4)
    return Update(layer, R, A, keys, torch.rand(5))


def bits(updates) -> list[bytes]:
    return [getattr(one, part).numpy().tobytes() for one in updates for part in ("R", "A", "keys", "reach")]


@pytest.fixture
def batch() -> Batch:
    keys = torch.randn(4, 5)
    updates = (update(1, 0, 1, 2, 3, 4, keys=keys), update(1, 0, 3, keys=keys), update(2, keys=keys + 1))
    updates[1].R[0, 4] = -0.0  # is a number: its bits are hashed
    return Batch((), updates)


def test_every_bit_comes_back(batch):
    tensors = batch_tensors(batch)
    assert tensors["1.R"].shape == (3, 3) and tensors["1.columns"].tolist() == [0, 3, 4]
    assert tensors["2.R"].shape == (3, 0)
    assert "0.columns" not in tensors and "1.keys" not in tensors and "2.keys" in tensors
    again = read_updates([1, 1, 2], tensors)
    assert bits(again) == bits(batch.updates)
    assert Batch((), again).digest == batch.digest


def test_keys_that_differ_are_stored(batch):
    one, two, three = batch.updates
    other = Batch((), (one, replace(two, keys=two.keys + 1), three))
    assert bits(read_updates([1, 1, 2], batch_tensors(other))) == bits(other.updates)


@pytest.mark.parametrize(
    "columns",
    [
        torch.tensor([0, 3]),
        torch.tensor([3, 0, 4]),
        torch.tensor([0, 3, 5]),
        torch.tensor([-1, 3, 4]),
        torch.tensor([0, 3, 3]),
        torch.tensor([0.0, 3.0, 4.0]),
        torch.tensor([[0, 3, 4]]),
        torch.tensor(0),
    ],
)
def test_columns_that_do_not_fit(batch, columns):
    with pytest.raises(ValueError, match="the columns of factors 1 are not indices below 5 in ascending order"):
        read_updates([1, 1, 2], batch_tensors(batch) | {"1.columns": columns})


def test_more_columns_than_memory_holds(batch, monkeypatch):
    monkeypatch.setattr("bluedit.editing._batch_record.physical_memory", lambda: 100)
    with pytest.raises(ValueError, match="factors 1 have 5 columns, which do not fit into memory"):
        read_updates([1, 1, 2], batch_tensors(batch))


def test_the_first_updates_keys_are_needed(batch):
    tensors = batch_tensors(batch)
    del tensors["0.keys"]
    with pytest.raises(KeyError):
        read_updates([1, 1, 2], tensors)


def test_a_subject_that_begins_its_text_makes_a_batch_little_larger(statistics, tmp_path):
    """Its column is written in up to three rounds, the others in the first one only."""
    facts = [Fact("{} stands for", "Q", "Rome"), *(Fact("The library of {} is in", name, "Rome") for name in "BCDEFG")]
    found = edit(make_editor(statistics=statistics), facts, settings={"preserve.l2": 100.0}).patch
    (batch,) = found.batches
    assert len(batch.updates) > len(batch.layers), "there were several rounds"
    stored = {name: tensor.numel() for name, tensor in batch_tensors(batch).items()}
    once = sum(size for name, size in stored.items() if int(name.split(".")[0]) < len(batch.layers))
    assert sum(stored.values()) < 1.25 * once
    again = Patch.load(found.save(tmp_path / "patch"))
    assert bits(again.batches[0].updates) == bits(batch.updates)
