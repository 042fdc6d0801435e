"""The norm anchor: every value gets the length of the anchor, whatever its own, and none is left out."""

import torch

from bluedit.writing._norms import anchor_norm, hold_norm, written_values
from bluedit.writing.target import Targets


def targets(z, start):
    none = torch.zeros(z.shape[1])
    return Targets(z, start, none.long(), none)


def test_values_short_and_long_are_rescaled():
    mlp = torch.randn(6, 3, dtype=torch.float64)
    start = torch.randn(6, 3, dtype=torch.float64)
    z = start + torch.tensor([0.01, 1.0, 50.0]) * torch.randn(6, 3, dtype=torch.float64)
    before, after = (written_values(t, mlp) for t in (targets(z, start), hold_norm(targets(z, start), mlp, 2.0)))
    assert torch.allclose(after.norm(dim=0), torch.full((3,), 2.0, dtype=torch.float64))
    assert torch.allclose(after / 2.0, before / before.norm(dim=0))


def test_a_value_of_zero_stays_finite():
    mlp = torch.ones(4, 1)
    found = hold_norm(targets(torch.zeros(4, 1), torch.ones(4, 1)), mlp, 3.0)
    assert torch.equal(written_values(found, mlp), torch.zeros(4, 1))


def test_the_anchor_is_the_mean_without_the_longest_twentieth():
    values = torch.eye(4)[:, :1] * torch.tensor([*[2.0] * 39, 500.0])
    assert anchor_norm(values) == 2.0
    assert anchor_norm(torch.tensor([[3.0, 1.0], [4.0, 0.0]])) == 3.0
