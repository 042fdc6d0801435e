"""The padded layout: one sequence per row. It works for every model with a cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from bluedit.forward._cache import Past
from bluedit.forward._layout import Layout, Places
from bluedit.model.editable import EditableModel
from bluedit.model.precision import short_attention
from bluedit.shapes import Int, Tensor
from bluedit.text.rows import Row, groups_by_length


class Padded(Layout):
    """One sequence for each row, padded to the longest: for every model with a cache."""

    def __init__(self, lm: EditableModel, ids: Tensor, mask: Tensor, past: Past) -> None:
        self.lm, self._ids, self._own, self._past, self.sequences = lm, ids, mask, past, len(ids)
        self._mask = torch.cat([past.mask, mask], dim=1)
        self._place = past.mask.sum(dim=1, keepdim=True) + torch.arange(ids.shape[1], device=ids.device)

    @staticmethod
    def passes(lengths: Sequence[int]) -> list[list[int]]:
        return groups_by_length(lengths)

    @classmethod
    def of(cls, lm: EditableModel, rows: Sequence[Row], past: Past) -> Padded:
        return cls(lm, *lm.pad([row.ids[row.subject_last :] for row in rows]), past)

    def places(self, rows: Int[Tensor, "n"], offsets: Int[Tensor, "n"]) -> Places:
        return rows, offsets

    def keep(self, rows: Int[Tensor, "n"], hidden: Sequence[Tensor]) -> tuple[Padded, list[Tensor]]:
        layout = Padded(self.lm, self._ids[rows], self._own[rows], self._past.rows(rows))
        return layout, [states[..., rows.to(states.device), :, :] for states in hidden]

    def run(self) -> Any:
        with short_attention(self.lm):
            return self.lm.run(
                input_ids=self._ids,
                attention_mask=self._mask,
                position_ids=self._place,
                **(self.lm.after(self._past.cache()) if self._past.states else {"use_cache": False}),
            )
