"""How the activations of a fact's prompts are averaged to its key and its value."""

import torch

from bluedit.text.rows import Row
from bluedit.writing.keys import average_keys, average_values

KINDS = ((1, "bare"), (0, "prefixed"), (0, "bare"), (0, "prefixed"), (0, "drift"), (0, "prefixed"), (1, "drift"))
ROWS = [Row(fact, kind, (1, 2), 0) for fact, kind in KINDS]
X = torch.randn(len(ROWS), 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_half_the_bare_key_and_half_the_mean_of_the_prefixed_ones():
    expected = torch.stack([0.5 * X[2] + 0.5 * (X[1] + X[3] + X[5]) / 3, X[0]], dim=1)
    assert torch.allclose(average_keys(ROWS, X, 2), expected, rtol=1e-14)


def test_the_value_is_the_mean_of_the_rows_it_is_read_from():
    bare = [i for i, row in enumerate(ROWS) if row.is_bare]
    assert torch.equal(average_values([ROWS[i] for i in bare], X[bare], 2), torch.stack([X[2], X[0]], dim=1))
    twice = [Row(0, "bare", (1, 2), 0), Row(0, "bare", (3, 2), 0)]
    assert torch.allclose(average_values(twice, X[:2], 1)[:, 0], (X[0] + X[1]) / 2, rtol=1e-14)


def test_facts_that_share_a_column_share_the_mean():
    rows = [Row(0, kind, (1, 2), 0) for kind in ("bare", "prefixed", "bare", "prefixed", "drift")]
    x = X[: len(rows)]
    expected = 0.25 * (x[0] + x[2]) + 0.25 * (x[1] + x[3])
    assert torch.allclose(average_keys(rows, x, 1)[:, 0], expected, rtol=1e-14)


def test_groups_of_wordings_weigh_the_same_whatever_their_size():
    rows = [
        Row(0, kind, (1, 2), 0, group=group) for kind, group in (("bare", 0), ("prefixed", 0), ("bare", 1), ("bare", 1))
    ]
    expected = 0.25 * (X[0] + X[1]) + 0.25 * (X[2] + X[3])
    assert torch.allclose(average_keys(rows, X[:4], 1)[:, 0], expected, rtol=1e-14)
    expected = (X[0] / 2) + 0.25 * (X[2] + X[3])
    bare = [0, 2, 3]
    assert torch.allclose(average_values([rows[i] for i in bare], X[bare], 1)[:, 0], expected, rtol=1e-14)


def test_keys_have_the_strides_that_a_file_gives_back():
    """Also for a single fact: products of other strides may round differently."""
    found = average_keys(ROWS[1:2], X[1:2], 1)
    assert found.is_contiguous() and found.stride() == (1, 1)
