"""One pass over the corpus that sums k k^T of all layers, resumable after an interruption."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch

from bluedit.model.editable import EditableModel
from bluedit.model.hooks import Hook, StopForward, by_row, hooked, taken
from bluedit.model.memory import fits
from bluedit.model.sites import Place, Site, site_hook
from bluedit.progress import Progress
from bluedit.shapes import Tensor
from bluedit.tensors import UNREADABLE, read_tensors, write_tensors

log = logging.getLogger(__name__)

_TOKENS_PER_PASS = 4096
_SAVE_EVERY_S = 20.0
_SAVE_COST = 10.0  # seconds to the next save, at least, for each second that the last one took: at most a tenth of the time is spent saving


@dataclass
class Accumulation:
    """A pass over `rows` that ends at the deepest layer. Its sums are saved now and then.

    Attributes:
        lm: the model.
        layers: whose keys are summed.
        rows: the text as token rows.
        file: where the sums so far are saved.
        device: where the sums are, in float64.
        last_only: whether only the last token of each row counts.
    """

    lm: EditableModel
    layers: Sequence[int]
    rows: Sequence[Sequence[int]]
    file: Path
    device: torch.device
    last_only: bool = False
    _tokens: int = field(default_factory=lambda: _TOKENS_PER_PASS)
    _added: set[int] = field(default_factory=set)

    @torch.no_grad()
    def run(self, progress: Progress) -> dict[int, Tensor]:
        """Sum of k k^T over the tokens that count, for each layer, from where an interrupted pass ended."""
        sums, done = self._resumed()
        due = time.monotonic() + _SAVE_EVERY_S
        with progress.task("key statistics", len(self.rows), "texts") as advance, hooked(self._hooks(sums)):
            advance(done)
            while done < len(self.rows):
                chunk = self._chunk(done)
                self._add(chunk)
                done += len(chunk)
                advance(len(chunk))
                if time.monotonic() > due and done < len(self.rows):
                    due = self._saved(sums, done)
        return sums

    def _add(self, rows: Sequence[Sequence[int]], added: frozenset[int] = frozenset()) -> None:
        """Add rows to the sums of all layers but those in `added`; in halves where memory runs out, then and from then on."""
        self._added = set(added)
        if not fits(lambda: self._run(rows), len(rows), "rows of text", self.lm.device):
            self._tokens = max(1, self._tokens // 2)
            there, half = frozenset(self._added), (len(rows) + 1) // 2
            self._add(rows[:half], there)
            self._add(rows[half:], there)

    def _run(self, rows: Sequence[Sequence[int]]) -> None:
        ids, mask = self.lm.pad(rows)
        self._mask = mask.bool()
        if self.last_only:
            self._mask &= mask.cumsum(dim=1) == mask.sum(dim=1, keepdim=True)
        with suppress(StopForward):
            self.lm.run(input_ids=ids, attention_mask=mask, use_cache=False)

    def discard(self) -> None:
        """Delete the saved sums."""
        with suppress(OSError):
            self.file.unlink(missing_ok=True)

    def _saved(self, sums: dict[int, Tensor], done: int) -> float:
        """Save the sums so far; returns the time of the next save."""
        started = time.monotonic()
        try:
            write_tensors(self.file, {str(layer): total for layer, total in sums.items()}, {"rows": str(done)})
        except OSError as error:
            log.warning("the statistics so far cannot be saved (%s); an interruption would begin them anew", error)
        ended = time.monotonic()
        return ended + max(_SAVE_EVERY_S, _SAVE_COST * (ended - started))

    def _hooks(self, sums: dict[int, Tensor]) -> list[Hook]:
        deepest = max(self.layers)

        def receiver(layer: int):
            def receive(keys: Tensor) -> None:
                if layer not in self._added:
                    real = taken(by_row(keys, len(self._mask)), self._mask).to(self.device).double()
                    sums[layer].addmm_(real.T, real)
                    self._added.add(layer)
                if layer == deepest:
                    raise StopForward

            return receive

        return [site_hook(self.lm, Site(Place.KEY, layer), receiver(layer)) for layer in self.layers]

    def _chunk(self, start: int) -> Sequence[Sequence[int]]:
        """Rows from `start` on that share a forward pass."""
        end, rows = start + 1, self.rows
        while end < len(rows) and (end + 1 - start) * max(map(len, rows[start : end + 1])) <= self._tokens:
            end += 1
        return rows[start:end]

    def _resumed(self) -> tuple[dict[int, Tensor], int]:
        """Sums and the number of rows in them: those that were saved, or zeros."""
        if self.file.is_file():
            try:
                tensors, metadata = read_tensors(self.file, self.device)
                done, sums = int(metadata["rows"]), {layer: tensors[str(layer)] for layer in self.layers}
                log.info("resuming key statistics after %d texts", done)
                return sums, done
            except UNREADABLE:
                log.warning("the saved part of the statistics is unreadable; starting again")
        sizes = {layer: self.lm.projection(layer).d_key for layer in self.layers}
        return {layer: torch.zeros(d, d, dtype=torch.float64, device=self.device) for layer, d in sizes.items()}, 0
