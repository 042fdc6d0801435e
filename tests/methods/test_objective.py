"""The objective of facts that are taught again."""

import pytest

from bluedit.methods.objective import Objective


@pytest.mark.parametrize(
    ("factor", "steps", "expected"),
    [(1.0, 28, (28, 0.5, 0.1)), (2.0, 28, (14, 1.0, 0.2)), (4.0, 3, (2, 2.0, 0.4)), (4.0, 1, (1, 2.0, 0.4))],
)
def test_facts_taught_again_have_more_room_and_cross_it_in_fewer_steps(factor, steps, expected):
    again = Objective(clamp=0.5, learning_rate=0.1, steps=steps, clamp_again=factor).again
    assert (again.steps, again.clamp, again.learning_rate) == pytest.approx(expected)
