"""Prompts of different lengths that are continued side by side, over cached keys and values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers.cache_utils import DynamicCache

if TYPE_CHECKING:
    from torch import Tensor

    from bluedit.forward import Past
    from bluedit.model.editable import EditableModel


class Lanes:
    """Rows that are continued side by side.

    Attributes:
        numbers: which rows, in the caller's numbering.
        tokens: the last token of each.

    Args:
        rows: token ids.
        past: cached keys and values of all of a row's tokens but the last.
    """

    def __init__(self, lm: EditableModel, numbers: Sequence[int], rows: Sequence[Sequence[int]], past: Past) -> None:
        self.numbers = list(numbers)
        self.tokens = torch.tensor([row[-1] for row in rows], device=lm.device)
        self._lm = lm
        self._cache: Any = DynamicCache()
        for layer, (keys, values) in enumerate(past.states):
            self._cache.update(keys, values, layer)
        self._mask = past.mask

    def step(self, choose: Callable[[Tensor], Tensor]) -> Tensor:
        """Run the last token of each row: logits (rows x vocabulary) of the next one. What `choose` takes of them becomes the last token."""
        places = self._mask.sum(dim=1, keepdim=True)
        self._mask = torch.cat([self._mask, torch.ones_like(places)], dim=1)
        logits = self._lm.run(
            input_ids=self.tokens[:, None],
            attention_mask=self._mask,
            position_ids=places,
            **self._lm.after(self._cache),
        ).logits[:, -1]
        self.tokens = choose(logits)
        return logits

    def keep(self, lanes: Sequence[int]) -> None:
        """Only these rows go on."""
        if len(lanes) == len(self.numbers):
            return
        self.numbers = [self.numbers[lane] for lane in lanes]
        if lanes:
            index = torch.tensor(lanes, device=self.tokens.device)
            self.tokens, self._mask = self.tokens[index], self._mask[index]
            self._cache.batch_select_indices(index)


def end_tokens(lm: EditableModel) -> set[int]:
    """The model's own end tokens."""
    found = lm.model.generation_config.eos_token_id if lm.model.generation_config else None
    return set(found if isinstance(found, Iterable) else [] if found is None else [found])
