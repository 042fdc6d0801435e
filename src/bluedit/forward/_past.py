"""Cached attention keys and values of the tokens before the edited one; each distinct beginning is computed once.

The prompts of a batch begin with the same few neutral sentences. Rows that share their first tokens form a cluster: those tokens run
once per cluster, then each row's own tokens run on top of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import DynamicCache

from bluedit.forward._cache import Past
from bluedit.model.editable import EditableModel
from bluedit.model.hooks import hooked, taken
from bluedit.shapes import Tensor
from bluedit.text.rows import groups_by_length

_SHARED = 4  # tokens; a shorter common beginning does not repay a pass of its own


@torch.no_grad()
def past_of(lm: EditableModel, beginnings: Sequence[Sequence[int]]) -> Past:
    """Keys and values of these token sequences, one row each (they may be empty)."""
    distinct = sorted({tuple(ids) for ids in beginnings})
    shared = _shared_beginnings(distinct)
    leads = sorted(set(shared))
    nothing = Past((), torch.zeros(len(leads), 0, dtype=torch.long, device=lm.device))
    first = _extend(lm, nothing, leads)
    place = {lead: i for i, lead in enumerate(leads)}
    index = torch.tensor([place[lead] for lead in shared], device=lm.device)
    base = first.rows(index)
    whole = base.joined(_extend(lm, base, [ids[len(lead) :] for ids, lead in zip(distinct, shared, strict=True)]))
    rows = {ids: i for i, ids in enumerate(distinct)}
    return whole.rows(torch.tensor([rows[tuple(ids)] for ids in beginnings], device=lm.device))


def _shared_beginnings(distinct: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """For each of the sorted sequences, the beginning it shares with its cluster; empty where that is too short."""
    leads: list[tuple[int, ...]] = []
    start = 0
    common = [shared_length(a, b) for a, b in itertools.pairwise(distinct)]
    for end in range(1, len(distinct) + 1):
        if end == len(distinct) or common[end - 1] < _SHARED:
            length = min(common[start : end - 1], default=0)
            leads += [distinct[start][:length]] * (end - start)
            start = end
    return leads


def shared_length(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the common beginning of two sequences."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _extend(lm: EditableModel, past: Past, sequences: Sequence[Sequence[int]]) -> Past:
    """Keys and values of tokens that follow `past`, left-padded to one length; sequences of similar length run together."""
    width = max(map(len, sequences), default=0)
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    parts: list[Past] = []
    for group in groups_by_length([len(sequences[i]) for i in order]):
        index = [order[i] for i in group]
        part = _run(lm, past.rows(torch.tensor(index, device=lm.device)), [sequences[i] for i in index])
        parts.append(part.widened(width))
    back = torch.tensor(order, device=lm.device).argsort()
    layers = max((len(part.states) for part in parts), default=0)
    filled = [part for part in parts if part.states]
    if filled and len(filled) < len(parts):  # rows without tokens of their own get zeros under a zero mask
        parts = [part if part.states else part.blank_like(filled[0]) for part in parts]
    states = tuple(
        (
            taken(torch.cat([p.states[layer][0] for p in parts]), back),
            taken(torch.cat([p.states[layer][1] for p in parts]), back),
        )
        for layer in range(layers)
    )
    return Past(states, torch.cat([part.mask for part in parts])[back])


def _run(lm: EditableModel, past: Past, sequences: Sequence[Sequence[int]]) -> Past:
    ids, mask = lm.pad(sequences, left=True)
    if not ids.shape[1]:
        return Past((), mask)
    cache: Any = DynamicCache()
    for layer, (keys, values) in enumerate(past.states):
        cache.update(keys, values, layer)
    place = (past.mask.sum(dim=1, keepdim=True) + mask.cumsum(dim=1) - 1).clamp(min=0)
    with hooked(skip_head(lm)):
        lm.run(
            input_ids=ids,
            attention_mask=torch.cat([past.mask, mask], dim=1),
            position_ids=place,
            **lm.after(cache),
        )
    real = mask.bool()[:, None, :, None]
    new = slice(past.mask.shape[1], None)
    return Past(
        tuple((_masked(x.keys[:, :, new], real), _masked(x.values[:, :, new], real)) for x in cache.layers), mask
    )


def skip_head(lm: EditableModel) -> list[tuple[nn.Module, str, Callable[..., Any]]]:
    """Hooks that give the head a single position, for passes whose logits are not needed."""
    head = lm.anatomy.head
    return [] if head is None else [(head, "pre", lambda _m, args: (args[0][:1, :1], *args[1:]))]


def _masked(states: Tensor, real: Tensor) -> Tensor:
    """States with zeros at padding, where attention may have produced any value."""
    return torch.where(real.to(states.device), states, torch.zeros_like(states)).detach()
