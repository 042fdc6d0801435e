"""Cached attention keys and values, as tensors that forward passes read and never change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import Cache, DynamicLayer

from bluedit.shapes import Int, Tensor


class FixedLayer(DynamicLayer):
    """Fixed attention keys and values: `update` returns them joined with the new ones, and stores nothing."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values

    def update(self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any) -> tuple[Tensor, Tensor]:
        return torch.cat([self.keys, key_states], dim=-2), torch.cat([self.values, value_states], dim=-2)  # pyright: ignore[reportCallIssue, reportArgumentType]


@dataclass(frozen=True)
class Past:
    """Cached attention keys and values of the tokens before each row's own.

    Attributes:
        states: per layer, keys and values, rows x heads x tokens x width, on the layer's device; zero where `mask` is zero.
        mask: 1 for real tokens, 0 for padding, rows x tokens.
    """

    states: tuple[tuple[Tensor, Tensor], ...]
    mask: Int[Tensor, "rows tokens"]

    def rows(self, index: Tensor) -> Past:
        """These rows only, without tokens that are padding in all of them."""
        mask = self.mask[index]
        used = [i for i, real in enumerate(mask.bool().any(dim=0).tolist()) if real]
        if not used:
            return Past((), mask[:, :0])
        tokens = _indices(used, mask.device)
        states = tuple((_some(k, index, tokens), _some(v, index, tokens)) for k, v in self.states)
        return Past(states, mask[:, tokens])

    def cache(self) -> Cache | None:
        """A cache for the model's forward that a forward pass leaves unchanged; None without states."""
        return Cache(layers=[FixedLayer(k, v) for k, v in self.states]) if self.states else None

    def widened(self, width: int) -> Past:
        """Padded on the left to `width` tokens."""
        more = width - self.mask.shape[1]
        pad = nn.functional.pad
        states = tuple((pad(k, (0, 0, more, 0)), pad(v, (0, 0, more, 0))) for k, v in self.states)
        return Past(states, pad(self.mask, (more, 0)))

    def blank_like(self, other: Past) -> Past:
        """These rows, which have no states, with zeros in the shape of the other's."""
        rows = len(self.mask)
        return Past(
            tuple((k.new_zeros(rows, *k.shape[1:]), v.new_zeros(rows, *v.shape[1:])) for k, v in other.states),
            self.mask,
        )

    def joined(self, other: Past) -> Past:
        """These tokens followed by those of `other`."""
        if not self.states or not other.states:
            states = self.states or other.states
        else:
            states = tuple(
                (torch.cat([k, ok], dim=2), torch.cat([v, ov], dim=2))
                for (k, v), (ok, ov) in zip(self.states, other.states, strict=True)
            )
        return Past(states, torch.cat([self.mask, other.mask], dim=1))


def _indices(ascending: Sequence[int], device: torch.device) -> Tensor | slice:
    """An index tensor, or a slice where that is the same: it needs no copy."""
    first, last = ascending[0], ascending[-1]
    return slice(first, last + 1) if last - first + 1 == len(ascending) else torch.tensor(ascending, device=device)


def _some(states: Tensor, rows: Tensor, tokens: Tensor | slice) -> Tensor:
    rows = rows.to(states.device)
    if isinstance(tokens, slice):
        return states[:, :, tokens].index_select(0, rows)
    return states.index_select(0, rows).index_select(2, tokens.to(states.device))
