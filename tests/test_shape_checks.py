"""Shapes named in annotations are checked while tests run: wrong ones must fail here, or no test would notice."""

import ast

import pytest
import torch
from jaxtyping import TypeCheckError

import bluedit
import shape_checks
from bluedit.maths import solve as solve_module
from bluedit.maths.solve import solve
from bluedit.writing.target import Targets
from shape_checks import FIRST, OFTEN, CheckedLoader, add_checks, sampled


def test_every_module_is_loaded_with_its_shapes_checked():
    assert isinstance(bluedit.__spec__.loader, CheckedLoader)
    assert isinstance(solve_module.__spec__.loader, CheckedLoader)


@pytest.fixture(autouse=True)
def every_call_is_checked(monkeypatch):
    monkeypatch.setattr(shape_checks, "OFTEN", 1)


class Identity:
    def apply(self, K):
        return K


def test_an_argument_of_the_wrong_shape_raises():
    solve(torch.eye(4, 2), Identity(), 1.0)
    with pytest.raises(TypeCheckError, match="K"):
        solve(torch.ones(4), Identity(), 1.0)


def test_a_result_of_the_wrong_shape_raises(monkeypatch):
    monkeypatch.setattr(torch, "cholesky_solve", lambda right, factor: right.T)
    with pytest.raises(TypeCheckError, match="return"):
        solve(torch.eye(4, 2), Identity(), 1.0)


def test_the_first_calls_and_some_of_the_later_ones_are_checked(monkeypatch):
    monkeypatch.undo()
    asked = []
    call = sampled(lambda: asked.append("careful"), lambda: asked.append("plain"))
    for _ in range(FIRST + 2 * OFTEN):
        call()
    assert asked[:FIRST] == ["careful"] * FIRST
    assert asked[FIRST:].count("careful") == 2


def test_fields_of_different_sizes_raise():
    z, steps, loss = torch.zeros(3, 2), torch.zeros(2, dtype=torch.long), torch.zeros(2)
    Targets(z, z, steps, loss)
    with pytest.raises(TypeCheckError, match="loss"):
        Targets(z, z, steps, torch.zeros(5))


def test_functions_without_shapes_are_left_as_they_are():
    code = ast.parse(
        'States = Float[Tensor, "n d"]\n'
        "def plain(x: int) -> Tensor: ...\n"
        'def shaped(x: Float[Tensor, "n"] | None) -> None: ...\n'
        "def named(*, x: States) -> None: ...\n"
        'class Fields:\n    x: Int[Tensor, "n"]\n'
        "class Other:\n    x: Tensor\n"
    )
    checked = {node.name for node in add_checks(code).body if getattr(node, "decorator_list", [])}
    assert checked == {"shaped", "named", "Fields"}
