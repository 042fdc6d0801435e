"""The packed layout: all rows in a single sequence, with attention of its own.

Linear maps, norms and activations treat every token alike, so rows of any length can be packed without padding, and a matrix product
over all of them reads each weight once. Only attention needs to know where a row ends and which tokens come before it. It is computed
here, for rows of similar length at a time, for every model that calls transformers' attention interface. On a CPU these are rows of one
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
from bluedit.model.editable import EditableModel
from bluedit.model.hooks import taken
from bluedit.model.precision import attention_implementation
from bluedit.shapes import Bool, Float, Int, Tensor
from bluedit.text.rows import Row

_NAME = "bluedit_packed"
_attend: ContextVar[Callable[..., Tensor]] = ContextVar("_attend")


class Span:
    """Packed rows of similar length, with the tokens before them.

    Attributes:
        lengths: tokens of each row.
        length: of the longest.
        tokens: of all rows together.
        past: cached keys and values of the tokens before each row.
    """

    def __init__(self, lengths: Sequence[int], past: Past) -> None:
        self.lengths, self.past = tuple(lengths), past
        self.length, self.tokens = max(lengths), sum(lengths)
        self._bias: dict[tuple[int | None, torch.dtype, torch.device], Tensor] = {}
        self._places: tuple[Tensor, Tensor] | None = None
        if len(set(lengths)) > 1:
            slots = torch.arange(self.length, device=past.mask.device)
            real = slots < torch.tensor(self.lengths, device=past.mask.device)[:, None]
            row, slot = real.nonzero(as_tuple=True)
            self._places = (row, slot)

    def __len__(self) -> int:
        return len(self.lengths)

    def keep(self, rows: Sequence[int]) -> Span:
        """The span with these rows only."""
        index = torch.tensor(list(rows), device=self.past.mask.device)
        return Span([self.lengths[row] for row in rows], self.past.rows(index))

    def _by_row(self, states: Float[Tensor, "heads tokens width"]) -> Float[Tensor, "rows heads length width"]:
        """The states of each row, with zeros after those of shorter rows. A causal mask keeps these from the others."""
        if self._places is None:
            return states.unflatten(1, (len(self), self.length)).transpose(0, 1)
        row, slot = (place.to(states.device) for place in self._places)
        padded = states.new_zeros(len(self), self.length, len(states), states.shape[-1])
        return padded.index_put((row, slot), states.transpose(0, 1)).transpose(1, 2)

    def _packed(self, out: Float[Tensor, "rows length heads width"]) -> Float[Tensor, "tokens heads width"]:
        return out.flatten(0, 1) if self._places is None else taken(out, self._places)

    def attention(
        self,
        layer: int,
        query: Float[Tensor, "heads tokens width"],
        key: Float[Tensor, "shared tokens width"],
        value: Float[Tensor, "shared tokens other_width"],
        window: int | None,
        softcap: float | None,
    ) -> Float[Tensor, "tokens heads other_width"]:
        """Causal attention of each row to its past and to itself. `query` is already scaled; groups of heads share keys."""
        q, k, v = (self._by_row(states) for states in (query, key, value))
        q = q.unflatten(1, (len(key), -1)).flatten(2, 3)  # rows, shared, heads each x tokens, width
        old_k, old_v = self.past.states[layer] if self.past.states else (k[:, :, :0], v[:, :, :0])
        scores = torch.cat([q @ old_k.mT, q @ k.mT], dim=-1)
        if softcap is not None:
            scores = (scores / softcap).tanh() * softcap
        scores = scores.unflatten(2, (-1, self.length)) + self._masked(window, scores)
        wide = torch.float32 if scores.dtype.itemsize < 4 else scores.dtype
        weights = scores.softmax(dim=-1, dtype=wide).to(scores.dtype).flatten(2, 3)
        before, own = weights.split([old_k.shape[2], k.shape[2]], dim=-1)
        out = before @ old_v + own @ v
        return self._packed(out.unflatten(2, (-1, self.length)).permute(0, 3, 1, 2, 4).flatten(2, 3))

    def _masked(self, window: int | None, like: Tensor) -> Float[Tensor, "rows 1 1 length seen"]:
        """The mask added to scores: a token sees its row's tokens up to itself, and none that is `window` or more before it."""
        of = window, like.dtype, like.device
        if of not in self._bias:
            before = self.past.mask
            start = before.sum(dim=1, keepdim=True)
            asking = start + torch.arange(self.length, device=before.device)
            there = torch.cat([before.cumsum(dim=1) - 1, asking], dim=1)
            distance = asking[:, :, None] - there[:, None, :]
            seen: Bool[Tensor, "..."] = distance >= 0
            seen[:, :, : before.shape[1]] &= before.bool()[:, None, :]
            if window is not None:
                seen &= distance < window
            bias = torch.zeros(seen.shape, dtype=like.dtype, device=seen.device)
            self._bias[of] = bias.masked_fill_(~seen, torch.finfo(like.dtype).min)[:, None, None].to(like.device)
        return self._bias[of]


@contextmanager
def packed_attention(lm: EditableModel, spans: Sequence[Span]) -> Iterator[None]:
    """Inside the `with`, the attention layers of `lm` read one sequence as these packed rows.

    Layers that pass more than a scale, a window and a soft cap (a bias of their own, sinks) raise ValueError.
    """
    sizes = [span.tokens for span in spans]

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
        query = query[0] * (query.shape[-1] ** -0.5 if scaling is None else scaling)
        parts = zip(spans, *(states.split(sizes, dim=1) for states in (query, key[0], value[0])), strict=True)
        out = [span.attention(module.layer_idx, q, k, v, sliding_window, softcap) for span, q, k, v in parts]
        return torch.cat(out).unsqueeze(0)

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
