"""With `objective.groups`, groups of texts take turns, too."""

import pytest
import torch

from bluedit.errors import RecipeError
from bluedit.methods.objective import Objective
from bluedit.text.rows import MOST_GROUPS, Row, rotations, turns_of
from bluedit.writing._recent import RecentLosses


def row(group, number, fact=0):
    return Row(fact, "bare" if group == 0 else "taught", (number,), 0, (1,), 1, group)


PROMPTS, ASKED, TOLD = [row(0, 1)], [row(1, 2), row(1, 3)], [row(2, 4)]
DRIFT = Row(0, "drift", (9,), 0)
ROWS = [*PROMPTS, *ASKED, *TOLD, DRIFT]


def numbers(parts):
    return [[row.ids[0] for row in part] for part in parts]


def test_one_group_at_a_time():
    assert numbers(rotations(ROWS, 1)) == [[1, 9], [2, 9], [4, 9], [1, 9], [3, 9], [4, 9]]
    assert turns_of(ROWS, 1) == {0: 6}


def test_two_of_three_groups_at_a_time():
    assert numbers(rotations(ROWS, 2)) == [[1, 2, 9], [4, 1, 9], [1, 3, 9], [4, 1, 9]]
    assert turns_of(ROWS, 2) == {0: 4}


@pytest.mark.parametrize("at_once", [0, 3, 50])
def test_more_than_there_are_means_all(at_once):
    assert numbers(rotations(ROWS, at_once)) == [[1, 2, 4, 9], [1, 3, 4, 9]]
    assert turns_of(ROWS, at_once) == {0: 2}


def test_facts_that_share_a_column_have_a_text_each():
    second = [row(MOST_GROUPS, 11), row(MOST_GROUPS + 1, 12)]
    assert numbers(rotations([*ROWS, *second], 1))[:3] == [[1, 11, 9], [2, 12, 9], [4, 11, 9]]


def test_a_fact_is_finished_when_texts_of_all_groups_had_their_turn():
    found = RecentLosses(6, ROWS, [0], torch.zeros(1), 1)
    for step in range(6):
        assert not found.below(0.5, step).any()
        found.note(step, torch.tensor([0.1]))
    assert found.below(0.5, 5).tolist() == [True]


def test_groups_without_turns_are_refused():
    Objective(groups=2, rotate=True).check()
    with pytest.raises(RecipeError, match=r"set objective\.rotate=true, too"):
        Objective(groups=2).check()
