"""The statements of docs/theory.md, each on a thousand random cases."""

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bluedit.explain.bounds import bounds, largest_solver
from bluedit.maths.cholesky import Cholesky
from bluedit.maths.preserve import Factored, NeuronPreservation, Preservation, Projected
from bluedit.maths.solve import solve

A_THOUSAND = settings(max_examples=1000, deadline=None, database=None)
SEEDS = st.integers(0, 2**48)
ROUNDING = 1 + 1e-9


class Case:
    """Random residuals, keys and Gram matrix of random sizes and scales."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)
        self.d_value, self.d_key, self.n = (self.number(1, high) for high in (6, 9, 7))
        factor = self.normal(self.d_key, self.d_key + 2)
        self.S = self.scale() * (factor @ factor.T) + 1e-3 * torch.eye(self.d_key, dtype=torch.float64)
        self.G = Preservation(Factored(Cholesky.of(self.S)))
        self.K = self.scale() * self.normal(self.d_key, self.n)
        self.own, self.last = (self.scale() * self.normal(self.d_value, self.n) for _ in range(2))
        self.left = self.number(1, 8)  # layers from this one to the last
        self.share = self.left ** -(0.5 if self.number(0, 1) else 1.0)
        self.slack = self.scale()
        self.A = solve(self.K, self.G, self.slack)

    def number(self, low, high):
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def normal(self, *shape):
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def scale(self):
        return float(10 ** (2 * torch.rand((), generator=self.generator, dtype=torch.float64) - 1))


def spectral(matrix):
    return float(torch.linalg.matrix_norm(matrix, 2))


@given(SEEDS)
@A_THOUSAND
def test_the_update_is_linear_in_the_residual(seed):
    case = Case(seed)
    share = case.share * case.last
    difference = case.own @ case.A - share @ case.A
    torch.testing.assert_close(difference, (case.own - share) @ case.A)
    assert float(difference.norm()) <= float((case.own - share).norm()) * spectral(case.A) * ROUNDING


@given(SEEDS)
@A_THOUSAND
def test_the_bounds_are_in_order(seed):
    case = Case(seed)
    found = bounds(case.own, case.last, case.A, case.share, case.left - 1)
    assert found.error == pytest.approx(float(((case.own - case.share * case.last) @ case.A).norm()), abs=1e-12)
    assert found.error <= found.direct * ROUNDING <= found.tightened * ROUNDING**2 <= found.published * ROUNDING**3
    factor = (found.tightened / spectral(case.A) - float((case.own - case.last).norm())) / float(case.last.norm())
    assert factor == pytest.approx(1 - case.share, abs=1e-8) and factor < 1  # whatever the distance
    total = found + found
    assert (total.direct, total.published) == (2 * found.direct, 2 * found.published) and math.isnan(total.error)


@given(SEEDS)
@A_THOUSAND
def test_the_solver_is_bounded_whatever_the_keys(seed):
    case = Case(seed)
    most = largest_solver(case.G, case.slack, case.d_key)
    assert most == pytest.approx(0.5 / math.sqrt(case.slack * float(torch.linalg.eigvalsh(case.S)[0])), rel=1e-6)
    for scale in (1e-3, 1.0, 1e3):
        assert spectral(solve(scale * case.K, case.G, case.slack)) <= most * ROUNDING
    # it is reached: by a key along the weakest direction, of the length at which s = k^T G k
    values, vectors = torch.linalg.eigh(case.S)
    key = vectors[:, :1] * (case.slack * values[0]).sqrt()
    assert spectral(solve(key, case.G, case.slack)) == pytest.approx(most, rel=1e-6)


@given(SEEDS)
@A_THOUSAND
def test_a_sequence_with_memory_is_one_batch(seed):
    """Residuals measured after the first batch, its keys in the Gram matrix: recursive least squares."""
    case = Case(seed)
    K1, K2 = case.K, case.scale() * case.normal(case.d_key, case.number(1, 5))
    V1, V2 = case.own, case.normal(case.d_value, K2.shape[1])  # what the values still lack on the unedited weights
    first = V1 @ solve(K1, case.G, 1.0)
    memory = case.G.fresh()
    memory.remember(K1)
    second = (V2 - first @ K2) @ solve(K2, memory, 1.0)
    together = torch.cat([V1, V2], dim=1) @ solve(torch.cat([K1, K2], dim=1), case.G.fresh(), 1.0)
    torch.testing.assert_close(first + second, together, rtol=1e-6, atol=1e-7)
    d_key = case.d_key
    assert largest_solver(memory, 1.0, d_key) <= largest_solver(case.G.fresh(), 1.0, d_key) * (1 + 1e-6)
    gap = torch.cat([V1, V2], dim=1)
    assert float(together.norm()) <= float(gap.norm()) * largest_solver(case.G.fresh(), 1.0, d_key) * (1 + 1e-6)


@given(SEEDS)
@A_THOUSAND
def test_what_a_write_leaves_at_its_own_layer(seed):
    """R - R A K = s R (s I + K^T G K)^-1; with own targets that is all the error there is."""
    case = Case(seed)
    inner = case.K.T @ case.G.apply(case.K)
    left = case.own - case.own @ case.A @ case.K
    expected = case.slack * case.own @ torch.linalg.inv(case.slack * torch.eye(case.n, dtype=torch.float64) + inner)
    torch.testing.assert_close(left, expected, rtol=1e-6, atol=1e-7)
    weakest = float(torch.linalg.eigvalsh((inner + inner.T) / 2)[0])
    assert float(left.norm()) <= float(case.own.norm()) / (1 + max(0.0, weakest) / case.slack) * (1 + 1e-7)


@given(SEEDS)
@A_THOUSAND
def test_no_share_removes_the_error_of_direction(seed):
    case = Case(seed)
    own, last = case.own[:, 0], case.last[:, 0]
    cosine = float(own @ last / own.norm() / last.norm())
    best = cosine * float(own.norm() / last.norm())
    least = float((best * last - own).norm())
    assert least == pytest.approx(float(own.norm()) * math.sqrt(max(0.0, 1 - cosine**2)), abs=1e-6)
    for share in (0.0, case.share, 1.0, best + 0.1):
        assert float((share * last - own).norm()) >= least - 1e-9
    partial = case.share
    error = float((case.own @ case.A - partial * case.own @ case.A).norm())
    assert error == pytest.approx((1 - partial) * float((case.own @ case.A).norm()), abs=1e-9)


@given(SEEDS)
@A_THOUSAND
def test_dividing_is_right_only_for_an_eigenvector(seed):
    """Exact writes in a linear network: what is missing at the last layer goes from r to (I - J / c) r."""
    case = Case(seed)
    d, left = case.d_value, case.left
    r = case.normal(d)
    J = torch.eye(d, dtype=torch.float64) + 0.3 * case.normal(d, d)
    missing = r - J @ (r / left)
    torch.testing.assert_close(missing, (torch.eye(d, dtype=torch.float64) - J / left) @ r)
    right = (1 - 1 / left) * r  # what dividing counts on
    assert float((missing - right).norm()) == pytest.approx(float((J @ r - r).norm()) / left, abs=1e-9)
    axis = r / r.norm()
    keeps = torch.outer(axis, axis)  # r is an eigenvector of eigenvalue 1
    torch.testing.assert_close(r - keeps @ (r / left), right)


@given(SEEDS)
@A_THOUSAND
def test_replay_hands_on_what_a_write_missed(seed):
    """In a linear network the residual that replay gives a later layer is J times what the first write left."""
    case = Case(seed)
    d = case.d_value
    J = torch.eye(d, dtype=torch.float64) + 0.3 * case.normal(d, d)
    h = case.normal(d, case.n)
    delta, delivered = case.own, case.own @ case.A @ case.K
    target, now = J @ (h + delta), J @ (h + delivered)
    torch.testing.assert_close(target - now, J @ (delta - delivered))


def test_where_there_is_no_largest_solver():
    case = Case(0)
    assert math.isnan(largest_solver(case.G, 0.0, case.d_key))  # an equality constraint
    assert math.isnan(largest_solver(NeuronPreservation(case.S, 0.8), 1.0, case.d_key))


def test_the_largest_solver_needs_no_eigenvalues_of_the_whole():
    """G of a wide key is applied to a few columns at a time, and gives the value that all its eigenvalues would."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(200, 200, generator=generator, dtype=torch.float64))[0]
    S = basis @ torch.diag(torch.logspace(-1, 5, 200, dtype=torch.float64)) @ basis.T
    G, widths = Preservation(Factored(Cholesky.of((S + S.T) / 2))), []
    watched = SimpleNamespace(apply=lambda X: widths.append(X.shape[1]) or G.apply(X))
    assert largest_solver(watched, 2.0, 200) == pytest.approx(0.5 / math.sqrt(2.0 * 0.1), rel=1e-9)
    assert max(widths) <= 16


def test_the_largest_solver_on_a_subspace():
    U = torch.eye(4, dtype=torch.float64)
    assert largest_solver(Preservation(Projected(U[:, :2], U[:, 2:], 4.0)), 1.0, 4) == pytest.approx(0.25)


def test_a_wrong_bound_would_be_seen():
    """The checks above can fail: a hundredth less than the bound is not one."""
    case = Case(1)
    values, vectors = torch.linalg.eigh(case.S)
    key = vectors[:, :1] * (case.slack * values[0]).sqrt()
    assert spectral(solve(key, case.G, case.slack)) > 0.99 * largest_solver(case.G, case.slack, case.d_key)
