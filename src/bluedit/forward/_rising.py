"""Keys at one layer after another while the layers are written from below: each pass begins where the one before it ended."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from bluedit.errors import FAMILY_ERRORS, out_of_memory
from bluedit.forward._observe import TOKENS_PER_PASS, Some, Texts, collect, observe
from bluedit.model.editable import EditableModel
from bluedit.model.hooks import Hook, StopForward, first_tensor, hooked, replaced_forwards, returning
from bluedit.model.memory import run_chunks
from bluedit.model.sites import Place, Site, site_hook
from bluedit.shapes import Float, Tensor
from bluedit.text.rows import Row, chunks_by_cost

log = logging.getLogger(__name__)
_MOST_KEPT = 2**29  # bytes of hidden states kept between two passes; texts beyond that run from the start
_TOLERANCE = 0.05  # of a key's length; a family whose blocks need more than their input is far off


@dataclass(frozen=True, eq=False)
class _Kept:
    """The output of a block, on the weights of its pass."""

    layer: int
    state: Tensor
    as_tuple: bool


class RisingKeys:
    """Keys of rows at their subjects' last tokens, layer by layer.

    Between two calls of `read` only the layer that was read last, and layers above it, may change. So the next pass takes the output of the
    block below that layer from the last one. The first such pass is compared with a whole one on two rows; where it differs or fails, all
    passes run from the start.
    """

    def __init__(self, lm: EditableModel, rows: Sequence[Row]) -> None:
        self.lm, self.rows = lm, rows
        self._texts = Texts.of([row.ids[: row.subject_last + 1] for row in rows])
        self._kept: dict[tuple[int, ...], _Kept] = {}
        self._last = -1
        self._trusted: bool | None = None  # not known yet

    @torch.no_grad()
    def read(self, layer: int) -> Float[Tensor, "rows d_key"]:
        """The keys at a layer on the weights as they are, float32 or wider."""
        site = Site(Place.KEY, layer)
        if layer <= self._last:
            self._kept.clear()
        found = self._resumed(site) if self._kept else self._pass(site)
        if found is None:
            self._trusted = False
            self._kept.clear()
            log.info("%s reads the keys of every layer from whole passes", self.lm.name)
            found = self._pass(site)
        self._last = layer
        return found

    def _resumed(self, site: Site) -> Tensor | None:
        """The keys from what is kept; None if this model's blocks cannot be run so."""
        try:
            found = self._pass(site)
            self._trusted = self._trusted or self._agrees(site, found)
            return found if self._trusted else None
        except FAMILY_ERRORS as error:
            if out_of_memory(error):
                raise
            return None

    def _pass(self, site: Site) -> Tensor:
        out: dict[Site, Tensor] = {}
        kept: dict[tuple[int, ...], _Kept] = {}

        def run(chunk: Sequence[int]) -> None:
            part = self._texts.some(self.lm, chunk)
            found, state = self._forward(part, site, self._kept.get(tuple(chunk)))
            collect(out, site, found, part.rows, len(self.rows))
            if (
                state
                and self._trusted is not False
                and sum(k.state.nbytes for k in kept.values()) + state.state.nbytes <= _MOST_KEPT
            ):
                kept[tuple(chunk)] = state

        run_chunks(chunks_by_cost(self._texts.lengths, TOKENS_PER_PASS), run, "rows", self.lm.device)
        self._kept = kept
        return out[site]

    def _forward(self, part: Some, site: Site, before: _Kept | None) -> tuple[Tensor, _Kept | None]:
        """The keys of some texts, and the output of the block below."""
        lm, below = self.lm, site.layer - 1
        seen: list[Tensor] = []
        state: list[_Kept] = []

        def receive(hidden: Tensor) -> None:
            seen.append(part.taken(hidden))
            raise StopForward

        def keep(_module: nn.Module, _args: Any, output: Any) -> None:
            state.append(_Kept(below, first_tensor(output), isinstance(output, (tuple, list))))

        hooks: list[Hook] = [site_hook(lm, site, receive)]
        if below >= 0:
            hooks.append((lm.anatomy.blocks[below], "forward", keep))
        with replaced_forwards(self._skipping(before)), hooked(hooks), contextlib.suppress(StopForward):
            lm.run(input_ids=part.ids, attention_mask=part.mask, use_cache=False)
        return seen[0], state[0] if state else None

    def _skipping(self, before: _Kept | None) -> list[tuple[nn.Module, Callable[..., Any]]]:
        """Forwards of the blocks that need not run."""
        if before is None:
            return []
        blocks = self.lm.anatomy.blocks[: before.layer + 1]
        states = [None] * before.layer + [before.state]
        return [(block, returning(state, before.as_tuple)) for block, state in zip(blocks, states, strict=True)]

    def _agrees(self, site: Site, found: Tensor) -> bool:
        """Whether the keys of the shortest and the longest row are those of a whole pass."""
        order = sorted(range(len(self.rows)), key=lambda i: self.rows[i].subject_last)
        some = sorted({order[0], order[-1]})
        whole = observe(self.lm, [replace(self.rows[i], again=()) for i in some], [site])[site]
        apart = (found[some] - whole).norm(dim=1)
        return bool((apart <= _TOLERANCE * whole.norm(dim=1)).all())
