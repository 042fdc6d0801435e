"""The reference forward: whole sequences through all layers, every time, with a vector added at one token.

`SuffixRunner` is checked against it. Models on which the two disagree use the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import nn

from bluedit.model.editable import EditableModel
from bluedit.model.hooks import (
    Hook,
    StopForward,
    added_at,
    by_row,
    first_tensor,
    hooked,
    logits_of,
    only_at,
    taken,
    with_first_tensor,
)
from bluedit.model.sites import Site, output_module
from bluedit.shapes import Float, Tensor
from bluedit.text.rows import Row, groups_by_length, touched


class ReferenceRunner:
    """Repeated full forward passes of `rows` that differ only in vectors added at sites, at the tokens that are `touched`.

    Attributes:
        rows: the token rows, ordered by length: the order of all results.
        values: the activations without an added vector, sites x rows x width.
    """

    watch: tuple[int, ...] = ()
    watched: Tensor

    def __init__(self, lm: EditableModel, rows: Sequence[Row], sites: Sequence[Site]) -> None:
        self.lm, self.sites = lm, tuple(sites)
        self.rows = tuple(sorted(rows, key=lambda row: len(row.ids)))
        with torch.no_grad():
            self.values = torch.cat([self._read(group) for group in self._groups()], dim=1)

    def logits(self, delta: Float[Tensor, "sites touched width"]) -> Float[Tensor, "positions vocabulary"]:
        """Logits with `delta` added: at each row's target positions, or at the last token of a drift row, row by row."""
        groups = self._groups()
        parts = delta.split([len(touched(group)) for group in groups], dim=1)
        seen: list[Tensor] = []
        found = torch.cat([self._forward(group, part, seen) for group, part in zip(groups, parts, strict=True)])
        if self.watch:
            self.watched = torch.cat(seen, dim=1)
        return found

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all rows but these (ascending indices into `rows`)."""
        self.rows = tuple(self.rows[row] for row in rows)
        self.values = self.values[:, list(rows)]

    def _groups(self) -> list[list[Row]]:
        return [[self.rows[i] for i in group] for group in groups_by_length([len(row.ids) for row in self.rows])]

    def _read(self, rows: Sequence[Row]) -> Tensor:
        seen: dict[int, Tensor] = {}
        subjects = self._subjects(rows)

        def reader(index: int):
            def read(_module: nn.Module, _args: Any, output: Any) -> None:
                seen[index] = taken(by_row(first_tensor(output), len(rows)), subjects).to(self.lm.device)
                if len(seen) == len(self.sites):
                    raise StopForward

            return read

        hooks: list[Hook] = [(output_module(self.lm, s), "forward", reader(i)) for i, s in enumerate(self.sites)]
        with hooked(hooks), suppress(StopForward):
            self._run(rows)
        return torch.stack([seen[i] for i in range(len(self.sites))])

    def _forward(self, rows: Sequence[Row], delta: Tensor, watched: list[Tensor]) -> Tensor:
        subjects = self._subjects(rows)
        every = tuple(torch.tensor([(i, at) for i, at, _ in touched(rows)], device=self.lm.device).T)
        states: dict[int, Tensor] = {}

        def watcher(layer: int):
            def look(_module: nn.Module, _args: Any, output: Any) -> None:
                states[layer] = taken(by_row(first_tensor(output), len(rows)), subjects).to(self.lm.device)

            return look

        def adder(added: Tensor):
            def add(_module: nn.Module, _args: Any, output: Any) -> Any:
                hidden = by_row(first_tensor(output), len(rows))
                return with_first_tensor(output, added_at(hidden, every, added))

            return add

        hooks: list[Hook] = [
            (output_module(self.lm, site), "forward", adder(d)) for site, d in zip(self.sites, delta, strict=True)
        ]
        at = [(number, token) for number, row in enumerate(rows) for token in row.read_at]
        positions = tuple(torch.tensor(at, device=self.lm.device).T)
        head = self.lm.anatomy.head
        hooks += only_at(head, positions)
        hooks += [(self.lm.anatomy.blocks[layer], "forward", watcher(layer)) for layer in self.watch]
        with hooked(hooks):
            logits = self._run(rows).logits
        if self.watch:
            watched.append(torch.stack([states[layer] for layer in self.watch]))
        return logits_of(logits, head, positions)

    def _run(self, rows: Sequence[Row]) -> Any:
        ids, mask = self.lm.pad([row.ids for row in rows])
        return self.lm.run(input_ids=ids, attention_mask=mask, use_cache=False)

    def _subjects(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
        at = torch.tensor([row.subject_last for row in rows], device=self.lm.device)
        return torch.arange(len(rows), device=self.lm.device), at
