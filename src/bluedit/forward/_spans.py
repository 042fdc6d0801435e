"""Attention of packed rows: each row to the tokens before it and to itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from bluedit.forward._cache import Past
from bluedit.model.hooks import taken
from bluedit.shapes import Bool, Float, Tensor


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

    def by_row(self, states: Float[Tensor, "heads tokens width"]) -> Float[Tensor, "rows heads length width"]:
        """The states of each row, with zeros after those of shorter rows. A causal mask keeps these from the others."""
        if self._places is None:
            return states.unflatten(1, (len(self), self.length)).transpose(0, 1)
        padded = states.new_zeros(len(self), self.length, len(states), states.shape[-1])
        padded[tuple(place.to(states.device) for place in self._places)] = states.transpose(0, 1)
        return padded.transpose(1, 2)

    def packed(self, states: Float[Tensor, "rows heads length width"]) -> Float[Tensor, "tokens heads width"]:
        """The states of each row one after the other, without those that `by_row` added."""
        by_token = states.transpose(1, 2)
        return by_token.flatten(0, 1) if self._places is None else taken(by_token, self._places)

    def with_past(
        self, layer: int, key: Float[Tensor, "rows shared length width"], value: Tensor
    ) -> tuple[Float[Tensor, "rows shared seen width"], Tensor]:
        """Keys and values of a layer, after those of the tokens before each row."""
        if not self.past.states:
            return key, value
        old_key, old_value = self.past.states[layer]
        return torch.cat([old_key, key], dim=2), torch.cat([old_value, value], dim=2)

    def masked(self, window: int | None, like: Tensor) -> Float[Tensor, "rows 1 1 length seen"]:
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


def attention(
    spans: Sequence[Span],
    layer: int,
    query: Float[Tensor, "heads tokens width"],
    key: Float[Tensor, "shared tokens width"],
    value: Float[Tensor, "shared tokens other_width"],
    window: int | None = None,
    softcap: float | None = None,
) -> Float[Tensor, "tokens heads other_width"]:
    """Causal attention of each row to its past and to itself. `query` is already scaled; groups of heads share keys.

    The gradient is written out, because a row has few tokens: what autograd would record for so many small products takes longer than
    the products.
    """
    return _Attention.apply(query, key, value, spans, layer, window, softcap)  # pyright: ignore[reportReturnType]


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        spans: Sequence[Span],
        layer: int,
        window: int | None,
        softcap: float | None,
    ) -> Tensor:
        sizes = [span.tokens for span in spans]
        out = query.new_empty(query.shape[1], len(query), value.shape[-1])
        kept: list[tuple[Tensor, ...]] = []
        parts = zip(spans, out.split(sizes), *(one.split(sizes, dim=1) for one in (query, key, value)), strict=True)
        for span, found, q, k, v in parts:
            q, own_k, own_v = (span.by_row(states) for states in (q, k, v))
            q = _heads_joined(q, len(key))
            k, v = span.with_past(layer, own_k, own_v)
            scores = q @ k.mT
            if softcap is not None:
                scores = (scores / softcap).tanh_() * softcap
            seen = scores.unflatten(2, (-1, span.length)) + span.masked(window, scores)
            weights = seen.softmax(dim=-1, dtype=_wide(scores)).flatten(2, 3)
            found[:] = span.packed(_heads_apart(weights.to(v.dtype) @ v, span.length))
            kept.append((q, own_k, own_v, weights) if softcap is None else (q, own_k, own_v, weights, scores))
        ctx.spans, ctx.layer, ctx.softcap, ctx.per_span = spans, layer, softcap, len(kept[0])
        ctx.shapes = query.shape, key.shape, value.shape
        ctx.save_for_backward(*(tensor for tensors in kept for tensor in tensors))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        saved, each = ctx.saved_tensors, ctx.per_span
        kept = [saved[i : i + each] for i in range(0, len(saved), each)]
        sizes = [span.tokens for span in ctx.spans]
        found = [gradient.new_empty(tokens, heads, width) for heads, tokens, width in ctx.shapes]
        parts = zip(ctx.spans, kept, *(one.split(sizes) for one in (gradient, *found)), strict=True)
        for span, (q, own_k, own_v, weights, *capped), of_out, dq, dk, dv in parts:
            k, v = span.with_past(ctx.layer, own_k, own_v)
            own = slice(k.shape[2] - span.length, None)
            of_out = _heads_joined(span.by_row(of_out.transpose(0, 1)), k.shape[1])
            dv[:] = span.packed(weights[..., own].mT.to(of_out.dtype) @ of_out)
            of_weights = (of_out @ v.mT).to(weights.dtype)
            wide = weights * (of_weights - (of_weights * weights).sum(dim=-1, keepdim=True))
            if capped:
                wide *= 1 - (capped[0].to(wide.dtype) / ctx.softcap).square()
            of_scores = wide.to(of_out.dtype)
            dq[:] = span.packed(_heads_apart(of_scores @ k, span.length))
            dk[:] = span.packed(of_scores[..., own].mT @ q)
        return *(one.transpose(0, 1) for one in found), None, None, None, None


def _wide(scores: Tensor) -> torch.dtype:
    return torch.float32 if scores.dtype.itemsize < 4 else scores.dtype


def _heads_joined(
    states: Float[Tensor, "rows heads length width"], shared: int
) -> Float[Tensor, "rows shared queries width"]:
    """The heads that share a key, one after the other."""
    return states.unflatten(1, (shared, -1)).flatten(2, 3)


def _heads_apart(
    states: Float[Tensor, "rows shared queries width"], length: int
) -> Float[Tensor, "rows heads length width"]:
    return states.unflatten(2, (-1, length)).flatten(1, 2)
