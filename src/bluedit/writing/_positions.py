"""Which output positions of a runner belong to which fact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from bluedit.shapes import Bool, Float, Int, Tensor
from bluedit.text.rows import Row, touched


@dataclass(frozen=True, eq=False)
class Positions:
    """Which of a runner's output positions belong to which fact.

    Attributes:
        owner: fact of each row.
        added: fact whose vector each touched token gets.
        target: positions that predict target tokens.
        token: the target token at each of these.
        fact: the fact of each of these.
        weight: its weight in the fact's loss: 1 / (tokens of the target x prompts of the group x groups of the fact).
        drift: positions of the drift rows, in an order that does not depend on the runner's: by fact, group and text.
        drift_fact: the fact of each of these.
        drift_share: 1 / how many of them its fact has in its group.
        drift_main: which of them are "{subject} is a", and not about other relations.
        context: rows that are the prompt, alone or after a prefix.
        taught: which of `target` have a teacher.
        taught_weight: weight of each of these in its fact's teacher term.
    """

    owner: Int[Tensor, "rows"]
    added: Int[Tensor, "touched"]
    target: Int[Tensor, "positions"]
    token: Int[Tensor, "positions"]
    fact: Int[Tensor, "positions"]
    weight: Float[Tensor, "positions"]
    drift: Int[Tensor, "held"]
    drift_fact: Int[Tensor, "held"]
    drift_share: Float[Tensor, "held"]
    drift_main: Bool[Tensor, "held"]
    context: Int[Tensor, "contexts"]
    taught: Int[Tensor, "taught"]
    taught_weight: Float[Tensor, "taught"]

    @classmethod
    def of(cls, rows: Sequence[Row], facts: Sequence[int], like: Tensor) -> Positions:
        """Positions of rows in the order of a runner; `like` gives dtype and device."""
        numbers = {fact: i for i, fact in enumerate(facts)}
        prompts = Counter(row.family for row in rows if row.targets)
        groups = Counter(column for column, *_ in prompts)
        lessons = Counter(row.fact for row in rows if row.teacher)
        starts = [0]
        for row in rows:
            starts.append(starts[-1] + len(row.read_at))
        asked = [(row, start + t, t) for row, start in zip(rows, starts, strict=False) for t in range(len(row.targets))]
        held = drift_order(rows, numbers)
        sizes = Counter((rows[i].fact, rows[i].group) for i in held)

        def index(numbers: list[int]) -> Tensor:
            return torch.tensor(numbers, device=like.device, dtype=torch.long)

        def wide(numbers: list[float]) -> Tensor:
            return torch.tensor(numbers, device=like.device, dtype=like.dtype)

        return cls(
            owner=index([numbers[row.fact] for row in rows]),
            added=index([numbers[token.column] for token in touched(rows)]),
            target=index([position for _, position, _ in asked]),
            token=index([row.targets[t] for row, _, t in asked]),
            fact=index([numbers[row.fact] for row, _, _ in asked]),
            weight=wide([1 / (len(r.targets) * prompts[r.family] * groups[r.fact]) for r, _, _ in asked]),
            drift=index([starts[i] for i in held]),
            drift_fact=index([numbers[rows[i].fact] for i in held]),
            drift_share=wide([1 / sizes[rows[i].fact, rows[i].group] for i in held]),
            drift_main=index([rows[i].group for i in held]) == 0,
            context=index([i for i, row in enumerate(rows) if row.is_context]),
            taught=index([i for i, (row, _, _) in enumerate(asked) if row.teacher]),
            taught_weight=wide([1 / (len(r.targets) * lessons[r.fact]) for r, _, _ in asked if r.teacher]),
        )


def drift_order(rows: Sequence[Row], numbers: Mapping[int, int]) -> list[int]:
    """Indices of the drift rows by fact (as numbered), group and text."""
    drift = [i for i, row in enumerate(rows) if row.is_drift]
    return sorted(drift, key=lambda i: (numbers[rows[i].fact], rows[i].group, rows[i].ids))
