"""Filters in factor form: what they spare is spared, and no more."""

import torch

from bluedit.maths.filters import Shield, dominant, hyperspherical, leading

torch.manual_seed(0)
W0 = torch.randn(8, 12, dtype=torch.float64)
R, A = torch.randn(8, 3, dtype=torch.float64), torch.randn(3, 12, dtype=torch.float64)


def test_revive_leaves_the_dominant_directions_of_the_weight_alone():
    U, s, V = torch.linalg.svd(W0, full_matrices=False)
    energy = float((s[:3] ** 2).sum() / (s**2).sum())
    shield = dominant(W0, energy * (1 - 1e-9))
    assert shield.right.shape == (12, 3)
    left, right = shield.spare(R, A)
    dW = left @ right
    assert (U[:, :3].T @ dW).norm() < 1e-12 * dW.norm()
    assert (dW @ V[:3].T).norm() < 1e-12 * dW.norm()
    assert torch.allclose((W0 + dW) @ V[:3].T, W0 @ V[:3].T)  # what these directions map to stays
    inner = U[:, 3:] @ U[:, 3:].T
    assert torch.allclose(dW, inner @ R @ A @ V[3:].T @ V[3:] + inner @ R @ A @ (torch.eye(12) - V.T @ V))


def test_sphere_weakens_the_change_along_the_principal_directions():
    shield = hyperspherical(W0, 0.5, 0.8)
    assert shield.left is None
    left, right = shield.spare(R, A)
    along = shield.right @ shield.right.T
    assert torch.equal(left, R)
    assert torch.allclose(right @ along, 0.2 * A @ along)
    assert torch.allclose(right - right @ along, A - A @ along)


def test_the_length_of_a_row_does_not_matter_to_sphere():
    longer = W0 * torch.linspace(1, 9, 8, dtype=torch.float64)[:, None]
    one, other = (hyperspherical(W, 0.5, 0.8).right for W in (W0, longer))
    assert torch.allclose(one @ one.T, other @ other.T)


def test_all_of_the_energy_takes_all_directions():
    assert dominant(W0, 1.0).right.shape == (12, 8)
    assert hyperspherical(W0, 1.0, 0.5).right.shape == (12, 8)
    assert leading(torch.tensor([3.0, 1.0, 1.0]), 0.6) == 1
    assert leading(torch.tensor([3.0, 1.0, 1.0]), 0.61) == 2


def test_a_shield_of_strength_zero_does_nothing():
    left, right = Shield(0.0, torch.eye(12, dtype=torch.float64)[:, :4]).spare(R, A)
    assert torch.equal(left, R)
    assert torch.equal(right, A)
