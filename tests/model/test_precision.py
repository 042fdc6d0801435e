"""Linear maps in bfloat16: few shapes, whatever the texts' lengths, and the rows' results."""

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from bluedit.model.precision import ReducedLinears


def conv(inputs: int, outputs: int) -> Conv1D:
    return Conv1D(outputs, inputs)


@pytest.mark.parametrize("make", [nn.Linear, conv])
def test_products_have_few_shapes(make, monkeypatch):
    """A process keeps 0.5 MB for each shape."""
    torch.manual_seed(0)
    block = nn.Sequential(make(32, 24))
    seen: set[int] = set()
    linear = nn.functional.linear

    def spy(rows, weight, bias=None):
        if rows.dtype == torch.bfloat16:
            seen.add(len(rows))
        return linear(rows, weight, bias)

    monkeypatch.setattr(nn.functional, "linear", spy)
    reduced = ReducedLinears([block])
    for rows in (*range(1, 600), 1001, 2000, 4001):
        hidden = torch.randn(rows, 32, requires_grad=True)
        with reduced.active():
            found = block(hidden)
        assert found.shape == (rows, 24) and found.dtype == torch.float32
        if rows % 50 == 1:
            torch.testing.assert_close(found, block(hidden), atol=0.05, rtol=0.05)
            (gradient,) = torch.autograd.grad(found.sum(), hidden)
            (exact,) = torch.autograd.grad(block(hidden).sum(), hidden)
            torch.testing.assert_close(gradient, exact, atol=0.05, rtol=0.05)
    assert seen == {*range(16, 513, 16), 544, 576, 608, 1024, 2048, 4096}


def test_rows_of_any_shape():
    block = nn.Sequential(nn.Linear(8, 4))
    with ReducedLinears([block]).active():
        assert block(torch.ones(2, 3, 8)).shape == (2, 3, 4)
        assert block(torch.ones(8)).shape == (4,)
        assert block(torch.ones(0, 8)).shape == (0, 4)


@pytest.mark.parametrize("make", [nn.Linear, conv])
def test_a_head_whose_logits_stay_exact(make):
    torch.manual_seed(0)
    head, hidden = make(16, 40), torch.randn(3, 16, requires_grad=True)
    expected = head(hidden)
    weights = torch.randn_like(expected)
    with ReducedLinears([], head, exact_logits=True).active():
        found = head(hidden)
        assert torch.equal(found, expected)
        (gradient,) = torch.autograd.grad((found * weights).sum(), hidden)
    (exact,) = torch.autograd.grad((expected * weights).sum(), hidden)
    torch.testing.assert_close(gradient, exact, atol=0.05, rtol=0.02)
    assert not torch.equal(gradient, exact)


@pytest.mark.parametrize("exact_logits", [True, False])
def test_a_head_on_another_device(exact_logits):
    """Where accelerate has spread a model out, its hook moves the states, and the replaced forward does not call it."""
    head = nn.Linear(8, 4, device="meta")
    with ReducedLinears([], head, exact_logits=exact_logits).active():
        assert head(torch.ones(2, 8)).device.type == "meta"
