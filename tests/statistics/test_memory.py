"""What key statistics take: one layer at a time, on a device of choice, said before it is taken."""

import logging
import weakref

import pytest
import torch
from safetensors.torch import load_file
from statistics_help import store

from bluedit.errors import StatisticsError
from bluedit.maths.solve import solve
from bluedit.statistics import memory
from bluedit.statistics.memory import check_memory, memory_needed


class Inverse:
    """G = C^-1."""

    def __init__(self, moment):
        self.factor = moment.cholesky()

    def apply(self, K):
        return self.factor.solve(K)


def test_only_layers_in_use_are_held(lm, corpus, tmp_path):
    alive = weakref.WeakSet()
    moments = store(lm, tmp_path / "s", corpus).get([1, 2, 3])
    most = 0
    for layer, moment in moments.items():
        assert moment.layer == layer and moments[layer] is moment
        alive.add(moment)
        most = max(most, len(alive))
    del moment
    assert most <= 2 and not alive
    assert list(moments) == [1, 2, 3] and len(moments) == 3
    with pytest.raises(KeyError):
        moments[0]


def test_a_file_is_checked_when_asked_for_and_read_when_used(lm, corpus, tmp_path):
    moments = store(lm, tmp_path / "s", corpus)
    found = moments.get([1])
    file = moments.place / "layer-1.safetensors"
    file.unlink()
    with pytest.raises(StatisticsError, match="are unreadable"):
        found[1]


def test_the_need_grows_with_layers_and_the_square_of_the_width():
    """Llama 3 8B, five layers: one matrix a layer and the workspace of one; it was about 25 GB before."""
    assert memory_needed(14336, 5) == 10 * 14336**2 * 8 < 16.5e9
    assert memory_needed(14336, 10) - memory_needed(14336, 5) == 5 * 14336**2 * 8


@pytest.mark.parametrize("free", [None, 10**10, 10**9])
def test_the_need_is_said_and_too_much_is_refused(free, monkeypatch, caplog):
    monkeypatch.setattr(memory, "known_free_memory", lambda _device: free)
    with caplog.at_level(logging.INFO):
        if free == 10**9:
            with pytest.raises(StatisticsError) as caught:
                check_memory(14336, 5, torch.device("cpu"))
            assert str(caught.value) == (
                "the key statistics of 5 layers with d_key 14336 take 8.2 GB in float64, but 1.0 GB are free on cpu; keep them on "
                "another device (execution.statistics_device=cpu), write fewer layers, or free memory"
            )
        else:
            check_memory(14336, 5, torch.device("cpu"))
    said = "key statistics of 5 layer(s) with d_key 14336 need up to 16.4 GB on cpu"
    assert said + ("" if free is None else f", {free / 1e9:.1f} GB are free") in caplog.text


def test_it_is_checked_before_text_is_sampled(lm, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "known_free_memory", lambda _device: 1000)
    monkeypatch.setattr(type(lm.model), "forward", lambda *_a, **_k: pytest.fail("the model ran"))
    with pytest.raises(StatisticsError, match="write fewer layers, or free memory"):
        store(lm, tmp_path).get([1])


def test_a_device_for_statistics(lm, corpus, tmp_path):
    usual = store(lm, tmp_path / "s", corpus).get([1])[1]
    found = store(lm, tmp_path / "t", corpus, device="cpu").get([1])[1]
    assert found.matrix.device.type == "cpu" and torch.equal(found.matrix, usual.matrix)
    for device in ("toaster", "cuda:99"):
        with pytest.raises(
            StatisticsError,
            match=rf"^key statistics cannot be kept on {device}, they need a device with float64 \(.*\); set execution.statistics_device=cpu$",
        ):
            store(lm, tmp_path / "u", corpus, device=device).get([1])


def test_float32_files(lm, corpus, tmp_path):
    """Half the bytes; what is solved with them agrees to seven digits."""
    exact = store(lm, tmp_path / "s", corpus, 5000)
    short = store(lm, tmp_path / "s", corpus, 5000, storage=torch.float32)
    C, rounded = exact.get([1])[1], short.get([1])[1]
    assert exact.place != short.place
    assert load_file(short.place / "layer-1.safetensors")["second_moment"].dtype == torch.float32
    assert rounded.matrix.dtype == torch.float64 and not torch.equal(rounded.matrix, C.matrix)
    assert torch.equal(rounded.matrix, C.matrix.float().double())
    K = torch.randn(48, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    A, other = solve(K, Inverse(C), 1.0), solve(K, Inverse(rounded), 1.0)
    assert 0 < (A - other).norm() < 1e-5 * A.norm()
