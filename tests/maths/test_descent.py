"""Optimisers of many vectors at once."""

import pytest
import torch

from bluedit.maths.descent import AdamSteps, MomentumSteps, NaturalSteps
from bluedit.methods.descent import NaturalGradient, RelativeAdam

CENTRES = torch.randn(1, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


SHARP = torch.diag(torch.tensor([96.0, 1.0, 1.0, 1.0, 1.0], dtype=torch.float64))[None]


def gradient(x, weight):
    """Of a quadratic around CENTRES whose coordinates count differently."""
    return (x - CENTRES[:, : x.shape[1]]) * weight


def test_adam_takes_the_steps_of_torch():
    weight = torch.tensor([1.0, 30.0, 0.01, 5.0, 2.0], dtype=torch.float64)
    found, steps = torch.zeros_like(CENTRES), AdamSteps(CENTRES, 0.3)
    wanted = torch.zeros_like(CENTRES, requires_grad=True)
    adam = torch.optim.Adam([wanted], lr=0.3)
    for _ in range(20):
        found = found + steps.step(gradient(found, weight))
        wanted.grad = gradient(wanted.detach(), weight)
        adam.step()
    assert torch.allclose(found, wanted.detach(), atol=1e-12)


def test_adam_with_a_rate_of_its_own_for_each_vector():
    rates = torch.tensor([[[0.3], [3.0], [0.01]]], dtype=torch.float64)
    found = AdamSteps(CENTRES, rates).step(gradient(torch.zeros_like(CENTRES), 1.0))
    for i, rate in enumerate([0.3, 3.0, 0.01]):
        assert torch.equal(found[:, i], AdamSteps(CENTRES, rate).step(gradient(torch.zeros_like(CENTRES), 1.0))[:, i])


def test_relative_adam_takes_the_same_way_at_any_scale():
    """The first step moves every coordinate by the rate times the root mean square of h; h, gradients and steps scale together."""
    h = 7.0 * CENTRES
    steps = RelativeAdam().optimiser(h, 0.2)
    first = steps.step(gradient(torch.zeros_like(CENTRES), 1.0))
    assert torch.allclose(first.abs(), 0.2 * h.square().mean(dim=-1, keepdim=True).sqrt().expand_as(h))
    small, large = RelativeAdam().optimiser(h, 0.2), RelativeAdam().optimiser(1000 * h, 0.2)
    x = y = torch.zeros_like(h)
    for _ in range(10):
        x, y = x + small.step(x - h), y + large.step(y - 1000 * h)
    assert torch.allclose(1000 * x, y, rtol=1e-6)


def test_the_first_step_of_momentum_goes_down_the_gradient_by_the_stride():
    scale = torch.tensor([[1.0, 10.0, 0.5]], dtype=torch.float64)
    start = torch.zeros_like(CENTRES)
    first = MomentumSteps(start, scale, stride=0.2, decay=0.8).step(gradient(start, 1.0))
    assert torch.allclose(first.norm(dim=-1), 0.2 * scale)
    assert torch.allclose(torch.cosine_similarity(first, CENTRES, dim=-1), torch.ones(1, 3, dtype=torch.float64))


def test_no_step_of_momentum_is_longer_than_the_stride():
    scale, x = torch.ones(1, 3, dtype=torch.float64), torch.zeros_like(CENTRES)
    steps = MomentumSteps(x, scale, stride=0.2, decay=0.5)
    for _ in range(30):
        step = steps.step(gradient(x, 1.0))
        assert (step.norm(dim=-1) <= 0.2 + 1e-12).all()
        x = x + step
    assert ((x - CENTRES).norm(dim=-1) < 0.4).all()


def test_a_gradient_of_zero_moves_nothing():
    steps = MomentumSteps(CENTRES, torch.ones(1, 3, dtype=torch.float64), stride=0.2, decay=0.8)
    assert torch.equal(steps.step(torch.zeros_like(CENTRES)), torch.zeros_like(CENTRES))


def test_vectors_that_go_on_take_the_steps_they_would_have_taken():
    going = torch.tensor([0, 2])
    for make in (
        lambda like: AdamSteps(like, 0.3),
        lambda like: RelativeAdam().optimiser(like, 0.3),
        lambda like: MomentumSteps(like, like.norm(dim=-1) + 1.0, 0.2, 0.8),
        lambda like: NaturalSteps(like, like.norm(dim=-1) + 1.0, 0.2, 0.8, SHARP, 0.5),
    ):
        whole, part = make(CENTRES), make(CENTRES)
        x = y = torch.zeros_like(CENTRES)
        for i in range(6):
            if i == 2:
                y = y[:, going]
                part.keep(going)
            x, y = x + whole.step(gradient(x, 1.0)), y + part.step(y - CENTRES[:, going if i >= 2 else slice(None)])
        assert torch.equal(x[:, going], y)


def test_natural_steps_are_short_where_the_metric_is_sharp():
    scale = torch.ones(1, 3, dtype=torch.float64)
    zero = torch.zeros_like(CENTRES)
    natural = NaturalSteps(zero, scale, 0.2, 0.8, SHARP, 0.5).step(gradient(zero, 1.0))
    direction = CENTRES / torch.tensor([96 / 20 + 0.5, *[1 / 20 + 0.5] * 4], dtype=torch.float64)
    assert torch.allclose(natural, 0.2 * direction / direction.norm(dim=-1, keepdim=True))


def test_natural_steps_in_a_flat_metric_are_those_of_momentum():
    scale, x = torch.ones(1, 3, dtype=torch.float64), torch.zeros_like(CENTRES)
    natural = NaturalSteps(x, scale, 0.2, 0.8, 7.0 * torch.eye(5, dtype=torch.float64)[None], 0.5)
    plain = MomentumSteps(x, scale, 0.2, 0.8)
    for _ in range(5):
        step = plain.step(gradient(x, 1.0))
        assert torch.allclose(natural.step(gradient(x, 1.0)), step)
        x = x + step


def test_natural_steps_need_a_metric():
    with pytest.raises(ValueError, match="Fisher"):
        NaturalGradient().optimiser(CENTRES, 0.1)
