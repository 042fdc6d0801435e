"""BetaEdit's null space and LyapLock's lambda, against dense formulas."""

import pytest
import torch
from maths_help import D_KEY, batches, close, gram, moment

from bluedit.errors import RecipeError
from bluedit.maths.control import ScaledPreservation
from bluedit.maths.leakage import NullSpaceRule, RefreshedNullSpace
from bluedit.maths.moment import SecondMoment
from bluedit.maths.preserve import Preservation
from bluedit.maths.solve import solve
from bluedit.methods.preserve import Control, Controlled, Covariance, NullSpace

L2, LEAKAGE, SHARE = 0.7, 0.4, 0.6


def part(**more) -> NullSpace:
    return NullSpace(l2=L2, threshold=SHARE, unit="rank", leakage=LEAKAGE, **more)


def dense(K, R, C, M, null_of):
    _, vectors = torch.linalg.eigh(null_of)
    U = vectors[:, : round(SHARE * len(C))]
    P = U @ U.T
    return R @ K.T @ P @ torch.linalg.inv((K @ K.T + M + LEAKAGE * C) @ P + L2 * torch.eye(len(C), dtype=C.dtype))


# 30 keys and more are folded into the base
@pytest.mark.parametrize("sizes", [(3, 4, 5), (30, 2, 40)])
def test_leakage_enters_the_gram_matrix(sizes):
    C, done = moment(), []
    operator = part().operator(C)
    assert isinstance(operator, Preservation)
    for K, R in batches(sizes, seed=7):
        close(R @ solve(K, operator, 1.0), dense(K, R, C.matrix, gram(done), C.matrix))
        operator.remember(K)
        done.append(K)


@pytest.mark.parametrize("asked", [True, False])  # or only at the end, so that earlier refreshes are left out
def test_the_null_space_is_found_anew_as_keys_come_in(asked):
    C, done, null_of, last = moment(), [], moment().matrix, 0
    operator = part(refresh=6).operator(C)
    assert isinstance(operator, RefreshedNullSpace)
    sizes = (4, 3, 2, 5, 1)
    for i, (K, R) in enumerate(batches(sizes, seed=3)):
        if asked or i == len(sizes) - 1:
            close(R @ solve(K, operator, 1.0), dense(K, R, C.matrix, gram(done), null_of))
        operator.remember(K)
        done.append(K)
        count = sum(k.shape[1] for k in done)
        if count - last >= 6:
            null_of, last = (gram(done) / count + LEAKAGE * C.matrix) / (LEAKAGE + 1), count
    assert last == 14
    (K, R), *_ = batches([2], seed=11)
    close(R @ solve(K, operator.fresh(), 1.0), dense(K, R, C.matrix, gram([]), C.matrix))


def test_a_refreshed_space_differs_from_the_first():
    C, (K, R) = moment(), batches([2], seed=11)[0]
    updates = []
    for refresh in (0, 5):
        operator = part(refresh=refresh).operator(C)
        operator.remember(50 * batches([8], seed=5)[0][0])
        updates.append(R @ solve(K, operator, 1.0))
    assert (updates[0] - updates[1]).norm() > 1e-3 * updates[0].norm()


def test_a_refreshed_space_is_one_of_ordinary_text_without_leakage_too():
    generator = torch.Generator().manual_seed(0)
    ordinary = torch.randn(12, 6, dtype=torch.float64, generator=generator)
    C = SecondMoment(ordinary @ ordinary.T, 6, 1)
    rule = NullSpaceRule(threshold=1e-6, unit="absolute", l2=1.0, leakage=0.0)
    K = torch.randn(12, 2, dtype=torch.float64, generator=generator)
    base = rule.refreshed(C, K)
    assert base.dimensions == 4
    assert base.apply(torch.cat([ordinary, K], dim=1)).abs().max() < 1e-6


def test_shrinking_moves_the_eigenvalues_towards_their_mean():
    C = moment()
    shrunk = C.shrunk(0.25)
    mean = C.matrix.diagonal().mean()
    assert torch.allclose(torch.linalg.eigvalsh(shrunk.matrix), 0.75 * torch.linalg.eigvalsh(C.matrix) + 0.25 * mean)
    assert torch.allclose(shrunk.matrix.trace(), C.matrix.trace())
    assert C.shrunk(0.0) is C
    (K, R), *_ = batches([3], seed=2)
    one = R @ solve(K, Covariance(lambda_=2.0, shrink=0.25).operator(C), 1.0)
    close(one, R @ K.T @ torch.linalg.inv(2.0 * shrunk.matrix + K @ K.T))


def test_drift_is_the_mean_over_ordinary_keys():
    C, dW = moment(), torch.randn(5, D_KEY, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    operator = Controlled(lambda_=3.0).operator(C)
    assert operator.drift(dW) == pytest.approx(float(torch.trace(dW @ C.matrix @ dW.T)))
    assert isinstance(operator.scaled(6.0), ScaledPreservation)
    assert operator.scaled(6.0).drift(dW) == pytest.approx(operator.drift(dW))


def test_lambda_follows_the_drift():
    part = Controlled(lambda_=2.0, tolerance=2.0, rate=0.5)
    assert part.weight_after([]) == 1
    assert part.weight_after([Control(1.0, 3.0)]) == 1  # half of what is tolerated
    assert part.weight_after([Control(1.0, 3.0), Control(1.0, 12.0)]) == 1.5  # twice what is tolerated
    assert part.weight_after([Control(1.0, 3.0), Control(1.0, 12.0), Control(1.5, 3.0)]) == 1.25  # it falls again
    assert part.weight_after([Control(1.0, 0.0), Control(1.0, 0.0)]) == 1


def test_a_controlled_operator_is_kept_while_lambda_stays():
    part, C = Controlled(lambda_=2.0, tolerance=1.0), moment()
    operator = part.operator(C)
    assert part.adapted(operator, [])[0] is operator
    other, weight = part.adapted(operator, [Control(1.0, 1.0), Control(1.0, 4.0)])
    assert other is not operator and weight == 4
    assert part.adapted(other, [Control(1.0, 1.0), Control(1.0, 4.0)])[0] is other
    (K, R), *_ = batches([3], seed=2)
    close(R @ solve(K, other, 1.0), R @ K.T @ torch.linalg.inv(8.0 * C.matrix + K @ K.T))
    same, weight = Covariance().adapted(operator, [Control(9.0, 1.0)])
    assert same is operator and weight == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NullSpace(leakage=-1), "preserve.leakage is -1; it must be at least 0"),
        (lambda: NullSpace(refresh=2.5), "preserve.refresh must be a whole number, not 2.5"),
        (lambda: Controlled(tolerance=0), "preserve.tolerance is 0; it must be above 0"),
        (lambda: Covariance(shrink=2), "preserve.shrink is 2; it must be between 0 and 1"),
    ],
)
def test_numbers_that_cannot_be(make, message):
    with pytest.raises(RecipeError) as caught:
        make()
    assert str(caught.value) == message
