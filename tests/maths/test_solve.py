"""The one solver against dense float64 transcriptions of the papers' formulas, none of which share code with it."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bluedit.errors import EditError, SingularError, StatisticsError
from bluedit.maths.cholesky import Cholesky
from bluedit.maths.moment import SecondMoment
from bluedit.maths.preserve import Factored, NullSpace, Preservation, base_of, everything, null_space
from bluedit.maths.solve import solve
from bluedit.methods.recipe import Preserve
from bluedit.text.rows import Row
from bluedit.writing.keys import average_keys

D_KEY, D_VALUE, LAMBDA, L2, THRESHOLD = 24, 16, 7.0, 0.8, 0.05


def close(found, wanted, tolerance=1e-8):
    assert found.dtype == wanted.dtype == torch.float64
    assert (found - wanted).norm() <= tolerance * wanted.norm(), float((found - wanted).norm() / wanted.norm())


def normal(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moment(null=8, seed=0):
    """C with `null` eigenvalues below THRESHOLD and the others above it."""
    Q = torch.linalg.qr(normal(D_KEY, D_KEY, seed=seed)).Q
    values = torch.cat([torch.linspace(0.001, 0.04, null), torch.linspace(0.2, 3.0, D_KEY - null)]).double()
    return SecondMoment(Q @ torch.diag(values) @ Q.T, 1000, 3)


def projector(C):
    values, vectors = torch.linalg.eigh(C)
    chosen = [torch.outer(vectors[:, i], vectors[:, i]) for i in range(len(values)) if values[i] < THRESHOLD]
    return torch.stack(chosen).sum(0)


def gram(batches):
    return sum((K @ K.T for K in batches), torch.zeros(D_KEY, D_KEY, dtype=torch.float64))


def memit_dense(K, R, C, M):
    return R @ K.T @ torch.linalg.inv(LAMBDA * C + M + K @ K.T)


def alphaedit_dense(K, R, P, M):
    return torch.linalg.solve(P @ (K @ K.T + M) + L2 * torch.eye(D_KEY, dtype=torch.float64), P @ K @ R.T).T


def memit_metric(C):
    return Preservation(Factored(C.cholesky, LAMBDA))


def alphaedit_metric(C):
    return Preservation(NullSpace(*null_space(C, THRESHOLD, unit="absolute"), L2))


def batches(sizes, seed=0):
    return [
        (normal(D_KEY, n, seed=seed + 2 * i), normal(D_VALUE, n, seed=seed + 2 * i + 1)) for i, n in enumerate(sizes)
    ]


# MEMIT


@pytest.mark.parametrize("n", [1, 5, D_KEY, 40])
def test_memit_is_the_papers_equation(n):
    C, [(K, R)] = moment(), batches([n])
    A = solve(K, memit_metric(C), 1.0)
    assert A.shape == (n, D_KEY)
    close(R @ A, memit_dense(K, R, C.matrix, gram([])))


def test_the_comparison_can_fail():
    C, [(K, R)] = moment(), batches([5])
    wrong = solve(K, Preservation(Factored(C.cholesky, LAMBDA * 1.0001)), 1.0)
    with pytest.raises(AssertionError):
        close(R @ wrong, memit_dense(K, R, C.matrix, gram([])))


def test_memit_seq_without_memory_is_memit():
    C, [(K, R)] = moment(), batches([5])
    metric = memit_metric(C)
    metric.remember(torch.zeros(D_KEY, 1, dtype=torch.float64))
    close(R @ solve(K, metric, 1.0), memit_dense(K, R, C.matrix, gram([])))


# 3, 4, 5 stay in low-rank form; 10, 20, 6 and 30, 2, 40 are folded into the base at different times
@pytest.mark.parametrize("sizes", [(3, 4, 5), (10, 20, 6), (30, 2, 40), (24, 24, 24)])
@pytest.mark.parametrize("method", ["memit", "alphaedit"])
def test_three_batches_with_memory(method, sizes):
    C, done = moment(), []
    P = projector(C.matrix)
    metric = memit_metric(C) if method == "memit" else alphaedit_metric(C)
    for K, R in [*batches(sizes, seed=50), *batches([4], seed=90)]:
        M = gram(done)
        wanted = memit_dense(K, R, C.matrix, M) if method == "memit" else alphaedit_dense(K, R, P, M)
        close(R @ solve(K, metric, 1.0), wanted)
        metric.remember(K)
        done.append(K)


def test_memory_is_folded_when_it_holds_as_many_keys_as_dimensions():
    metric = memit_metric(moment())
    for size, remembered in ((10, 10), (13, 23), (1, 0), (5, 5), (40, 0)):
        metric.remember(normal(D_KEY, size, seed=size))
        assert metric.remembered == remembered
    assert metric.rank == D_KEY


def test_memory_changes_the_update():
    C, [(K, R), (K2, _)] = moment(), batches([5, 5])
    metric = memit_metric(C)
    before = R @ solve(K, metric, 1.0)
    metric.remember(K2)
    after = R @ solve(K, metric, 1.0)
    assert (after @ K2).norm() < (before @ K2).norm()
    assert (after - before).norm() > 1e-3 * before.norm()


def test_the_latest_keys_are_solved_for_once(monkeypatch):
    C, [(K, _), (K2, _)] = moment(), batches([5, 5])
    metric, asked, apply = memit_metric(C), [], Factored.apply
    monkeypatch.setattr(Factored, "apply", lambda self, keys: asked.append(len(keys)) or apply(self, keys))
    metric.apply(K)
    metric.remember(K.clone())
    assert len(asked) == 1
    solved = metric.apply(K2)
    K2[0] += 1.0  # the caller's tensor is the caller's to change
    assert not torch.equal(metric.apply(K2), solved)
    assert len(asked) == 3


def test_keys_may_be_float32():
    C, [(K, R)] = moment(), batches([5])
    metric, K = memit_metric(C), K.float()
    metric.remember(K[:, :2])
    A = solve(K, metric, 1.0)
    K = K.double()
    close(R @ A, memit_dense(K, R, C.matrix, K[:, :2] @ K[:, :2].T))


# ROME


def test_rome_is_exact_and_the_papers_equation():
    C, W, v = moment(), normal(D_VALUE, D_KEY, seed=7), normal(D_VALUE, 1, seed=8)
    k = normal(D_KEY, 1, seed=9)
    dW = (v - W @ k) @ solve(k, Preservation(Factored(C.cholesky)), 0.0)
    close((W + dW) @ k, v)
    u = torch.linalg.solve(C.matrix, k)
    close(dW, (v - W @ k) @ u.T / (k.T @ u))


def test_emmet_meets_every_constraint():
    C, W, V = moment(), normal(D_VALUE, D_KEY, seed=7), normal(D_VALUE, 6, seed=8)
    K, inverse = normal(D_KEY, 6, seed=9), torch.linalg.inv(C.matrix)
    dW = (V - W @ K) @ solve(K, Preservation(Factored(C.cholesky, LAMBDA)), 0.0)
    close((W + dW) @ K, V)
    close(dW, (V - W @ K) @ torch.linalg.inv(K.T @ inverse @ K) @ K.T @ inverse)


# AlphaEdit


@pytest.mark.parametrize("null", [1, 8, 12, 20, 23])
@pytest.mark.parametrize("n", [1, 6, 30])
def test_alphaedit_solves_the_papers_system(null, n):
    """The thinner of null space and complement does the projection: both cases are among these."""
    C, [(K, R)] = moment(null), batches([n])
    metric = alphaedit_metric(C)
    assert metric.rank == null
    dW = R @ solve(K, metric, 1.0)
    close(dW, alphaedit_dense(K, R, projector(C.matrix), gram([])))
    preserved = torch.eye(D_KEY, dtype=torch.float64) - projector(C.matrix)
    assert (dW @ preserved).norm() < 1e-10 * dW.norm()


@pytest.mark.parametrize("null", [8, 20])
def test_alphaedit_leaves_the_preserved_subspace_alone_whatever_is_remembered(null):
    C = moment(null)
    metric, preserved = alphaedit_metric(C), torch.eye(D_KEY, dtype=torch.float64) - projector(C.matrix)
    for K, R in batches([3, 30, 4]):
        dW = R @ solve(K, metric, 1.0)
        assert (dW @ preserved).norm() < 1e-10 * dW.norm()
        metric.remember(K)


def test_identity_on_everything_is_ridge_regression():
    C, [(K, R)] = moment(), batches([5])
    A = solve(K, Preservation(NullSpace(*everything(C), L2)), 1.0)
    close(R @ A, R @ K.T @ torch.linalg.inv(K @ K.T + L2 * torch.eye(D_KEY, dtype=torch.float64)))


def test_statistics_on_the_null_space():
    """The fourth combination of subspace and Gram: G = U (U^T S U)^-1 U^T, S = lambda C + M."""
    C, [(K, R), (K2, _)] = moment(), batches([5, 12])
    U, _ = null_space(C, THRESHOLD, unit="absolute")
    metric = Preservation(Factored(Cholesky.of(U.T @ C.matrix @ U), LAMBDA, U))
    metric.remember(K2)
    G = U @ torch.linalg.inv(U.T @ (LAMBDA * C.matrix + K2 @ K2.T) @ U) @ U.T
    close(R @ solve(K, metric, 1.0), R @ torch.linalg.inv(torch.eye(5).double() + K.T @ G @ K) @ K.T @ G)


@pytest.mark.parametrize("subspace", ["all", "null"])
@pytest.mark.parametrize("gram", ["C", "identity"])
def test_the_base_a_recipe_asks_for(subspace, gram):
    """G = U (U^T (S + M) U)^-1 U^T of all four combinations, with memory, formed densely."""
    C, [(K, _), (K2, _)] = moment(), batches([5, 12])
    metric = Preservation(
        base_of(Preserve(subspace=subspace, gram=gram, lambda_=LAMBDA, l2=L2, threshold=THRESHOLD), C)
    )
    metric.remember(K2)
    values, vectors = torch.linalg.eigh(C.matrix)
    U = vectors[:, values < THRESHOLD] if subspace == "null" else vectors
    S = LAMBDA * C.matrix if gram == "C" else L2 * torch.eye(D_KEY, dtype=torch.float64)
    assert metric.rank == U.shape[1]
    close(metric.apply(K), U @ torch.linalg.inv(U.T @ (S + K2 @ K2.T) @ U) @ U.T @ K)


# properties


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(7)), st.integers(0, 1000), st.sampled_from([memit_metric, alphaedit_metric]))
def test_the_order_of_facts_in_a_batch_does_not_matter(order, seed, metric_of):
    C, [(K, R), (K2, _)] = moment(), batches([7, 5], seed)
    metric = metric_of(C)
    metric.remember(K2)
    close(R[:, list(order)] @ solve(K[:, list(order)], metric, 1.0), R @ solve(K, metric, 1.0))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=5), st.integers(0, 1000))
def test_memory_does_not_depend_on_how_keys_come_in(sizes, seed):
    C, [(K, _)] = moment(), batches([4], seed)
    in_parts, at_once = alphaedit_metric(C), alphaedit_metric(C)
    parts = [normal(D_KEY, n, seed=seed + i) for i, n in enumerate(sizes)]
    for part in parts:
        in_parts.remember(part)
    at_once.remember(torch.cat(parts, dim=1))
    close(in_parts.apply(K), at_once.apply(K))


def test_solving_changes_neither_keys_nor_memory():
    C, [(K, _)] = moment(), batches([5])
    for metric in (memit_metric(C), alphaedit_metric(C)):
        kept, first = K.clone(), metric.apply(K)
        solve(K, metric, 1.0)
        metric.remember(K)
        assert torch.equal(K, kept)
        assert torch.equal(first, type(metric)(metric._base).apply(K))


# what cannot be solved

SINGULAR = (
    r"^the 4 x 4 system of this batch is singular: some keys are not finite, \(nearly\) equal to each other, or outside the subspace "
    r"that may change; edit those facts in separate batches, use a recipe with slack 1, or set a ridge such as preserve.slack=1e-3$"
)


def test_infinite_keys_are_refused():
    K = normal(D_KEY, 4, seed=1)
    K[3, 2] = torch.nan
    with pytest.raises(EditError, match=SINGULAR):
        solve(K, memit_metric(moment()), 1.0)


@pytest.mark.parametrize("factor", [1.0, 1 + 1e-9, -2.0])
def test_parallel_keys_cannot_meet_two_constraints(factor):
    """Whatever rounding does to the last pivot: the seeds where an update comes out are listed."""

    def accepted(seed):
        K = normal(D_KEY, 4, seed=seed)
        K[:, 3] = K[:, 0] * factor
        try:
            solve(K, memit_metric(moment()), 0.0)
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
    close((W + (V - W @ K) @ solve(K, Preservation(Factored(C.cholesky)), 0.0)) @ K, V)


def test_equal_keys_are_no_trouble_with_slack():
    C, K, R = moment(), normal(D_KEY, 1, seed=0).repeat(1, 4), normal(D_VALUE, 4, seed=1)
    close(R @ solve(K, memit_metric(C), 1.0), memit_dense(K, R, C.matrix, gram([])))


def test_keys_outside_the_null_space_cannot_be_met_exactly():
    C = moment()
    _, V = null_space(C, THRESHOLD, unit="absolute")
    with pytest.raises(EditError, match=SINGULAR):
        solve(V @ normal(V.shape[1], 4, seed=1), alphaedit_metric(C), 0.0)


def test_singular_statistics():
    with pytest.raises(StatisticsError) as caught:
        _ = SecondMoment(torch.ones(2, 2).double(), 30, 5).cholesky
    assert str(caught.value) == (
        "the key statistics of layer 5 are singular: 30 tokens for d_key 2; use at least 4 tokens (--tokens) of varied text"
    )


def test_neurons_that_never_fired_do_not_make_statistics_singular():
    """They count as if they had fired once: hardly held, but finite."""
    C = moment()
    silent = C.matrix.clone()
    silent[3], silent[:, 3] = 0.0, 0.0
    found = SecondMoment(silent, C.tokens, C.layer)
    expected = silent.clone()
    expected[3, 3] = silent.trace() / (D_KEY - 1) / C.tokens
    close(found.regular, expected)
    assert torch.equal(found.matrix, silent) and C.regular is C.matrix
    K, R = normal(D_KEY, 4, seed=0), normal(D_VALUE, 4, seed=1)
    close(R @ solve(K, memit_metric(found), 1.0), memit_dense(K, R, expected, gram([])))


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
        wanted, _ = null_space(C, 0.01, unit="energy")
        close(U @ U.T, wanted @ wanted.T)


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


# keys


def test_half_the_bare_key_and_half_the_mean_of_the_prefixed_ones():
    kinds = ((1, "bare"), (0, "prefixed"), (0, "bare"), (0, "prefixed"), (0, "drift"), (0, "prefixed"), (1, "drift"))
    rows = [Row(fact, kind, (1, 2), 0) for fact, kind in kinds]
    x = normal(len(rows), D_KEY, seed=0)
    wanted = torch.stack([0.5 * x[2] + 0.5 * (x[1] + x[3] + x[5]) / 3, x[0]], dim=1)
    close(average_keys(rows, x, 2), wanted)
