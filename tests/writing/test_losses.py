"""Log-probabilities in one pass, against a softmax of everything."""

import pytest
import torch

from bluedit.writing import _losses
from bluedit.writing._losses import log_probabilities


def plain(logits, target, token, whole):
    wide = logits if logits.dtype == torch.float64 else logits.float()
    log_p = wide.log_softmax(dim=-1)
    return log_p[target, token], log_p[whole]


def gradient_of(function, logits, *places):
    logits = logits.clone().requires_grad_(True)
    with torch.enable_grad():
        of_token, of_whole = function(logits, *places)
        weights = torch.linspace(-1, 1, of_whole.numel(), dtype=of_whole.dtype).reshape(of_whole.shape)
        loss = (of_token * torch.arange(1, len(of_token) + 1)).sum() + (of_whole.exp() * of_whole * weights).sum()
        (gradient,) = torch.autograd.grad(loss, logits)
    return of_token.detach(), of_whole.detach(), gradient


@pytest.mark.parametrize("elements", [3, 50, 10**6], ids=["row by row", "in parts", "at once"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_values_and_gradients_are_those_of_a_softmax(dtype, elements, monkeypatch):
    monkeypatch.setitem(_losses._ELEMENTS, "cpu", elements)
    logits = 4 * torch.randn(9, 17, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(dtype)
    # position 2 is in both, position 5 in neither, position 0 twice
    places = torch.tensor([0, 0, 1, 2, 7, 8]), torch.tensor([3, 4, 0, 16, 9, 9]), torch.tensor([2, 3, 4, 6])
    exact = dtype == torch.float64
    tolerance = (
        {"rtol": 1e-10, "atol": 1e-12} if exact else {"rtol": 2e-2, "atol": 2e-2 if dtype == torch.bfloat16 else 1e-5}
    )
    for found, expected in zip(
        gradient_of(log_probabilities, logits, *places), gradient_of(plain, logits, *places), strict=True
    ):
        assert found.dtype == expected.dtype
        assert torch.allclose(found, expected, **tolerance)


def test_a_token_that_is_ruled_out_gives_finite_numbers():
    logits = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    logits[:, 5] = -torch.inf
    of_token, of_whole, gradient = gradient_of(
        log_probabilities, logits, torch.tensor([0, 1]), torch.tensor([2, 3]), torch.tensor([2, 3])
    )
    assert all(torch.isfinite(found).all() for found in (of_token, of_whole, gradient))
    assert (gradient[:, 5] == 0).all()


def test_no_position_may_be_wanted_whole():
    logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(2))
    nothing = torch.tensor([], dtype=torch.long)
    of_token, of_whole, gradient = gradient_of(log_probabilities, logits, torch.tensor([1]), torch.tensor([4]), nothing)
    assert of_whole.shape == (0, 5) and torch.allclose(of_token, logits.log_softmax(dim=-1)[1, 4][None])
    assert (gradient[[0, 2]] == 0).all() and gradient[1, 4] > 0
