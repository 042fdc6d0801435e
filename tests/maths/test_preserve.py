"""Preservation operators: what they are without memory, how memory enters them, and which null space they may use."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from maths_help import (
    D_KEY,
    L2,
    LAMBDA,
    THRESHOLD,
    alphaedit_dense,
    alphaedit_operator,
    batches,
    close,
    gram,
    memit_dense,
    memit_operator,
    moment,
    normal,
    projector,
)

from bluedit.errors import StatisticsError
from bluedit.maths.cholesky import Cholesky
from bluedit.maths.moment import SecondMoment
from bluedit.maths.preserve import Base, Factored, Preservation, Projected, null_space, strongest_neurons
from bluedit.maths.solve import PreservationOperator, solve
from bluedit.methods.preserve import Covariance, NullSpace, StrongNeurons

# memory


# 3, 4, 5 stay in low-rank form; 10, 20, 6 and 30, 2, 40 are folded into the base at different times
@pytest.mark.parametrize("sizes", [(3, 4, 5), (10, 20, 6), (30, 2, 40), (24, 24, 24)])
@pytest.mark.parametrize("method", ["memit", "alphaedit"])
def test_three_batches_with_memory(method, sizes):
    C, done = moment(), []
    P = projector(C.matrix)
    operator = memit_operator(C) if method == "memit" else alphaedit_operator(C)
    for K, R in [*batches(sizes, seed=50), *batches([4], seed=90)]:
        M = gram(done)
        expected = memit_dense(K, R, C.matrix, M) if method == "memit" else alphaedit_dense(K, R, P, M)
        close(R @ solve(K, operator, 1.0), expected)
        operator.remember(K)
        done.append(K)


def test_memory_is_folded_when_it_holds_as_many_keys_as_dimensions():
    operator = memit_operator(moment())
    for size, remembered in ((10, 10), (13, 23), (1, 0), (5, 5), (40, 0)):
        operator.remember(normal(D_KEY, size, seed=size))
        assert operator.remembered == remembered
    assert operator.rank == D_KEY


def test_memory_changes_the_update():
    C, [(K, R), (K2, _)] = moment(), batches([5, 5])
    operator = memit_operator(C)
    before = R @ solve(K, operator, 1.0)
    operator.remember(K2)
    after = R @ solve(K, operator, 1.0)
    assert (after @ K2).norm() < (before @ K2).norm()
    assert (after - before).norm() > 1e-3 * before.norm()


class Counting(Base):
    """A base that counts how often it is applied."""

    def __init__(self, base):
        self.base, self.dimensions, self.calls = base, base.dimensions, 0

    def apply(self, K):
        self.calls += 1
        return self.base.apply(K)


def test_the_latest_keys_are_solved_for_once():
    C, [(K, _), (K2, _)] = moment(), batches([5, 5])
    base = Counting(Factored(C.cholesky(), LAMBDA))
    operator = Preservation(base)
    operator.apply(K)
    operator.remember(K.clone())
    assert base.calls == 1
    solved = operator.apply(K2)
    K2[0] += 1.0  # the caller may change its own tensor
    assert not torch.equal(operator.apply(K2), solved)
    assert base.calls == 3


def test_keys_may_be_float32():
    C, [(K, R)] = moment(), batches([5])
    operator, K = memit_operator(C), K.float()
    operator.remember(K[:, :2])
    A = solve(K, operator, 1.0)
    K = K.double()
    close(R @ A, memit_dense(K, R, C.matrix, K[:, :2] @ K[:, :2].T))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=5), st.integers(0, 1000))
def test_memory_does_not_depend_on_how_keys_come_in(sizes, seed):
    C, [(K, _)] = moment(), batches([4], seed)
    in_parts, at_once = alphaedit_operator(C), alphaedit_operator(C)
    parts = [normal(D_KEY, n, seed=seed + i) for i, n in enumerate(sizes)]
    for part in parts:
        in_parts.remember(part)
    at_once.remember(torch.cat(parts, dim=1))
    close(in_parts.apply(K), at_once.apply(K))


def test_solving_changes_neither_keys_nor_memory():
    C, [(K, _)] = moment(), batches([5])
    for operator in (memit_operator(C), alphaedit_operator(C)):
        kept, first = K.clone(), operator.apply(K)
        solve(K, operator, 1.0)
        operator.remember(K)
        assert torch.equal(K, kept)
        assert torch.equal(first, operator.fresh().apply(K))


# the operators of the recipes' parts


def test_identity_on_everything_is_ridge_regression():
    [(K, R)] = batches([5])
    everything, nothing = torch.eye(D_KEY, dtype=torch.float64), torch.zeros(D_KEY, 0, dtype=torch.float64)
    A = solve(K, Preservation(Projected(everything, nothing, L2)), 1.0)
    close(R @ A, R @ K.T @ torch.linalg.inv(K @ K.T + L2 * everything))


def test_statistics_on_the_null_space():
    """No preset combines these, but G = U (U^T S U)^-1 U^T with S = lambda C + M holds for any subspace."""
    C, [(K, R), (K2, _)] = moment(), batches([5, 12])
    U, _ = null_space(C, THRESHOLD, unit="absolute")
    operator = Preservation(Factored(Cholesky.of(U.T @ C.matrix @ U), LAMBDA, U))
    operator.remember(K2)
    G = U @ torch.linalg.inv(U.T @ (LAMBDA * C.matrix + K2 @ K2.T) @ U) @ U.T
    close(R @ solve(K, operator, 1.0), R @ torch.linalg.inv(torch.eye(5).double() + K.T @ G @ K) @ K.T @ G)


@pytest.mark.parametrize("kind", ["covariance", "null-space", "neurons"])
def test_the_operator_of_a_part(kind):
    """G = U (U^T (S + M) U)^-1 U^T with memory, formed densely."""
    C, [(K, _), (K2, _)] = moment(), batches([5, 12])
    part = {
        "covariance": Covariance(lambda_=LAMBDA),
        "null-space": NullSpace(l2=L2, threshold=THRESHOLD),
        "neurons": StrongNeurons(lambda_=LAMBDA, share=0.5),
    }[kind]
    operator = part.operator(C)
    assert isinstance(operator, PreservationOperator)
    operator.remember(K2)
    found = operator.apply(K)
    values, vectors = torch.linalg.eigh(C.matrix)
    eye = torch.eye(D_KEY, dtype=torch.float64)
    U = {
        "covariance": eye,
        "null-space": vectors[:, values < THRESHOLD],
        "neurons": eye[:, strongest_neurons(K, 0.5)],
    }[kind]
    S = L2 * eye if kind == "null-space" else LAMBDA * C.matrix
    assert operator.rank == U.shape[1] and (U.shape[1] < D_KEY) == (kind != "covariance")
    close(found, U @ torch.linalg.inv(U.T @ (S + K2 @ K2.T) @ U) @ U.T @ K)


def test_the_strongest_neurons_are_the_fewest_that_carry_the_share():
    K = torch.tensor([[1.0, -1.0], [5.0, 0.0], [0.0, 0.0], [0.0, -3.0]]).double()  # |k| sums to 2, 5, 0, 3
    found = {share: strongest_neurons(K, share).tolist() for share in (0.01, 0.5, 0.51, 0.8, 0.81, 1.0)}
    assert found == {0.01: [1], 0.5: [1], 0.51: [1, 3], 0.8: [1, 3], 0.81: [0, 1, 3], 1.0: [0, 1, 3]}


def test_operators_do_not_share_a_memory():
    """Statistics are shared; what is remembered is not."""
    C, [(K, _), (K2, _)] = moment(), batches([5, 12])
    for part in (Covariance(), NullSpace(threshold=THRESHOLD), StrongNeurons()):
        before = C.matrix.clone()
        one, other = part.operator(C), part.operator(C)
        expected = other.apply(K)
        one.remember(K2)
        assert torch.equal(other.apply(K), expected) and not torch.equal(one.apply(K), expected)
        assert torch.equal(C.matrix, before)


def test_a_fresh_operator_has_forgotten_everything():
    """Also when what was remembered has been folded into the base."""
    C, [(K, _), (K2, _)] = moment(), batches([5, D_KEY + 3])
    for part in (Covariance(), NullSpace(threshold=THRESHOLD), StrongNeurons()):
        operator = part.operator(C)
        expected = operator.apply(K).clone()
        operator.remember(K2)
        remembering = operator.apply(K)
        assert torch.equal(operator.fresh().apply(K), expected) and not torch.equal(remembering, expected)
        assert torch.equal(operator.apply(K), remembering), "the old one is as it was"


def test_neurons_whose_statistics_are_singular():
    C = SecondMoment(torch.ones(D_KEY, D_KEY, dtype=torch.float64), 99, 6)
    with pytest.raises(
        StatisticsError, match=r"^the key statistics are singular on the chosen neurons; use more tokens"
    ):
        StrongNeurons(share=1.0).operator(C).apply(normal(D_KEY, 3, seed=0))


# the null space


def test_null_space_splits_key_space():
    C = moment(9)
    U, V = null_space(C, THRESHOLD, unit="absolute")
    assert (U.shape[1], V.shape[1]) == (9, D_KEY - 9)
    both = torch.cat([U, V], dim=1)
    close(both.T @ both, torch.eye(D_KEY, dtype=torch.float64))
    close(U @ U.T, projector(C.matrix))


def diagonal(*values):
    return SecondMoment(torch.diag(torch.tensor(values, dtype=torch.float64)), 99, 6)


@pytest.mark.parametrize(
    ("threshold", "rank"),
    [(0.0099, 0), (0.0101, 1), (0.0299, 1), (0.0301, 2), (0.0601, 3), (0.099, 3), (0.101, 4), (1.0, 5)],
)
def test_relative_threshold_bounds_the_share_of_the_trace(threshold, rank):
    C = diagonal(3.0, 90.0, 1.0, 4.0, 2.0)  # sums from below: 1, 3, 6, 10, 100 of 100
    if 0 < rank < 5:
        U, _ = null_space(C, threshold, unit="energy")
        assert U.shape[1] == rank
        assert set(U.nonzero()[:, 0].tolist()) == set([2, 4, 0, 3][:rank])
    else:
        with pytest.raises(StatisticsError, match="of the trace"):
            null_space(C, threshold, unit="energy")


def test_relative_threshold_does_not_depend_on_scale():
    C = moment()
    for scale in (1e-6, 1.0, 1e6):
        U, _ = null_space(SecondMoment(C.matrix * scale, 99, 0), 0.01, unit="energy")
        expected, _ = null_space(C, 0.01, unit="energy")
        close(U @ U.T, expected @ expected.T)


def test_rounding_below_zero_does_not_hurt_the_relative_threshold():
    U, _ = null_space(diagonal(-1e-17, 1.0, 99.0), 0.02, unit="energy")
    assert U.shape[1] == 2


@pytest.mark.parametrize(
    ("threshold", "unit", "message"),
    [
        (
            1e-3,
            "absolute",
            "the null space of layer 6 is empty: 0 of 2 eigenvalues of C (0.5 to 2) are below the threshold 0.001; ",
        ),
        (
            20.0,
            "absolute",
            "the null space of layer 6 is everything: 2 of 2 eigenvalues of C (0.5 to 2) are below the threshold 20; ",
        ),
        (
            0.1,
            "energy",
            "the null space of layer 6 is empty: 0 of 2 eigenvalues of C (0.5 to 2) are below the threshold 0.1 of the trace; ",
        ),
        (
            1.5,
            "energy",
            "the null space of layer 6 is everything: 2 of 2 eigenvalues of C (0.5 to 2) are below the threshold 1.5 of the trace; ",
        ),
    ],
)
def test_null_space_that_is_no_use(threshold, unit, message):
    with pytest.raises(StatisticsError) as caught:
        null_space(diagonal(0.5, 2.0), threshold, unit)
    assert str(caught.value) == message + "set preserve.threshold, or preserve.unit=energy with a fraction such as 0.02"
