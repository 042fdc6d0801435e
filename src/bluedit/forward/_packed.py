"""The packed layout: all rows in a single sequence, with attention of its own (`_spans`).

Linear maps, norms and activations treat every token alike, so rows of any length can be packed without padding, and a matrix product
over all of them reads each weight once. Only attention needs to know where a row ends and which tokens come before it. It is computed
for rows of similar length at a time, for every model that calls transformers' attention interface. On a CPU these are rows of one
length. Elsewhere, where a small product costs as much as a large one, they are padded to one length, at most to twice their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import accumulate, groupby
from typing import Any

import torch
from transformers import AttentionInterface

from bluedit.forward._cache import Past
from bluedit.forward._layout import Layout, Places
from bluedit.forward._spans import Span, attention
from bluedit.model.editable import EditableModel
from bluedit.model.precision import attention_implementation
from bluedit.shapes import Int, Tensor
from bluedit.text.rows import Row

_NAME = "bluedit_packed"
_attend: ContextVar[Callable[..., Tensor]] = ContextVar("_attend")


@contextmanager
def packed_attention(lm: EditableModel, spans: Sequence[Span]) -> Iterator[None]:
    """Inside the `with`, the attention layers of `lm` read one sequence as these packed rows.

    Layers that pass more than a scale, a window and a soft cap (a bias of their own, sinks) raise ValueError.
    """

    def attend(
        module: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        _mask: Any,
        *_args: Any,
        scaling: float | None = None,
        sliding_window: int | None = None,
        softcap: float | None = None,
        **rest: Any,
    ) -> Tensor:
        strange = [name for name, given in rest.items() if isinstance(given, Tensor) and name not in ("position_ids",)]
        if strange or query.shape[0] != 1:
            raise ValueError(f"packed attention does not support {', '.join(strange) or 'several sequences'}")
        query = query * (query.shape[-1] ** -0.5 if scaling is None else scaling)
        q, k, v = (states.squeeze(0) for states in (query, key, value))
        return attention(spans, module.layer_idx, q, k, v, sliding_window, softcap).unsqueeze(0)

    token = _attend.set(attend)
    try:
        with attention_implementation(lm, _NAME):
            yield
    finally:
        _attend.reset(token)


def _same(length: int) -> int:
    return length


def _within_a_factor_of_two(length: int) -> int:
    return (length - 1).bit_length()


class _Called(Exception):
    pass


@torch.no_grad()
def uses_attention_interface(lm: EditableModel) -> bool:
    """Whether the model's attention goes through transformers' interface. Where a family computes its own, packed rows would mix."""

    def called(*_args: Any, **_kwargs: Any) -> Tensor:
        raise _Called

    token = _attend.set(called)
    try:
        with attention_implementation(lm, _NAME):
            lm.run(input_ids=torch.zeros(1, 1, dtype=torch.long, device=lm.device), use_cache=False)
    except _Called:
        return True
    finally:
        _attend.reset(token)
    return False


def _dispatch(*args: Any, **kwargs: Any) -> tuple[Tensor, None]:
    return _attend.get()(*args, **kwargs), None


AttentionInterface.register(_NAME, _dispatch)


class Packed(Layout):
    """All rows packed into one sequence, without padding: for models whose attention goes through transformers' interface."""

    sequences = 1

    def __init__(self, lm: EditableModel, ids: Tensor, place: Tensor, spans: Sequence[Span]) -> None:
        self.lm, self._ids, self._place, self._spans = lm, ids, place, tuple(spans)
        self._lengths = [length for span in spans for length in span.lengths]
        self._starts = torch.tensor([0, *accumulate(self._lengths)][:-1], device=ids.device)

    @staticmethod
    def passes(lengths: Sequence[int]) -> list[list[int]]:
        return [list(range(len(lengths)))]

    @classmethod
    def of(cls, lm: EditableModel, rows: Sequence[Row], past: Past) -> Packed:
        lengths = [row.suffix for row in rows]
        ids = torch.tensor([[token for row in rows for token in row.ids[row.subject_last :]]], device=lm.device)
        place = torch.tensor([[at for row in rows for at in range(row.subject_last, len(row.ids))]], device=lm.device)
        similar = _same if lm.device.type == "cpu" else _within_a_factor_of_two
        groups = [list(those) for _, those in groupby(range(len(rows)), key=lambda i: similar(lengths[i]))]
        spans = [
            Span([lengths[i] for i in group], past.rows(torch.tensor(group, device=lm.device))) for group in groups
        ]
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
        return layout, [states[..., tokens.to(states.device), :] for states in hidden]

    def run(self) -> Any:
        with packed_attention(self.lm, self._spans):
            return self.lm.run(input_ids=self._ids, position_ids=self._place, use_cache=False)
