"""The losses of the last evaluations, in which a fact's texts take turns."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bluedit.shapes import Bool, Float, Int, Tensor
from bluedit.text.rows import Row, turns_of


class RecentLosses:
    """The losses of n facts in the last evaluations; after `parts` of them every text of every fact has had its turn."""

    def __init__(self, parts: int, rows: Sequence[Row], facts: Sequence[int], like: Tensor) -> None:
        self._losses = like.new_full((parts, len(facts)), torch.inf)
        turns = turns_of(rows) if parts > 1 else {}
        self._turns = torch.tensor([turns.get(fact, 1) for fact in facts], device=like.device)

    def note(self, step: int, loss: Float[Tensor, "n"]) -> None:
        """Take the losses of an evaluation."""
        self._losses[step % len(self._losses)] = loss

    def mean(self, step: int) -> Float[Tensor, "n"]:
        """By fact, of its last turns up to this evaluation, as many as it has texts in turn."""
        own = self._own(step) & (self._age(step) <= step)[:, None]
        return torch.where(own, self._losses, 0.0).sum(dim=0) / own.sum(dim=0)

    def below(self, bound: float, step: int) -> Bool[Tensor, "n"]:
        """Facts of which every text had a loss below the bound in its last turn."""
        return torch.where(self._own(step), self._losses, -torch.inf).max(dim=0).values < bound

    def _age(self, step: int) -> Int[Tensor, "parts"]:
        """How many evaluations ago each loss was noted."""
        return (step - torch.arange(len(self._losses), device=self._losses.device)) % len(self._losses)

    def _own(self, step: int) -> Bool[Tensor, "parts n"]:
        """Which losses are of a fact's last turns."""
        return self._age(step)[:, None] < self._turns

    def keep(self, going: Tensor) -> None:
        """Go on with these facts only."""
        self._losses, self._turns = self._losses[:, going], self._turns[going]
