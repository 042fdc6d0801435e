"""Second moments of keys, C = E[k k^T] over ordinary text: what an edit must leave alone.

One pass over the corpus serves all layers at once and ends at the deepest one asked for; sums are in float64. Finished layers
are stored as safetensors under a fingerprint of weights, tokenizer, corpus and token count; an interrupted pass resumes.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from bluedit.errors import StatisticsError
from bluedit.files import write_file
from bluedit.maths.moment import SecondMoment
from bluedit.model.editable import EditableModel
from bluedit.model.fingerprint import text_fingerprint, tokenizer_fingerprint
from bluedit.model.hooks import StopForward, by_row, hooked
from bluedit.model.loading import cache_dir
from bluedit.model.sites import Site, site_hook
from bluedit.progress import Progress
from bluedit.shapes import Tensor
from bluedit.text.corpus import Corpus, total_tokens

log = logging.getLogger(__name__)

TOKENS_PER_KEY = 10  # default budget in units of d_key (FastMEMIT, arXiv 2506.04226, finds 2 to 10 enough)
_TOKENS_PER_PASS = 4096
_SAVE_EVERY_S = 20.0
_SAVE_COST = 10.0  # times as long as the last save took, at least, until the next one: a slow disk takes a tenth of the time at most


@dataclass(frozen=True)
class MomentStore:
    """Computes, keeps and finds second moments of one model's keys.

    Attributes:
        lm: the model. Callers see to it that its weights are the unedited ones when `get` is called.
        weights: fingerprint of those weights.
        corpus: the text.
        tokens: budget; None means TOKENS_PER_KEY x d_key.
        folder: where to keep them; None means the user's cache.
    """

    lm: EditableModel
    weights: str
    corpus: Corpus = field(default_factory=Corpus)
    tokens: int | None = None
    folder: Path | None = None
    _loaded: dict[int, SecondMoment] = field(default_factory=dict, repr=False, compare=False)

    @property
    def budget(self) -> int:
        return self.tokens or TOKENS_PER_KEY * self.lm.d_key

    @cached_property
    def identity(self) -> dict[str, str | int]:
        """What the statistics belong to; stored beside them and compared when they are read."""
        return {
            "weights": self.weights,
            "tokenizer": tokenizer_fingerprint(self.lm.tokenizer),
            "corpus": self.corpus.fingerprint(self.budget),
            "tokens": self.budget,
        }

    @property
    def place(self) -> Path:
        return (self.folder or cache_dir() / "moments") / text_fingerprint(self.identity)

    def get(self, layers: Sequence[int], progress: Progress | None = None) -> dict[int, SecondMoment]:
        """Second moments of these layers: from memory, from the store, or computed now and stored.

        Raises:
            StatisticsError: too few tokens for d_key, an unreadable corpus, or a stored file of another model.
        """
        for layer in layers:
            if layer not in self._loaded and (stored := self._read(layer)):
                self._loaded[layer] = stored
        if missing := sorted(set(layers) - set(self._loaded)):
            self._compute(missing, progress or Progress())
        return {layer: self._loaded[layer] for layer in layers}

    @property
    def _text(self) -> Path:
        return self.place / "text.json"

    def _file(self, layer: int) -> Path:
        return self.place / f"layer-{layer}.safetensors"

    def _read(self, layer: int) -> SecondMoment | None:
        file = self._file(layer)
        if not file.is_file():
            return None
        return read_moment(file, self.identity, self.lm.device)

    def _compute(self, layers: Sequence[int], progress: Progress) -> None:
        """Compute, hold and store; the partial sums stay on the disk until all of it is stored."""
        rows = self._rows(progress)
        count = total_tokens(rows)
        if count <= self.lm.d_key:
            raise StatisticsError(
                f"the corpus {self.corpus.name} gives {count} tokens, but statistics of {self.lm.d_key}-dimensional keys need more than that "
                f"(default {TOKENS_PER_KEY * self.lm.d_key}); a smaller sample has a false null space. Use a longer corpus or a larger --tokens"
            )
        if count < self.budget:
            log.warning("the corpus ended after %d of %d tokens; statistics are from those", count, self.budget)
        accumulation = _Accumulation(self, layers, rows)
        sums = accumulation.run(progress)
        for layer, total in sums.items():
            if not torch.isfinite(total).all():
                accumulation.discard()
                self._text.unlink(missing_ok=True)
                raise StatisticsError(
                    f"the keys of layer {layer} are not finite (NaN or infinity) on ordinary text: the model is damaged, "
                    "load it again from a sound checkpoint"
                )
        moments = {layer: SecondMoment(total / count, count, layer) for layer, total in sums.items()}
        self._loaded.update(moments)
        for moment in moments.values():
            self._write(moment)
        accumulation.discard()

    def _rows(self, progress: Progress) -> list[list[int]]:
        """The corpus as token rows. Text drawn from the model is kept, so that a resumed pass, or one for other layers, reads the same."""
        if self.corpus.name != "self":
            return self.corpus.rows(self.lm, self.budget, progress)
        if self._text.is_file():
            try:
                return json.loads(self._text.read_text("utf-8"))
            except (OSError, ValueError):
                log.warning("the text drawn before is unreadable; drawing it again")
        rows = self.corpus.rows(self.lm, self.budget, progress)
        with suppress(OSError):  # whoever stores the statistics will tell
            write_file(self._text, json.dumps(rows).encode())
        return rows

    def _write(self, moment: SecondMoment) -> None:
        metadata = {
            "identity": json.dumps(self.identity),
            "tokens_seen": str(moment.tokens),
            "layer": str(moment.layer),
        }
        try:
            write_file(self._file(moment.layer), save({"second_moment": moment.matrix.cpu()}, metadata))
        except OSError as error:
            raise StatisticsError(
                f"cannot store key statistics in {self.place}: {error.strerror or error}; free disk space or set BLUEDIT_CACHE to another folder"
            ) from error


@dataclass
class _Accumulation:
    """One pass over the rows, saved now and then so that it can go on after an interruption."""

    store: MomentStore
    layers: Sequence[int]
    rows: Sequence[Sequence[int]]

    @property
    def _partial(self) -> Path:
        return self.store.place / f"partial-{'-'.join(map(str, self.layers))}.safetensors"

    @torch.no_grad()
    def run(self, progress: Progress) -> dict[int, Tensor]:
        lm = self.store.lm
        sums, done = self._resume()
        due = time.monotonic() + _SAVE_EVERY_S
        with progress.task("key statistics", len(self.rows), "texts") as advance, hooked(self._hooks(sums)):
            advance(done)
            while done < len(self.rows):
                chunk = self._chunk(done)
                ids, mask = lm.pad(chunk)
                self._mask = mask.bool()
                with contextlib.suppress(StopForward):
                    lm.model(input_ids=ids, attention_mask=mask, use_cache=False)
                done += len(chunk)
                advance(len(chunk))
                if time.monotonic() > due and done < len(self.rows):
                    due = self._save_partial(sums, done)
        return sums

    def _save_partial(self, sums: dict[int, Tensor], done: int) -> float:
        """Save what an interrupted pass would lose, and say when to do so again."""
        started = time.monotonic()
        try:
            write_file(self._partial, save({str(k): v.cpu() for k, v in sums.items()}, {"rows": str(done)}))
        except OSError as error:
            log.warning("the statistics so far cannot be saved (%s); an interruption would begin them anew", error)
        ended = time.monotonic()
        return ended + max(_SAVE_EVERY_S, _SAVE_COST * (ended - started))

    def discard(self) -> None:
        """Delete the partial sums."""
        with suppress(OSError):
            self._partial.unlink(missing_ok=True)

    def _hooks(self, sums: dict[int, Tensor]):
        deepest = max(self.layers)

        def receiver(layer: int):
            def receive(keys: Tensor) -> None:
                real = by_row(keys, len(self._mask))[self._mask].double()
                sums[layer].addmm_(real.T, real)
                if layer == deepest:
                    raise StopForward

            return receive

        return [site_hook(self.store.lm, Site("key", layer), receiver(layer)) for layer in self.layers]

    def _chunk(self, start: int) -> Sequence[Sequence[int]]:
        end = start + 1
        while (
            end < len(self.rows) and (end + 1 - start) * max(map(len, self.rows[start : end + 1])) <= _TOKENS_PER_PASS
        ):
            end += 1
        return self.rows[start:end]

    def _resume(self) -> tuple[dict[int, Tensor], int]:
        lm = self.store.lm
        if self._partial.is_file():
            try:
                with safe_open(self._partial, "pt") as file:
                    done = int(file.metadata()["rows"])
                    sums = {layer: file.get_tensor(str(layer)).to(lm.device) for layer in self.layers}
                log.info("resuming key statistics after %d texts", done)
                return sums, done
            except (SafetensorError, OSError, KeyError, ValueError, TypeError):
                log.warning("the saved part of the statistics is unreadable; starting again")
        size = {layer: lm.projection(layer).d_key for layer in self.layers}
        return {layer: torch.zeros(d, d, dtype=torch.float64, device=lm.device) for layer, d in size.items()}, 0


def read_moment(file: Path, identity: dict[str, str | int], device: torch.device) -> SecondMoment:
    """Read a stored second moment and make sure that it belongs to this model and corpus.

    Raises:
        StatisticsError: unreadable, or made for something else; the differing parts are named.
    """
    try:
        with safe_open(file, "pt") as stored:
            metadata = stored.metadata()
        matrix = load_file(file)["second_moment"]
        found, tokens, layer = json.loads(metadata["identity"]), int(metadata["tokens_seen"]), int(metadata["layer"])
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise StatisticsError(
            f"the key statistics {file} are unreadable ({error}); delete the file and they are computed again"
        ) from error
    wrong = [part for part in identity if found.get(part) != identity[part]]
    if wrong:
        raise StatisticsError(
            f"the key statistics {file} belong to something else: {', '.join(wrong)} differ from this model's; delete the file and they are computed again"
        )
    return SecondMoment(matrix.to(device), tokens, layer)
