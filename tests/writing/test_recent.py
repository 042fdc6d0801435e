"""A fact is finished when each of its texts, which take turns, had a small loss in its last turn."""

import torch

from bluedit.text.rows import Row, turns_of
from bluedit.writing._recent import RecentLosses

# fact 0 has three texts in its largest group, fact 1 one
ROWS = [Row(0, "bare", (1,), 0)] + [Row(0, "taught", (i,), 0, group=1) for i in (2, 3, 4)] + [Row(1, "bare", (5,), 0)]
ROWS += [Row(fact, "drift", (6,), 0) for fact in (0, 0, 0, 0, 1, 1)]


def losses(*values):
    found = RecentLosses(3, ROWS, [0, 1], torch.zeros(1))
    for step, pair in enumerate(values):
        found.note(step, torch.tensor(pair))
    return found, len(values) - 1


def test_turns_are_the_texts_of_the_largest_group():
    assert turns_of(ROWS) == {0: 3, 1: 1}


def test_a_fact_with_one_text_is_finished_after_one_evaluation():
    found, step = losses((0.1, 0.1))
    assert found.below(0.5, step).tolist() == [False, True]
    found, step = losses((0.1, 0.1), (0.1, 0.9))
    assert found.below(0.5, step).tolist() == [False, False]


def test_a_fact_with_three_texts_needs_the_last_three_losses():
    found, step = losses((0.9, 1.0), (0.1, 1.0), (0.1, 1.0))
    assert found.below(0.5, step).tolist() == [False, False]
    found.note(3, torch.tensor((0.1, 1.0)))
    assert found.below(0.5, 3).tolist() == [True, False]
    assert torch.allclose(found.mean(3), torch.tensor((0.1, 1.0)))


def test_the_mean_is_that_of_a_facts_own_turns():
    """A fact with one text beside one with three: its mean is its last loss."""
    found, step = losses((0.9, 0.9), (0.6, 0.4), (0.3, 0.1))
    torch.testing.assert_close(found.mean(step), torch.tensor((0.6, 0.1)))
    found, step = losses((0.9, 0.9), (0.6, 0.4))
    torch.testing.assert_close(found.mean(step), torch.tensor((0.75, 0.4)))


def test_those_that_go_on_keep_their_losses():
    found, step = losses((0.9, 0.1), (0.9, 0.9))
    found.keep(torch.tensor([1]))
    assert found.below(0.5, step).tolist() == [False]
    torch.testing.assert_close(found.mean(step), torch.tensor([0.9]))
