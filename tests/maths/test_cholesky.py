"""The factor by block rows against the dense one, whatever the blocks."""

import pytest
import torch

import bluedit.maths.cholesky as module
from bluedit.maths.cholesky import Cholesky


@pytest.mark.parametrize("block", [1, 3, 7, 10, 1024])
def test_block_rows_are_the_factor(monkeypatch, block):
    monkeypatch.setattr(module, "_BLOCK", block)
    torch.manual_seed(0)
    A = torch.randn(10, 12, dtype=torch.float64)
    S, B = A @ A.T, torch.randn(10, 4, dtype=torch.float64)
    found = Cholesky.of(S)
    dense = torch.linalg.cholesky(S)
    assert len(found) == 10
    for row in found.rows:
        end = row.shape[1]
        assert torch.allclose(row, dense[end - len(row) : end, :end], rtol=1e-12, atol=1e-12)
    before = B.clone()
    assert torch.allclose(found.solve(B), torch.linalg.solve(S, B), rtol=1e-9)
    assert torch.allclose(found.times(B), S @ B, rtol=1e-12)
    assert torch.equal(B, before)


def test_only_half_is_kept(monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 2)
    found = Cholesky.of(torch.eye(100, dtype=torch.float64))
    assert sum(row.numel() for row in found.rows) < 0.52 * 100 * 100


def test_what_is_not_positive_definite_is_refused():
    with pytest.raises(ValueError):
        Cholesky.of(torch.diag(torch.tensor([1.0, 1.0, -1.0])))
