"""Layouts of the rows of one forward pass: packed into one sequence, or padded, one sequence each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import accumulate, groupby
from typing import Any

import torch

from bluedit.forward._packed import Span, packed_attention
from bluedit.forward._past import Past
from bluedit.model.editable import EditableModel
from bluedit.model.precision import short_attention
from bluedit.shapes import Int, Tensor
from bluedit.text.rows import Row, groups_by_length

Places = tuple[Int[Tensor, "n"], Int[Tensor, "n"]]  # (sequence, token) in hidden states, sequences x tokens x width


class Layout(ABC):
    """Suffixes of rows as a model's input.

    Attributes:
        sequences: how many sequences the input has.
    """

    sequences: int

    @staticmethod
    @abstractmethod
    def passes(lengths: Sequence[int]) -> list[list[int]]:
        """Groups of rows that share a forward pass, from the ascending lengths of their suffixes."""

    @classmethod
    @abstractmethod
    def of(cls, lm: EditableModel, rows: Sequence[Row], past: Past) -> Layout:
        """The suffixes of these rows after `past`."""

    @abstractmethod
    def places(self, rows: Int[Tensor, "n"], offsets: Int[Tensor, "n"]) -> Places:
        """Places in hidden states of the tokens at these offsets of these rows' suffixes."""

    @abstractmethod
    def keep(self, rows: Int[Tensor, "n"], hidden: Sequence[Tensor]) -> tuple[Layout, list[Tensor]]:
        """The layout, and hidden states in it, with these rows only."""

    @abstractmethod
    def run(self) -> Any:
        """The model's output."""


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
        return layout, [states[rows] for states in hidden]

    def run(self) -> Any:
        with short_attention(self.lm):
            return self.lm.model(
                input_ids=self._ids,
                attention_mask=self._mask,
                position_ids=self._place,
                **(self.lm.after(self._past.cache()) if self._past.states else {"use_cache": False}),
            )


class Packed(Layout):
    """All rows packed into one sequence, without padding: for models whose attention goes through transformers' interface."""

    sequences = 1

    def __init__(self, lm: EditableModel, ids: Tensor, place: Tensor, spans: Sequence[Span]) -> None:
        self.lm, self._ids, self._place, self._spans = lm, ids, place, tuple(spans)
        self._lengths = [span.length for span in spans for _ in range(len(span))]
        self._starts = torch.tensor([0, *accumulate(self._lengths)][:-1], device=ids.device)

    @staticmethod
    def passes(lengths: Sequence[int]) -> list[list[int]]:
        return [list(range(len(lengths)))]

    @classmethod
    def of(cls, lm: EditableModel, rows: Sequence[Row], past: Past) -> Packed:
        lengths = [row.suffix for row in rows]
        ids = torch.tensor([[token for row in rows for token in row.ids[row.subject_last :]]], device=lm.device)
        place = torch.tensor([[at for row in rows for at in range(row.subject_last, len(row.ids))]], device=lm.device)
        every = torch.arange(len(rows), device=lm.device)
        groups = every.split([len(list(same)) for _, same in groupby(lengths)])
        spans = [Span(lengths[group[0]], past.rows(group)) for group in groups]
        return cls(lm, ids, place, spans)

    def places(self, rows: Int[Tensor, "n"], offsets: Int[Tensor, "n"]) -> Places:
        return torch.zeros_like(rows), self._starts[rows] + offsets

    def keep(self, rows: Int[Tensor, "n"], hidden: Sequence[Tensor]) -> tuple[Packed, list[Tensor]]:
        kept, start = rows.tolist(), 0
        spans: list[Span] = []
        for span in self._spans:
            end = start + len(span)
            if of_span := [row - start for row in kept if start <= row < end]:
                spans.append(span.keep(of_span))
            start = end
        starts = self._starts.tolist()
        tokens = torch.tensor(
            [at for row in kept for at in range(starts[row], starts[row] + self._lengths[row])], device=rows.device
        )
        layout = Packed(self.lm, self._ids[:, tokens], self._place[:, tokens], spans)
        return layout, [states[:, tokens] for states in hidden]

    def run(self) -> Any:
        with packed_attention(self.lm, self._spans):
            return self.lm.model(input_ids=self._ids, position_ids=self._place, use_cache=False)
