"""The second moment: what is derived from it, and statistics that are no use."""

import pytest
import torch
from maths_help import D_KEY, D_VALUE, close, gram, memit_dense, memit_operator, moment, normal

from bluedit.errors import StatisticsError
from bluedit.maths.moment import SecondMoment
from bluedit.maths.solve import solve


def test_singular_statistics():
    with pytest.raises(StatisticsError) as caught:
        SecondMoment(torch.ones(2, 2).double(), 30, 5).cholesky()
    assert str(caught.value) == (
        "the key statistics of layer 5 are singular: 30 tokens for d_key 2; use at least 4 tokens (--tokens) of varied text"
    )


def test_neurons_that_never_fired_do_not_make_statistics_singular():
    """They count as if they had fired once: hardly preserved, but finite."""
    C = moment()
    silent = C.matrix.clone()
    silent[3], silent[:, 3] = 0.0, 0.0
    found = SecondMoment(silent, C.tokens, C.layer)
    expected = silent.clone()
    expected[3, 3] = silent.trace() / (D_KEY - 1) / C.tokens
    close(found.regular(), expected)
    assert torch.equal(found.matrix, silent) and C.regular() is C.matrix
    K, R = normal(D_KEY, 4, seed=0), normal(D_VALUE, 4, seed=1)
    close(R @ solve(K, memit_operator(found), 1.0), memit_dense(K, R, expected, gram([])))


def test_the_spectrum_is_ascending_and_gives_back_the_matrix():
    C = moment()
    values, vectors = C.spectrum()
    assert torch.equal(values, values.sort().values)
    close(vectors @ torch.diag(values) @ vectors.T, C.matrix)
    single = SecondMoment(C.matrix.float(), C.tokens, C.layer)
    assert single.spectrum()[0].dtype == torch.float64


def test_what_is_derived_is_not_kept():
    """Factors and bases are as large as the matrix, so whoever needs one holds it."""
    C = moment()
    before = set(vars(C))
    C.cholesky(), C.spectrum(), C.regular()
    assert set(vars(C)) == before == {"matrix", "tokens", "layer"}
