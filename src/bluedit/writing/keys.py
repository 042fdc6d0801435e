"""Keys and values of facts, read at the subject's last token of their prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from bluedit.facts.fact import Fact
from bluedit.forward import observe
from bluedit.model.editable import EditableModel
from bluedit.model.sites import Place, Site
from bluedit.shapes import Float, Tensor
from bluedit.text.prompts import rows_of
from bluedit.text.rows import Row, RowKind

_SHARES = {RowKind.BARE: 0.5, RowKind.PREFIXED: 0.5, RowKind.DRIFT: 0.0}  # of a fact's key
_SHARES_WITHOUT_PREFIXES = {RowKind.BARE: 1.0, RowKind.PREFIXED: 0.0, RowKind.DRIFT: 0.0}


def batch_rows(tokenizer: Any, facts: Sequence[Fact], prefixes: Sequence[str], columns: Sequence[int]) -> list[Row]:
    """All rows of a batch, numbered by the column of K and R that their fact has; facts that share one have one drift row."""
    shared = [replace(row, fact=columns[row.fact]) for row in rows_of(tokenizer, facts, prefixes, drift=True)]
    first_drift = {row.fact: i for i, row in reversed(list(enumerate(shared))) if row.is_drift}
    return [row for i, row in enumerate(shared) if not row.is_drift or first_drift[row.fact] == i]


def read_keys(
    lm: EditableModel, rows: Sequence[Row], layers: Sequence[int], n: int
) -> dict[int, Float[Tensor, "d_key n"]]:
    """Keys of n facts at these layers on the weights as they are, from one pass."""
    prompts = [row for row in rows if not row.is_drift]
    seen = observe(lm, prompts, [Site(Place.KEY, layer) for layer in layers])
    return {layer: average_keys(prompts, seen[Site(Place.KEY, layer)], n) for layer in layers}


def read_values(lm: EditableModel, rows: Sequence[Row], site: Site, n: int) -> Float[Tensor, "d_value n"]:
    """The value of each fact at a site on the weights as they are: that of its bare prompt."""
    bare = [row for row in rows if row.is_bare]
    return average_values(bare, observe(lm, bare, [site])[site], n)


def read_written_values(lm: EditableModel, rows: Sequence[Row], site: Site, n: int) -> Float[Tensor, "d_value n"]:
    """W k (and the bias) of each fact for its averaged key: the projection is linear, so its outputs average as its inputs do."""
    prompts = [row for row in rows if not row.is_drift]
    return average_keys(prompts, observe(lm, prompts, [site])[site], n)


def average_keys(rows: Sequence[Row], activations: Float[Tensor, "rows d_key"], n: int) -> Float[Tensor, "d_key n"]:
    """Half the bare prompt's key, half the mean over the prefixed ones; the bare key alone where there are no prefixes.

    Where facts share a subject (MEMIT-Merge), "the bare prompt's" is the mean over theirs.
    """
    prefixed = {row.fact for row in rows if row.kind == RowKind.PREFIXED}
    shares = [(_SHARES if row.fact in prefixed else _SHARES_WITHOUT_PREFIXES)[RowKind(row.kind)] for row in rows]
    return _average(rows, activations, n, shares)


def average_values(
    rows: Sequence[Row], activations: Float[Tensor, "rows d_value"], n: int
) -> Float[Tensor, "d_value n"]:
    """The bare prompt's value (the mean where facts share a subject)."""
    return _average(rows, activations, n, [float(row.is_bare) for row in rows])


def _average(rows: Sequence[Row], activations: Tensor, n: int, shares: Sequence[float]) -> Tensor:
    """Weighted sums by fact; the share of a kind is divided among the fact's rows of that kind."""
    count = Counter((row.fact, row.kind) for row in rows)
    weights = [share / count[row.fact, row.kind] for row, share in zip(rows, shares, strict=True)]
    owner = torch.tensor([row.fact for row in rows], device=activations.device)
    weight = torch.tensor(weights, device=activations.device, dtype=activations.dtype)
    sums = activations.new_zeros(n, activations.shape[1]).index_add_(0, owner, activations * weight[:, None])
    # with the strides that a file gives back, for one fact too: products of other strides may round otherwise
    return sums.T.clone(memory_format=torch.contiguous_format)
