"""Schedules: which layers are written, and for which target."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bluedit.maths.schedule import Step, boundary, single, spread
from bluedit.methods.schedules import Boundary, Own, Replay, Schedule, Single, Spread

LAYERS = st.lists(st.integers(0, 60), min_size=1, max_size=12, unique=True).map(sorted)


def test_memit_of_the_paper():
    assert spread([4, 5, 6, 7, 8]) == (
        Step(4, 8, 1 / 5), Step(5, 8, 1 / 4), Step(6, 8, 1 / 3), Step(7, 8, 1 / 2), Step(8, 8, 1.0),
    )  # fmt: skip


def test_pmet_shares_are_square_roots():
    assert [step.share for step in spread([4, 5, 6, 7], power=0.5)] == [4**-0.5, 3**-0.5, 2**-0.5, 1.0]


def test_blue_of_the_paper():
    assert boundary([4, 5, 6, 7, 8]) == (Step(4, 4, 1.0), Step(8, 8, 1.0))


@settings(max_examples=50, deadline=None)
@given(LAYERS, st.floats(-100, 100))
def test_spread_consumes_the_whole_residual_evenly(layers, residual):
    """Each step takes its share of what is still missing: equal parts, and nothing is left."""
    left, parts = residual, []
    for step in spread(layers):
        assert step.target == layers[-1]
        parts.append(step.share * left)
        left -= parts[-1]
    assert [step.layer for step in spread(layers)] == layers
    assert left == pytest.approx(0, abs=1e-9)
    assert parts == pytest.approx([residual / len(layers)] * len(layers), abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(LAYERS, st.floats(0.1, 3))
def test_the_last_step_takes_all_that_is_left(layers, power):
    for schedule in (
        Spread(power=power),
        Boundary(),
        Boundary(first=0.5),
        Single(),
        Replay(),
        Replay(every=True),
        Own(),
    ):
        steps = schedule.steps(layers)
        assert steps[-1].share == 1
        assert all(0 < step.share <= 1 and step.target >= step.layer for step in steps)
        assert [step.layer for step in steps] == sorted({step.layer for step in steps})


def test_partial_strength_and_replay():
    assert Boundary(first=0.75).steps([4, 5, 8]) == (Step(4, 4, 0.75), Step(8, 8, 1.0))
    assert Boundary(first=0.75).steps([4]) == (Step(4, 4, 1.0),)
    assert Replay().steps([4, 5, 8]) == (Step(4, 4, 1.0), Step(8, 8, 1.0))
    assert Replay(every=True).steps([4, 5, 8]) == (Step(4, 4, 1.0), Step(5, 5, 1.0), Step(8, 8, 1.0))


def test_each_layer_for_itself():
    assert Own().steps([4, 5, 8]) == (Step(4, 4, 1.0), Step(5, 5, 1.0), Step(8, 8, 1.0))
    assert (Own().portion(1), Own().portion(2), Own().portion(8), Boundary().portion(2)) == (1.0, 1.0, 0.25, 1.0)


@settings(max_examples=50, deadline=None)
@given(LAYERS)
def test_boundary_writes_the_two_ends_for_themselves(layers):
    steps = boundary(layers)
    assert [step.layer for step in steps] == sorted({layers[0], layers[-1]})
    assert all(step.target == step.layer and step.share == 1 for step in steps)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 60))
def test_on_one_layer_all_schedules_agree(layer):
    assert boundary([layer]) == single([layer]) == spread([layer]) == (Step(layer, layer, 1.0),)


def test_the_parts_are_these_functions():
    layers = [2, 3, 5]
    assert Spread(power=0.5).steps(layers) == spread(layers, 0.5)
    assert (Boundary().steps(layers), Single().steps(layers)) == (boundary(layers), single(layers))
    assert Schedule.choices == {"spread": Spread, "boundary": Boundary, "single": Single, "own": Own, "replay": Replay}
