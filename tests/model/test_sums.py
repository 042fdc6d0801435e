"""Sums by owner: the bits of adding rows in order, whatever the device's own way."""

import pytest
import torch

from bluedit.model.sums import sum_by_owner


def in_order(values, owners, n):
    sums = [torch.zeros_like(values[0]) for _ in range(n)]
    for value, owner in zip(values, owners.tolist(), strict=True):
        sums[owner] = sums[owner] + value
    return torch.stack(sums)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(), (7,), (1536,)])
def test_the_bits_of_adding_rows_in_order(dtype, shape):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(500, *shape, generator=generator, dtype=torch.float64).to(dtype)
    owners = torch.randint(0, 40, (500,), generator=generator)
    found = sum_by_owner(values, owners, 42)
    assert torch.equal(found, in_order(values, owners, 42))
    assert not found[40:].any()
    shuffled = torch.randperm(500, generator=generator)
    assert not torch.equal(found, sum_by_owner(values[shuffled], owners[shuffled], 42)), "no rounding: it cannot fail"
    old = values.new_zeros(42, *shape).index_add_(0, owners, values)
    assert torch.equal(found, old)


def test_gradients():
    values = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    owners = torch.tensor([2, 0, 2, 1, 0, 2])
    (gradient,) = torch.autograd.grad((sum_by_owner(values, owners, 3) * torch.arange(9.0).view(3, 3)).sum(), values)
    assert torch.equal(gradient, torch.arange(9.0).double().view(3, 3)[owners])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("shape", [(), (4096,)])
def test_repeated_bits_on_cuda(shape):
    values = torch.randn(5000, *shape, device="cuda")
    owners = torch.randint(0, 50, (5000,), device="cuda")
    first = sum_by_owner(values, owners, 50)
    assert all(torch.equal(first, sum_by_owner(values, owners, 50)) for _ in range(20))
    assert torch.allclose(first.cpu(), sum_by_owner(values.cpu(), owners.cpu(), 50), atol=1e-3)
