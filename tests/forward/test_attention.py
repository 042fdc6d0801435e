"""The attention of packed rows, whose gradient is written out, against the same with autograd, one row at a time."""

import pytest
import torch

from bluedit.forward._cache import Past
from bluedit.forward._spans import Span, attention

HEADS, SHARED, WIDTH = 6, 2, 4


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def span(lengths, before):
    """Rows of these lengths after so many tokens each, padded on the left."""
    most = max(before)
    mask = torch.tensor([[0] * (most - n) + [1] * n for n in before], dtype=torch.long)
    real = mask[:, None, :, None]
    states = tuple(
        (random(len(before), SHARED, most, WIDTH) * real, random(len(before), SHARED, most, WIDTH + 1) * real)
        for _ in range(2)
    )
    return Span(lengths, Past(states if most else (), mask))


def one_by_one(spans, layer, query, key, value, window, softcap):
    out, at = [], 0
    for those in spans:
        for row, length in enumerate(those.lengths):
            part = slice(at, at + length)
            at += length
            k, v, start = key[:, part], value[:, part], 0
            if those.past.states:
                there = those.past.mask[row].bool()
                old_k, old_v = (states[row][:, there] for states in those.past.states[layer])
                k, v, start = torch.cat([old_k, k], dim=1), torch.cat([old_v, v], dim=1), int(there.sum())
            k, v = (states.repeat_interleave(HEADS // SHARED, dim=0) for states in (k, v))
            scores = query[:, part] @ k.mT
            if softcap:
                scores = softcap * (scores / softcap).tanh()
            distance = start + torch.arange(length)[:, None] - torch.arange(start + length)
            seen = (distance >= 0) & (distance < (window or 1000))
            out.append(scores.masked_fill(~seen, -torch.inf).softmax(dim=-1) @ v)
    return torch.cat(out, dim=1).transpose(0, 1)


@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize(
    "spans",
    [
        [span([2, 2, 2], [3, 1, 4]), span([5], [2])],
        [span([1, 3, 2], [4, 4, 1]), span([4, 4], [2, 6])],
        [span([3, 3], [0, 0]), span([4, 6], [0, 0])],
    ],
    ids=["rows of one length", "padded rows", "nothing before"],
)
def test_values_and_gradients(spans, window, softcap):
    tokens = sum(those.tokens for those in spans)
    given = [random(HEADS, tokens, WIDTH), random(SHARED, tokens, WIDTH), random(SHARED, tokens, WIDTH + 1)]
    of_out = random(tokens, HEADS, WIDTH + 1)

    def found_by(function):
        states = [one.clone().requires_grad_(True) for one in given]
        with torch.enable_grad():
            out = function(spans, 1, *states, window, softcap)
            return out.detach(), *torch.autograd.grad(out, states, of_out)

    for found, expected in zip(found_by(attention), found_by(one_by_one), strict=True):
        assert torch.allclose(found, expected, rtol=1e-10, atol=1e-12)
    assert attention(spans, 1, *given, window, softcap).is_contiguous()  # some families call `view` on it


def test_gradients_in_bfloat16_lose_no_more_than_their_rounding():
    """The softmax is differentiated in float32, as autograd does it."""
    spans = [span([12, 12], [0, 0])]
    given = [random(HEADS, 24, WIDTH), random(SHARED, 24, WIDTH), random(SHARED, 24, WIDTH)]
    of_out = random(24, HEADS, WIDTH)

    def found_by(function, dtype):
        states = [one.to(torch.bfloat16).to(dtype).requires_grad_(True) for one in given]
        with torch.enable_grad():
            out = function(spans, 1, *states, None, None)
            return [one.double() for one in torch.autograd.grad(out, states, of_out.to(torch.bfloat16).to(dtype))]

    exact = found_by(one_by_one, torch.float64)
    for found, expected in zip(found_by(attention, torch.bfloat16), exact, strict=True):
        assert (found - expected).norm() < 0.006 * expected.norm()
