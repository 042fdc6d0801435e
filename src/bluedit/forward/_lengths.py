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
_FAR_LONGER = 2.0


def longest_units(
    lm: EditableModel, rows: Sequence[Row], sites: Sequence[Site]
) -> Float[Tensor, "sites columns"] | None:
    """For each column (the numbers of the rows) the length that may stand in for that of its state at each site; None where there is none.

    States of the first tokens of a text are several times longer than others: they are attention sinks. A vector of a share of such a length is
    far longer than any other fact's, and what it does to other texts with the same token is as much larger. So a column whose value is read there
    is measured by the length of the states at the ends of its prompts, see `shortened`.
    """
    measured = measured_rows(rows)
    columns = sorted(measured)
    early = [rows[i] for column in columns for i in measured[column] if rows[i].subject_last < _SINK]
    ends = [replace(row, subject_last=row.target_start - 1) for row in early if row.target_start > _SINK]
    if not ends:
        return None
    seen = observe(lm, ends, sites)
    lengths = torch.stack([seen[site].norm(dim=-1) for site in sites])
    longest = torch.full((len(sites), 1 + columns[-1]), torch.inf, dtype=lengths.dtype, device=lm.device)
    for column in {row.fact for row in ends}:
        longest[:, column] = lengths[:, [i for i, row in enumerate(ends) if row.fact == column]].mean(dim=1)
    return longest


def shortened(
    states: Float[Tensor, "sites n d_value"], longest: Float[Tensor, "sites n"]
) -> Float[Tensor, "sites n d_value"]:
    """The states, those that are more than twice as long as `longest` cut to that length: no other difference means an attention sink."""
    share = longest.to(states) / states.norm(dim=-1)
    return states * torch.where(share < 1 / _FAR_LONGER, share, 1.0)[..., None]
