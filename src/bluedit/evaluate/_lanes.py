"""Prompts of different lengths that are continued side by side, over cached keys and values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers.cache_utils import DynamicCache

from bluedit.evaluate.answers import check_finite
from bluedit.model.hooks import hooked, logits_of, only_at

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

    def follow(self, drafts: Sequence[Sequence[int]]) -> tuple[list[list[int]], Tensor]:
        """Run the last token of each row together with a draft of what may follow it.

        Rows then stand where single greedy steps would have brought them (speculative decoding, arXiv 2211.17192, with a given draft).

        Returns:
            For each row the tokens that greedy steps choose, up to and with the first one that its draft did not foretell; and the logits
            (rows x vocabulary) of the first token.

        Raises:
            ModelError: some logits are NaN or infinity.
        """
        lengths = [1 + len(draft) for draft in drafts]
        ids = torch.zeros(len(drafts), max(lengths), dtype=torch.long)
        real = torch.zeros_like(ids)
        for row, draft in enumerate(drafts):
            ids[row, 1 : lengths[row]] = torch.tensor(draft, dtype=torch.long)
            real[row, : lengths[row]] = 1
        ids, real = ids.to(self.tokens.device), real.to(self.tokens.device)
        ids[:, 0] = self.tokens
        places = self._mask.sum(dim=1, keepdim=True) + torch.arange(ids.shape[1], device=ids.device)
        places = places * real  # padding may stand beyond the context
        at, head = real.nonzero(as_tuple=True), self._lm.anatomy.head
        with hooked(only_at(head, at)):
            found = self._lm.run(
                input_ids=ids,
                attention_mask=torch.cat([self._mask, real], dim=1),
                position_ids=places,
                **self._lm.after(self._cache),
            ).logits
        logits = logits_of(found, head, at)
        check_finite(self._lm, logits)
        chosen = [
            _foretold(tokens.tolist(), draft)
            for tokens, draft in zip(logits.argmax(dim=-1).split(lengths), drafts, strict=True)
        ]
        for row, tokens in enumerate(chosen):
            real[row, len(tokens) :] = 0  # cached after a wrong token
        self._mask = torch.cat([self._mask, real], dim=1)
        self.tokens = torch.tensor([tokens[-1] for tokens in chosen], device=ids.device)
        return chosen, logits[at[1] == 0]

    def keep(self, lanes: Sequence[int]) -> None:
        """Only these rows go on."""
        if len(lanes) == len(self.numbers):
            return
        self.numbers = [self.numbers[lane] for lane in lanes]
        if lanes:
            index = torch.tensor(lanes, device=self.tokens.device)
            self.tokens, self._mask = self.tokens[index], self._mask[index]
            self._cache.batch_select_indices(index)


def _foretold(chosen: Sequence[int], draft: Sequence[int]) -> list[int]:
    """The chosen tokens up to and with the first one that is not in the draft."""
    right = next((i for i, token in enumerate(draft) if token != chosen[i]), len(draft))
    return list(chosen[: right + 1])


def end_tokens(lm: EditableModel) -> set[int]:
    """The model's own end tokens."""
    found = lm.model.generation_config.eos_token_id if lm.model.generation_config else None
    return set(found if isinstance(found, Iterable) else [] if found is None else [found])
