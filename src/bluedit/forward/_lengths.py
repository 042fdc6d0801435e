"""The unit of a target's steps and bound: the length of a hidden state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from bluedit.forward._observe import observe
from bluedit.model.editable import EditableModel
from bluedit.model.sites import Site
from bluedit.shapes import Float, Tensor
from bluedit.text.rows import Row, measured_rows

_SINK = 2  # tokens at the beginning of a text whose states may be several times longer than those of others


def longest_units(
    lm: EditableModel, rows: Sequence[Row], sites: Sequence[Site]
) -> Float[Tensor, "sites columns"] | None:
    """For each column (the numbers of the rows) the largest unit at each site; None where none is bounded.

    States of the first tokens of a text are several times longer than others: they are attention sinks. A vector of a share of such a length is
    far longer than any other fact's, and what it does to other texts with the same token is as much larger. So the unit of a column whose value
    is read there is at most the length of the states at the ends of its prompts.
    """
    columns = sorted({row.fact for row in rows})
    longest = torch.full((len(sites), 1 + columns[-1]), torch.inf, device=lm.device)
    for column in columns:
        early = [rows[i] for i in measured_rows(rows, column) if rows[i].subject_last < _SINK]
        ends = [replace(row, subject_last=row.target_start - 1) for row in early if row.target_start > _SINK]
        if ends:
            seen = observe(lm, ends, sites)
            longest[:, column] = torch.stack([seen[site].norm(dim=-1).mean() for site in sites])
    return longest if torch.isfinite(longest).any() else None


def shortened(
    states: Float[Tensor, "sites n d_value"], longest: Float[Tensor, "sites n"]
) -> Float[Tensor, "sites n d_value"]:
    """The states, those that are longer than `longest` cut to that length."""
    share = (longest.to(states) / states.norm(dim=-1)).clamp(max=1.0)
    return states * share[..., None]
