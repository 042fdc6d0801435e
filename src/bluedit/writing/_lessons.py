"""What the model says of each target after it has read the fact: the teacher of LTI (arXiv 2410.07819)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from bluedit.shapes import Float, Tensor
from bluedit.text.rows import Row
from bluedit.writing._losses import log_softmax

if TYPE_CHECKING:
    from bluedit.forward import Runner


@torch.no_grad()
def lessons_of(
    parts: Sequence[Runner], make_runner: Callable[[Sequence[Row]], Runner], like: Tensor
) -> dict[int, Float[Tensor, "taught vocabulary"]]:
    """By part, log-probabilities at the targets of its rows that have a teacher, in their order; parts without such rows are left out.

    Args:
        parts: runners of the rows.
        make_runner: makes a runner of other rows.
        like: gives the dtype.
    """
    found = {}
    for number, part in enumerate(parts):
        if taught := [_after_fact(row) for row in part.rows if row.teacher]:
            found[number] = _lesson(make_runner(taught), taught, like)
    return found


def _after_fact(row: Row) -> Row:
    """The row after the fact; nothing is added to it."""
    return replace(row, ids=row.teacher, subject_last=0, again=(), target_start=len(row.teacher) + 1 - len(row.targets))


def _lesson(runner: Runner, rows: Sequence[Row], like: Tensor) -> Float[Tensor, "taught vocabulary"]:
    """Log-probabilities at the targets of rows, in their order and not in the runner's."""
    parts = runner.logits(torch.zeros_like(runner.values)).split([len(row.targets) for row in runner.rows])
    places = {id(row): i for i, row in enumerate(runner.rows)}
    return log_softmax(torch.cat([parts[places[id(row)]] for row in rows]).to(like.dtype))
