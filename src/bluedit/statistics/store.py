"""Second moments of keys, C = E[k k^T], over ordinary text. Edits must preserve the values of these keys.

One pass over the corpus serves all layers and ends at the deepest one; sums are in float64. Each layer is stored under a fingerprint of
weights, tokenizer, corpus and token count, and read back when it is needed, one layer at a time: only what is in use takes memory.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch

from bluedit.errors import StatisticsError
from bluedit.files import DIGEST, cache_dir, json_digest, read_regular, remove_stale, with_digest, write_json
from bluedit.maths.moment import SecondMoment
from bluedit.methods.preserve import CHAT, NAMES
from bluedit.model.devices import solve_device
from bluedit.model.editable import EditableModel
from bluedit.model.fingerprint import text_fingerprint
from bluedit.progress import Progress
from bluedit.shapes import Tensor
from bluedit.statistics._accumulation import Accumulation
from bluedit.statistics._derived_file import kept_matrix
from bluedit.statistics._moment_file import check_moment, read_moment, write_moment
from bluedit.statistics.memory import check_memory
from bluedit.text.chat import chat_head
from bluedit.text.corpus import Corpus, total_tokens

_FORMAT = 2  # of the stored files
log = logging.getLogger(__name__)

TOKENS_PER_KEY = 10  # default budget in units of d_key (FastMEMIT, arXiv 2506.04226, finds 2 to 10 enough)


@dataclass(frozen=True)
class MomentStore:
    """Computes, stores and finds second moments of one model's keys.

    Attributes:
        lm: the model. The caller makes sure that its weights are the unedited ones when `get` is called.
        weights: fingerprint of those weights.
        corpus: the text.
        tokens: budget; None means TOKENS_PER_KEY x d_key.
        folder: where to store them; None means the user's cache.
        device: where sums and matrices are, and updates are solved, such as "cpu"; empty means the model's device.
        storage: dtype on the disk. float32 halves the files and changes a stored matrix by its rounding, 2e-8 of it on SmolLM2,
            where solved updates then differ by 1e-7; float64 keeps every bit.
    """

    lm: EditableModel
    weights: str
    corpus: Corpus = field(default_factory=Corpus)
    tokens: int | None = None
    folder: Path | None = None
    device: str = ""
    storage: torch.dtype = torch.float64
    _used: WeakValueDictionary[int, SecondMoment] = field(
        default_factory=WeakValueDictionary, repr=False, compare=False
    )
    _unstored: dict[int, SecondMoment] = field(default_factory=dict, repr=False, compare=False)

    @property
    def budget(self) -> int:
        """How many tokens of the corpus are read."""
        return self.tokens or TOKENS_PER_KEY * self.lm.d_key

    @cached_property
    def identity(self) -> dict[str, str | int]:
        """What the statistics belong to; stored with them and compared when they are read."""
        identity: dict[str, str | int] = {
            "format": _FORMAT,
            "weights": self.weights,
            "tokenizer": self.lm.tokenizer_fingerprint,
            "corpus": self.corpus.fingerprint(self.budget),
            "tokens": self.budget,
        }
        if self.corpus.is_extra:  # its texts are in the model's chat form
            identity["chat"] = text_fingerprint(str(getattr(self.lm.tokenizer, "chat_template", None)))
        return identity if self.storage == torch.float64 else identity | {"storage": str(self.storage)}

    @property
    def root(self) -> Path:
        """The folder of all statistics."""
        return self.folder or cache_dir() / "moments"

    @property
    def place(self) -> Path:
        """The folder of everything that belongs to this model, corpus and number of tokens."""
        return self.root / text_fingerprint(self.identity)

    @cached_property
    def of_names(self) -> MomentStore:
        """Second moments of the keys of well-known names: at the last token of each, in prompts that ask about it."""
        return MomentStore(
            self.lm, self.weights, Corpus(NAMES), 0, folder=self.folder, device=self.device, storage=self.storage
        )

    @cached_property
    def of_chat(self) -> MomentStore | None:
        """Second moments of the keys of chat turns that the model writes, half as many tokens; None if it has no chat template."""
        if self.corpus.is_extra or chat_head(self.lm.tokenizer) is None:
            return None
        return MomentStore(
            self.lm,
            self.weights,
            Corpus(CHAT, self.corpus.seed),
            max(1, self.budget // 2),
            folder=self.folder,
            device=self.device,
            storage=self.storage,
        )

    def _beside(self, beside: Mapping[str, float]) -> list[tuple[MomentStore, float]]:
        """The stores of further texts, each with its weight; without those that the model has no text of."""
        stores = {NAMES: self.of_names, CHAT: self.of_chat if beside.get(CHAT) else None}
        return [(store, beside[name]) for name, store in stores.items() if store and beside.get(name)]

    def get(
        self, layers: Sequence[int], progress: Progress | None = None, *, beside: Mapping[str, float] | None = None
    ) -> Mapping[int, SecondMoment]:
        """Second moments of these layers, computed and stored now where they are not yet.

        The mapping reads a layer when it is asked for it and holds none: iterating over it takes the memory of one layer.

        Args:
            layers: which.
            progress: where to report.
            beside: weights of second moments that are added, by the name of their text: well-known names, or chat turns.

        Raises:
            StatisticsError: too few tokens for d_key, too little memory, an unreadable corpus, or a stored file of another model.
        """
        missing: list[int] = []
        for layer in sorted(set(layers) - set(self._unstored)):
            if self._file(layer).is_file():
                check_moment(self._file(layer), self.identity, layer, self.lm.projection(layer).d_key)
            else:
                missing.append(layer)
        if missing:
            self._compute(missing, progress or Progress())
        self._tidy()
        more = self._beside(beside or {})
        for store, _ in more:
            store.get(layers, progress)
        return _Moments(self, layers, more)

    def read(self, layer: int) -> SecondMoment:
        """The second moment of one layer that `get` has found or computed. Raises StatisticsError as `get`."""
        found = self._unstored.get(layer) or self._used.get(layer)
        if found is None:
            d_key = self.lm.projection(layer).d_key
            found = read_moment(self._file(layer), self.identity, layer, d_key, self._device())
            self._used[layer] = found
        return found

    def derived(self, layer: int, what: str, compute: Callable[[SecondMoment], Tensor]) -> Tensor:
        """A matrix that is computed from one layer's second moment, kept under this name for the next process.

        Raises:
            StatisticsError: as `get`.
        """
        file = self.place / f"derived-{layer}-{text_fingerprint(what)}.safetensors"
        identity = {**self.identity, "layer": layer, "what": what}
        return kept_matrix(file, identity, lambda: compute(self.read(layer)), self._device())

    def stored(self, layers: Sequence[int], *, beside: Mapping[str, float] | None = None) -> list[int]:
        """Those of these layers that `get` does not have to compute."""
        found = [layer for layer in layers if layer in self._unstored or self._file(layer).is_file()]
        for store, _ in self._beside(beside or {}):
            found = store.stored(found)
        return found

    def _device(self) -> torch.device:
        try:
            device = solve_device(self.lm.device, self.device)
            torch.zeros(1, dtype=torch.float64, device=device)
        except (RuntimeError, TypeError, AssertionError) as error:
            raise StatisticsError(
                f"key statistics cannot be kept on {self.device or self.lm.device}, they need a device with float64 "
                f"({str(error).splitlines()[0]}); set execution.statistics_device=cpu"
            ) from error
        return device

    @property
    def _text(self) -> Path:
        return self.place / "text.json"

    def _file(self, layer: int) -> Path:
        return self.place / f"layer-{layer}.safetensors"

    def _compute(self, layers: Sequence[int], progress: Progress) -> None:
        """Compute and store; the partial sums stay on the disk until all is stored."""
        device = self._device()
        check_memory(self.lm.d_key, len(layers), device)
        rows = self.rows(progress)
        count = len(rows) if self.corpus.last_only else total_tokens(rows)
        if count <= self.lm.d_key and not self.corpus.is_extra:
            raise StatisticsError(
                f"the corpus {self.corpus.name} gives {count} tokens, but statistics of {self.lm.d_key}-dimensional keys need more than that "
                f"(default {TOKENS_PER_KEY * self.lm.d_key}); a smaller sample has a false null space. Use a longer corpus or a larger --tokens"
            )
        if count < self.budget and not self.corpus.is_extra:
            log.warning("the corpus ended after %d of %d tokens; statistics are from those", count, self.budget)
        partial = self.place / f"partial-{'-'.join(map(str, layers))}.safetensors"
        accumulation = Accumulation(self.lm, layers, rows, partial, device, last_only=self.corpus.last_only)
        sums = accumulation.run(progress)
        self._check_finite(sums, accumulation)
        # all of them are at hand until they are stored: a disk that is full costs no computed layer
        self._unstored.update({layer: SecondMoment(total.div_(count), count, layer) for layer, total in sums.items()})
        sums.clear()
        for layer in layers:
            self.write(self._file(layer), self._unstored[layer], self.identity)
            del self._unstored[layer]
        accumulation.discard()

    def _tidy(self) -> None:
        """Delete what killed passes left: unfinished files, and partial sums of layers that are all stored."""
        remove_stale(self.place)
        for partial in self.place.glob("partial-*.safetensors"):
            layers = partial.stem.split("-")[1:]
            if all((self.place / f"layer-{layer}.safetensors").is_file() for layer in layers):
                with suppress(OSError):
                    partial.unlink(missing_ok=True)

    def _check_finite(self, sums: Mapping[int, Tensor], accumulation: Accumulation) -> None:
        for layer, total in sums.items():
            if not torch.isfinite(total).all():
                accumulation.discard()
                self._text.unlink(missing_ok=True)
                raise StatisticsError(
                    f"the keys of layer {layer} are not finite (NaN or infinity) on ordinary text: the model is damaged, "
                    "load it again from a sound checkpoint"
                )

    def rows(self, progress: Progress) -> list[list[int]]:
        """The corpus as token rows. Text sampled from the model is stored, so that a resumed pass, or one for other layers, reads the same."""
        if not self.corpus.sampled:
            return self.corpus.rows(self.lm, self.budget, progress)
        if self._text.is_file():
            try:
                return self._checked(json.loads(read_regular(self._text)))
            except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
                log.warning("the text sampled before is unreadable; sampling it again")
        rows = self.corpus.rows(self.lm, self.budget, progress)
        with suppress(OSError):  # storing the statistics will report it
            write_json(self._text, with_digest({"rows": rows}))
        return rows

    def all_rows(self, progress: Progress) -> list[list[int]]:
        """The corpus, chat turns if the model has a chat template, and prompts that end in well-known names, as token rows."""
        return [row for store in (self, self.of_chat, self.of_names) if store for row in store.rows(progress)]

    def _checked(self, stored: Any) -> list[list[int]]:
        """Token rows that were read. Raises ValueError, or what reading damaged JSON raises, if they are not what was stored for this model."""
        rows = stored["rows"]
        if stored[DIGEST] != json_digest(stored):
            raise ValueError("it was changed after it was written")
        most = self.lm.model.get_input_embeddings().weight.shape[0]  # pyright: ignore
        right = isinstance(rows, list) and all(isinstance(row, list) and row for row in rows)
        if not right or not all(type(token) is int and 0 <= token < most for row in rows for token in row):
            raise ValueError("not rows of tokens")
        return rows

    def write(self, file: Path, moment: SecondMoment, identity: Mapping[str, str | int]) -> None:
        """Store a matrix in a file of `place`. Raises StatisticsError if that is not possible."""
        try:
            write_moment(file, moment, identity, self.storage)
        except OSError as error:
            raise StatisticsError(
                f"cannot store key statistics in {self.place}: {error.strerror or error}; free disk space or set BLUEDIT_CACHE to another folder"
            ) from error


class _Moments(Mapping[int, SecondMoment]):
    """Second moments of some layers, read when asked for."""

    def __init__(self, store: MomentStore, layers: Sequence[int], more: Sequence[tuple[MomentStore, float]]) -> None:
        self._store, self._layers, self._more = store, tuple(dict.fromkeys(layers)), more

    def __getitem__(self, layer: int) -> SecondMoment:
        if layer not in self._layers:
            raise KeyError(layer)
        found = self._store.read(layer)
        for store, weight in self._more:
            found = found.beside(store.read(layer), weight)
        return found

    def __iter__(self) -> Iterator[int]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)
