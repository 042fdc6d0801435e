"""Which output positions of a runner belong to which fact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from bluedit.shapes import Float, Int, Tensor
from bluedit.text.rows import Row


@dataclass(frozen=True, eq=False)
class Positions:
    """Which of a runner's output positions belong to which fact.

    Attributes:
        owner: fact of each row.
        target: positions that predict target tokens.
        token: the target token at each of these.
        fact: the fact of each of these.
        weight: its weight in the fact's loss: 1 / (tokens of the target x prompts of the group x groups of the fact).
        drift: the position of each fact's drift row.
    """

    owner: Int[Tensor, "rows"]
    target: Int[Tensor, "positions"]
    token: Int[Tensor, "positions"]
    fact: Int[Tensor, "positions"]
    weight: Float[Tensor, "positions"]
    drift: Int[Tensor, "n"]

    @classmethod
    def of(cls, rows: Sequence[Row], facts: Sequence[int], like: Tensor) -> Positions:
        """Positions of rows in the order of a runner; `like` gives dtype and device."""
        numbers = {fact: i for i, fact in enumerate(facts)}
        prompts = Counter((row.fact, row.group) for row in rows if row.targets)
        groups = Counter(fact for fact, _ in prompts)
        target: list[int] = []
        token: list[int] = []
        fact_of: list[int] = []
        weight: list[float] = []
        drift = [0] * len(facts)
        position = 0
        for row in rows:
            count = len(row.targets)
            if count:
                target += range(position, position + count)
                token += row.targets
                fact_of += [numbers[row.fact]] * count
                weight += [1 / (count * prompts[row.fact, row.group] * groups[row.fact])] * count
            else:
                drift[numbers[row.fact]] = position
            position += max(1, count)
        owner = [numbers[row.fact] for row in rows]

        def index(numbers: list[int]) -> Tensor:
            return torch.tensor(numbers, device=like.device, dtype=torch.long)

        weights = torch.tensor(weight, device=like.device, dtype=like.dtype)
        return cls(index(owner), index(target), index(token), index(fact_of), weights, index(drift))
