"""Keys and values of facts, read at the subject's last token of their prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from bluedit.facts.fact import Fact
from bluedit.forward import observe
from bluedit.model.editable import EditableModel
from bluedit.model.sites import Place, Site
from bluedit.shapes import Float, Tensor
from bluedit.text.prompts import drift_row, rows_of
from bluedit.text.rows import Row


def batch_rows(tokenizer: Any, facts: Sequence[Fact], prefixes: Sequence[str], columns: Sequence[int]) -> BatchRows:
    """All rows of a batch, numbered by the column of K and R that they belong to; facts that share a column have one drift row.

    The first token of a text is an attention sink: its hidden state is some eight times longer than others and nearly the same in every
    text. Nothing can be stored under its key. So where a subject is just that token, the bare prompt is written at the token after it, in a
    column of its own with a target of its own, and the fact's first column is that of the prefixed prompts.
    """
    rows: list[Row] = []
    moved: dict[int, int] = {}  # column at the token after the subject, by the column of the prefixed prompts
    count = 1 + max(columns)
    with_drift: set[int] = set()
    for row in rows_of(tokenizer, facts, prefixes, drift=True):
        column = columns[row.fact]
        if row.is_bare and row.at_start and row.target_start > 1:
            if prefixes and column not in moved:
                moved[column] = count + len(moved)
            place = moved.setdefault(column, column)
            rows.append(replace(row, fact=place, subject_last=1))
            if place not in with_drift:
                with_drift.add(place)
                rows.append(drift_row(tokenizer, facts[row.fact], place, earliest=1))
        elif not row.is_drift:
            rows.append(replace(row, fact=column))
        elif column not in with_drift:
            with_drift.add(column)
            rows.append(replace(row, fact=column))
    return BatchRows(
        tuple(rows), count + sum(place != column for column, place in moved.items()), frozenset(moved.values())
    )


@dataclass(frozen=True)
class BatchRows:
    """The rows of a batch.

    Attributes:
        rows: prompts and drift rows; `Row.fact` is the column of K and R.
        n: number of columns.
        after_subject: columns whose keys are read at the token after the subject. Such keys resemble each other, so one least-squares write
            delivers a small part of their residuals.
    """

    rows: tuple[Row, ...]
    n: int
    after_subject: frozenset[int] = frozenset()


def measured_rows(rows: Sequence[Row], column: int) -> list[int]:
    """Indices of the rows on which a column's value is measured: bare prompts, or the prefixed ones where it has none."""
    mine = [i for i, row in enumerate(rows) if row.fact == column and not row.is_drift]
    return [i for i in mine if rows[i].is_bare] or mine


def read_keys(
    lm: EditableModel, rows: Sequence[Row], layers: Sequence[int], n: int
) -> dict[int, Float[Tensor, "d_key n"]]:
    """Keys of n facts at these layers on the weights as they are, from one pass."""
    prompts = [row for row in rows if not row.is_drift]
    seen = observe(lm, prompts, [Site(Place.KEY, layer) for layer in layers])
    return {layer: average_keys(prompts, seen[Site(Place.KEY, layer)], n) for layer in layers}


def read_values(lm: EditableModel, rows: Sequence[Row], site: Site, n: int) -> Float[Tensor, "d_value n"]:
    """The value of each column at a site on the weights as they are: that of its bare prompt."""
    measured = {i for column in range(n) for i in measured_rows(rows, column)}
    chosen = [row for i, row in enumerate(rows) if i in measured]
    return average_values(chosen, observe(lm, chosen, [site])[site], n)


def read_written_values(lm: EditableModel, rows: Sequence[Row], site: Site, n: int) -> Float[Tensor, "d_value n"]:
    """W k (and the bias) of each fact for its averaged key: the projection is linear, so its outputs average as its inputs do."""
    prompts = [row for row in rows if not row.is_drift]
    return average_keys(prompts, observe(lm, prompts, [site])[site], n)


def average_keys(rows: Sequence[Row], activations: Float[Tensor, "rows d_key"], n: int) -> Float[Tensor, "d_key n"]:
    """Half the bare prompt's key, half the mean over the prefixed ones; one kind alone where a column lacks the other.

    Where facts share a subject (MEMIT-Merge), "the bare prompt's" is the mean over theirs.
    """
    kinds: dict[int, set[str]] = {}
    for row in rows:
        if not row.is_drift:
            kinds.setdefault(row.fact, set()).add(row.kind)
    shares = [0.0 if row.is_drift else 1 / len(kinds[row.fact]) for row in rows]
    return _average(rows, activations, n, shares)


def average_values(
    rows: Sequence[Row], activations: Float[Tensor, "rows d_value"], n: int
) -> Float[Tensor, "d_value n"]:
    """The mean over the rows of each column."""
    return _average(rows, activations, n, [1.0] * len(rows))


def _average(rows: Sequence[Row], activations: Tensor, n: int, shares: Sequence[float]) -> Tensor:
    """Weighted sums by fact; the share of a kind is divided among the fact's rows of that kind."""
    count = Counter((row.fact, row.kind) for row in rows)
    weights = [share / count[row.fact, row.kind] for row, share in zip(rows, shares, strict=True)]
    owner = torch.tensor([row.fact for row in rows], device=activations.device)
    weight = torch.tensor(weights, device=activations.device, dtype=activations.dtype)
    sums = activations.new_zeros(n, activations.shape[1]).index_add_(0, owner, activations * weight[:, None])
    # with the strides that a file gives back, for one fact too: products of other strides may round otherwise
    return sums.T.clone(memory_format=torch.contiguous_format)
