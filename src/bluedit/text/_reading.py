"""Reading rows a few tokens at a time while text is sampled.

The fastest way is a cache of our own, which copies nothing. It holds attention keys and values alone. Families with other states (state
space, convolution, linear attention) get the cache that they make for themselves. Families without any read each row from its start.
Which of these is right for a model is measured on a few tokens.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from functools import partial
from inspect import signature
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

from bluedit.errors import FAMILY_ERRORS, out_of_memory
from bluedit.model.devices import widened
from bluedit.model.editable import EditableModel
from bluedit.model.precision import TOLERANCE
from bluedit.shapes import Float, Int, Tensor

log = logging.getLogger(__name__)
_PROBE = ((3, 5, 7, 4), (6, 8, 2, 9))


class Reader(ABC):
    """Rows that are read a few tokens at a time, at most `length` tokens of each."""

    about: str

    def __init__(self, lm: EditableModel, length: int) -> None:
        self.lm, self.length = lm, length

    @abstractmethod
    def read(self, ids: Int[Tensor, "rows new"]) -> Float[Tensor, "rows vocabulary"]:
        """Logits after the rows' next tokens."""

    def _last_logits(self, **arguments: Any) -> tuple[Tensor, Any]:
        """Logits at the last token, and the whole output."""
        if "logits_to_keep" in signature(self.lm.model.forward).parameters:
            arguments["logits_to_keep"] = 1
        output = self.lm.run(**arguments)
        return output.logits[:, -1], output


class GrowingReader(Reader):
    about = "a cache of keys and values that grows in place"

    def __init__(self, lm: EditableModel, length: int) -> None:
        super().__init__(lm, length)
        self._cache = Cache(layer_class_to_replicate=partial(_Growing, length))  # pyright: ignore[reportArgumentType]

    def read(self, ids: Int[Tensor, "rows new"]) -> Float[Tensor, "rows vocabulary"]:
        return self._last_logits(input_ids=ids, **self.lm.after(self._cache))[0]


class OwnReader(Reader):
    about = "the model's own cache"

    def __init__(self, lm: EditableModel, length: int) -> None:
        super().__init__(lm, length)
        self._cache: Any = None

    def read(self, ids: Int[Tensor, "rows new"]) -> Float[Tensor, "rows vocabulary"]:
        past = {"use_cache": True} if self._cache is None else self.lm.after(self._cache)
        logits, output = self._last_logits(input_ids=ids, **past)
        self._cache = output.get(next(iter(self.lm.after(None))))
        if self._cache is None:
            raise ValueError("it returns no cache")
        return logits


class WholeReader(Reader):
    about = "whole rows at every step, which is slow"

    def __init__(self, lm: EditableModel, length: int) -> None:
        super().__init__(lm, length)
        self._ids: Tensor | None = None

    def read(self, ids: Int[Tensor, "rows new"]) -> Float[Tensor, "rows vocabulary"]:
        self._ids = ids if self._ids is None else torch.cat([self._ids, ids], dim=1)
        return self._last_logits(input_ids=self._ids, use_cache=False)[0]


@torch.no_grad()
def reader_for(lm: EditableModel) -> type[Reader]:
    """The fastest kind of reader whose logits are those of a plain forward pass; one that is not the first is logged."""
    vocabulary = lm.model.config.get_text_config().vocab_size
    ids = torch.tensor(_PROBE, device=lm.device) % vocabulary
    expected = widened(WholeReader(lm, ids.shape[1]).read(ids)).log_softmax(dim=-1)
    why = lm.cache_fault
    for kind in (OwnReader,) if why else (GrowingReader, OwnReader):
        try:
            found = _logits(kind, lm, ids)
        except FAMILY_ERRORS as error:
            if out_of_memory(error):
                raise
            why = f"{type(error).__name__}: {error}"
            continue
        apart = (expected.exp() * (expected - widened(found).log_softmax(dim=-1)).abs()).nansum(dim=-1).max()
        if apart <= TOLERANCE[lm.dtype]:
            if kind is not GrowingReader:
                log.info("text is sampled from %s with %s: %s", lm.name, kind.about, why)
            return kind
        why = f"its log-probabilities differ by {float(apart):.2g} nats"
    log.warning("text is sampled from %s with %s: no cache fits (%s)", lm.name, WholeReader.about, why)
    return WholeReader


def _logits(kind: type[Reader], lm: EditableModel, ids: Int[Tensor, "rows tokens"]) -> Float[Tensor, "rows vocabulary"]:
    """Logits after the last token of rows that are read in several steps."""
    reader = kind(lm, ids.shape[1])
    return [reader.read(part) for part in ids.split([2, 1, 1], dim=1)][-1]


class _Growing(DynamicLayer):
    """Cached attention keys and values with room for those to come, so that a step copies only its own."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self._length = length

    def update(self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._room = (key_states[:, :, :0], value_states[:, :, :0])
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if end > self._room[0].shape[-2]:
            self._room = tuple(_extended(room, start, min(2 * end, max(end, self._length))) for room in self._room)
        for room, new in zip(self._room, (key_states, value_states), strict=True):
            room[:, :, start:end] = new
        self.keys, self.values = (room[:, :, :end] for room in self._room)
        return self.keys, self.values


def _extended(room: Tensor, used: int, length: int) -> Tensor:
    longer = room.new_empty(*room.shape[:2], length, room.shape[3])
    longer[:, :, :used] = room[:, :, :used]
    return longer
