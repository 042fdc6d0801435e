"""Tokenised prompts, and how they are grouped for forward passes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from typing import NamedTuple

_PREFIX_COST = (
    16  # prefix tokens, of which only keys and values are kept, that need as much memory as one token after them
)
_PADDING = 96  # tokens of padding in a group that cost as much time as another pass over all weights


class RowKind(StrEnum):
    """What a row is: the prompt itself, a sentence and the prompt, another wording, or "{subject} is a" for the KL term."""

    BARE = "bare"
    PREFIXED = "prefixed"
    TAUGHT = "taught"
    DRIFT = "drift"


class Repeat(NamedTuple):
    """A token that ends the subject's name once more, later in the same row.

    Attributes:
        at: index in the row's `ids`.
        word: token ids of the name's last word there.
        column: whose vector is added there.
    """

    at: int
    word: tuple[int, ...]
    column: int = -1


class Touched(NamedTuple):
    """A token to which a vector is added.

    Attributes:
        row: index of its row.
        at: index in the row's `ids`.
        column: whose vector it is.
    """

    row: int
    at: int
    column: int


@dataclass(frozen=True)
class Row:
    """One tokenised prompt.

    Attributes:
        fact: index of the fact it belongs to.
        kind: see RowKind.
        ids: token ids of the prompt and of all target tokens but the last, from which nothing is predicted.
        subject_last: index in `ids` of the token that holds the subject's last character.
        targets: token ids of the target; empty for drift rows. targets[t] is predicted at ids[target_start - 1 + t].
        target_start: number of prompt tokens.
        group: the kind of wording: 0 for the prompt. Drift rows of group 1 are about other relations.
        among: number of its fact among those that share the column, where each of these has groups of its own.
        teacher: token ids of the prompt after the fact itself, with all target tokens but the last; empty without a teacher.
        word: token ids of the subject's last word; empty where nobody asks for them.
        again: later mentions of the subject, in ascending order. What is written under its key acts there, too.
        name: another name of the subject that the text has in its place; empty for its own.
    """

    fact: int
    kind: str
    ids: tuple[int, ...]
    subject_last: int
    targets: tuple[int, ...] = ()
    target_start: int = 0
    group: int = 0
    among: int = 0
    teacher: tuple[int, ...] = ()
    word: tuple[int, ...] = ()
    again: tuple[Repeat, ...] = ()
    name: str = ""

    @property
    def is_bare(self) -> bool:
        """Whether it is the prompt alone."""
        return self.kind == RowKind.BARE

    @property
    def family(self) -> tuple[int, int, int]:
        """Column, fact and group: rows that share one weight in the column's loss and key."""
        return self.fact, self.among, self.group

    @property
    def is_drift(self) -> bool:
        """Whether it has no target and serves the KL term."""
        return self.kind == RowKind.DRIFT

    @property
    def is_context(self) -> bool:
        """Whether it is the fact's prompt, alone or after a sentence."""
        return self.kind in (RowKind.BARE, RowKind.PREFIXED)

    @property
    def at_start(self) -> bool:
        """Whether the subject's last token is the first of the text, as it can be without a leading special token."""
        return self.subject_last == 0

    @property
    def read_at(self) -> range:
        """Tokens whose logits are needed: those before the target's tokens, or the last token of a row without a target."""
        start = self.target_start - 1 if self.targets else len(self.ids) - 1
        return range(start, start + max(1, len(self.targets)))

    @property
    def suffix(self) -> int:
        """Tokens from the subject's last one on."""
        return len(self.ids) - self.subject_last


def touched(rows: Sequence[Row]) -> list[Touched]:
    """The tokens of some rows to which vectors are added, row by row: the subject's last one, and those of later mentions."""
    return [
        Touched(i, at, column)
        for i, row in enumerate(rows)
        for at, column in ((row.subject_last, row.fact), *((m.at, m.column) for m in row.again))
    ]


def linked(rows: Sequence[Row]) -> list[list[int]]:
    """Columns in groups, both in ascending order: columns whose vectors meet in a row are together."""
    of = {row.fact: row.fact for row in rows}
    for row in rows:
        for repeat in row.again:
            old, new = of[repeat.column], of[row.fact]
            if old != new:
                of = {column: new if group == old else group for column, group in of.items()}
    found: dict[int, list[int]] = {}
    for column in sorted(of):
        found.setdefault(of[column], []).append(column)
    return list(found.values())


def measured_rows(rows: Sequence[Row]) -> dict[int, list[int]]:
    """By column, the indices of the rows on which its value is measured: bare prompts, or all its texts where it has none."""
    texts: dict[int, list[int]] = {}
    bare: dict[int, list[int]] = {}
    for i, row in enumerate(rows):
        if not row.is_drift:
            texts.setdefault(row.fact, []).append(i)
        if row.is_bare:
            bare.setdefault(row.fact, []).append(i)
    return texts | bare


def rotations(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows in as many parts as the largest group has texts: each part has one text of every group, in turn, and all drift rows."""
    groups: dict[tuple[int, int, int], list[Row]] = {}
    for row in rows:
        if not row.is_drift:
            groups.setdefault(row.family, []).append(row)
    drift = [row for row in rows if row.is_drift]
    count = max(map(len, groups.values()), default=1)
    return [[*(texts[i % len(texts)] for texts in groups.values()), *drift] for i in range(count)]


def turns_of(rows: Sequence[Row]) -> dict[int, int]:
    """By column, after how many `rotations` each of its texts has had its turn."""
    sizes = Counter(row.family for row in rows if not row.is_drift)
    found: dict[int, int] = {}
    for (column, *_), size in sizes.items():
        found[column] = max(found.get(column, 1), size)
    return found


def evaluation_cost(rows: Sequence[Row], *, rotated: bool) -> int:
    """Tokens that an evaluation of one fact's loss keeps activations of.

    Args:
        rows: all rows of the fact.
        rotated: whether an evaluation has one of the `rotations` of these rows, rather than all. Keys and values of prefixes are kept for all.
    """
    evaluations = len(rotations(rows)) if rotated else 1
    return sum(row.suffix for row in rows) // evaluations + sum(row.subject_last // _PREFIX_COST for row in rows)


def chunks_by_cost(costs: Sequence[int], budget: int) -> list[list[int]]:
    """Indices in groups of ascending cost, so that (highest cost) x (size of the group) is at most `budget`; a group has at least one."""
    groups: list[list[int]] = []
    for index in sorted(range(len(costs)), key=lambda i: (costs[i], i)):
        if groups and costs[index] * (len(groups[-1]) + 1) <= budget:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def groups_by_length(lengths: Sequence[int]) -> list[list[int]]:
    """Indices of ascending lengths in groups, cut where padding to the next length would cost more than another pass."""
    groups: list[list[int]] = []
    for length, members in groupby(range(len(lengths)), key=lambda i: lengths[i]):
        padding = sum(length - lengths[i] for i in groups[-1]) if groups else 0
        if groups and padding <= _PADDING:
            groups[-1] += members
        else:
            groups.append(list(members))
    return groups


def chunks_by_length(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Indices of rows that are padded and run together: groups of similar lengths, each of at most `budget` tokens with its padding."""
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    groups = groups_by_length([lengths[i] for i in order])
    return [
        [order[group[i]] for i in chunk]
        for group in groups
        for chunk in chunks_by_cost([lengths[order[i]] for i in group], budget)
    ]
