"""The solver against dense float64 transcriptions of the papers' formulas, none of which share code with it."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from maths_help import (
    D_KEY,
    D_VALUE,
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

from bluedit.errors import EditError, SingularError
from bluedit.maths.preserve import Factored, Preservation, null_space
from bluedit.maths.solve import solve

# MEMIT


@pytest.mark.parametrize("n", [1, 5, D_KEY, 40])
def test_memit_is_the_papers_equation(n):
    C, [(K, R)] = moment(), batches([n])
    A = solve(K, memit_operator(C), 1.0)
    assert A.shape == (n, D_KEY)
    close(R @ A, memit_dense(K, R, C.matrix, gram([])))


def test_the_comparison_can_fail():
    C, [(K, R)] = moment(), batches([5])
    wrong = solve(K, Preservation(Factored(C.cholesky(), LAMBDA * 1.0001)), 1.0)
    with pytest.raises(AssertionError):
        close(R @ wrong, memit_dense(K, R, C.matrix, gram([])))


def test_memit_seq_without_memory_is_memit():
    C, [(K, R)] = moment(), batches([5])
    operator = memit_operator(C)
    operator.remember(torch.zeros(D_KEY, 1, dtype=torch.float64))
    close(R @ solve(K, operator, 1.0), memit_dense(K, R, C.matrix, gram([])))


# ROME


def test_rome_is_exact_and_the_papers_equation():
    C, W, v = moment(), normal(D_VALUE, D_KEY, seed=7), normal(D_VALUE, 1, seed=8)
    k = normal(D_KEY, 1, seed=9)
    dW = (v - W @ k) @ solve(k, Preservation(Factored(C.cholesky())), 0.0)
    close((W + dW) @ k, v)
    u = torch.linalg.solve(C.matrix, k)
    close(dW, (v - W @ k) @ u.T / (k.T @ u))


def test_emmet_meets_every_constraint():
    C, W, V = moment(), normal(D_VALUE, D_KEY, seed=7), normal(D_VALUE, 6, seed=8)
    K, inverse = normal(D_KEY, 6, seed=9), torch.linalg.inv(C.matrix)
    dW = (V - W @ K) @ solve(K, Preservation(Factored(C.cholesky(), LAMBDA)), 0.0)
    close((W + dW) @ K, V)
    close(dW, (V - W @ K) @ torch.linalg.inv(K.T @ inverse @ K) @ K.T @ inverse)


# AlphaEdit


@pytest.mark.parametrize("null", [1, 8, 12, 20, 23])
@pytest.mark.parametrize("n", [1, 6, 30])
def test_alphaedit_solves_the_papers_system(null, n):
    """The thinner of null space and complement does the projection: both cases are among these."""
    C, [(K, R)] = moment(null), batches([n])
    operator = alphaedit_operator(C)
    assert operator.rank == null
    dW = R @ solve(K, operator, 1.0)
    close(dW, alphaedit_dense(K, R, projector(C.matrix), gram([])))
    preserved = torch.eye(D_KEY, dtype=torch.float64) - projector(C.matrix)
    assert (dW @ preserved).norm() < 1e-10 * dW.norm()


@pytest.mark.parametrize("null", [8, 20])
def test_alphaedit_leaves_the_preserved_subspace_alone_whatever_is_remembered(null):
    C = moment(null)
    operator, preserved = alphaedit_operator(C), torch.eye(D_KEY, dtype=torch.float64) - projector(C.matrix)
    for K, R in batches([3, 30, 4]):
        dW = R @ solve(K, operator, 1.0)
        assert (dW @ preserved).norm() < 1e-10 * dW.norm()
        operator.remember(K)


# properties


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(7)), st.integers(0, 1000), st.sampled_from([memit_operator, alphaedit_operator]))
def test_the_order_of_facts_in_a_batch_does_not_matter(order, seed, operator_of):
    C, [(K, R), (K2, _)] = moment(), batches([7, 5], seed)
    operator = operator_of(C)
    operator.remember(K2)
    close(R[:, list(order)] @ solve(K[:, list(order)], operator, 1.0), R @ solve(K, operator, 1.0))


# what cannot be solved

SINGULAR = (
    r"^the 4 x 4 system of this batch is singular: some keys are not finite, \(nearly\) equal to each other, or outside the subspace "
    r"that may change; edit those facts in separate batches, use a recipe with slack 1, or set a ridge such as update.slack=1e-3$"
)


def test_infinite_keys_are_refused():
    K = normal(D_KEY, 4, seed=1)
    K[3, 2] = torch.nan
    with pytest.raises(EditError, match=SINGULAR):
        solve(K, memit_operator(moment()), 1.0)


@pytest.mark.parametrize("factor", [1.0, 1 + 1e-9, -2.0])
def test_parallel_keys_cannot_meet_two_constraints(factor):
    """Whatever rounding does to the last pivot: the seeds where an update comes out are listed."""

    def accepted(seed):
        K = normal(D_KEY, 4, seed=seed)
        K[:, 3] = K[:, 0] * factor
        try:
            solve(K, memit_operator(moment()), 0.0)
        except EditError as error:
            assert re.search(SINGULAR, str(error))
            assert isinstance(error, SingularError) and error.facts == (0, 3)
            return False
        return True

    assert [seed for seed in range(20) if accepted(seed)] == []


def test_keys_that_are_only_close_can_meet_two_constraints():
    C, W, V, K = (
        moment(),
        normal(D_VALUE, D_KEY, seed=7),
        normal(D_VALUE, 2, seed=8),
        normal(D_KEY, 1, seed=9).repeat(1, 2),
    )
    K[:, 1] += 1e-3 * normal(D_KEY, 1, seed=10)[:, 0]
    close((W + (V - W @ K) @ solve(K, Preservation(Factored(C.cholesky())), 0.0)) @ K, V)


def test_equal_keys_are_no_trouble_with_slack():
    C, K, R = moment(), normal(D_KEY, 1, seed=0).repeat(1, 4), normal(D_VALUE, 4, seed=1)
    close(R @ solve(K, memit_operator(C), 1.0), memit_dense(K, R, C.matrix, gram([])))


def test_keys_outside_the_null_space_cannot_be_met_exactly():
    C = moment()
    _, V = null_space(C, THRESHOLD, unit="absolute")
    with pytest.raises(EditError, match=SINGULAR):
        solve(V @ normal(V.shape[1], 4, seed=1), alphaedit_operator(C), 0.0)
