"""Repeated forward passes that start at the edited layer and token.

A vector added at layer l and token t changes nothing below l and nothing before t. So the tokens before t run once and stay as cached
attention keys and values, the hidden states of the remaining tokens are computed once up to l, and each repetition runs only the rest
through the model's own forward: blocks below l return what they returned before. The head sees only the positions that are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import torch
from torch import nn

from bluedit.forward._cache import Past
from bluedit.forward._layout import Layout
from bluedit.forward._past import past_of
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
    replaced_forwards,
    returning,
    taken,
    with_first_tensor,
)
from bluedit.model.precision import ReducedLinears
from bluedit.model.sites import Site, output_module
from bluedit.shapes import Float, Tensor
from bluedit.text.rows import Row, touched


def precision_of(reduced: ReducedLinears | None) -> AbstractContextManager[None]:
    """Linear maps run as `reduced` says inside the `with`."""
    return reduced.active() if reduced else nullcontext()


class Beginnings:
    """Cached attention keys and values of what comes before the subjects' last tokens of some rows, each distinct beginning once."""

    def __init__(self, lm: EditableModel, rows: Sequence[Row], reduced: ReducedLinears | None = None) -> None:
        self._places = {ids: i for i, ids in enumerate(dict.fromkeys(row.ids[: row.subject_last] for row in rows))}
        with precision_of(reduced):
            self._past = past_of(lm, list(self._places))

    def past(self, rows: Sequence[Row]) -> Past:
        """Those of some of the rows."""
        places = [self._places[row.ids[: row.subject_last]] for row in rows]
        return self._past.rows(torch.tensor(places, device=self._past.mask.device))


class SuffixRunner:
    """Repeated forward passes of `rows` that differ only in vectors added at sites of one layer, at the tokens that are `touched`.

    With `reduced`, the linear maps above the sites run in bfloat16, and so does the gradient of the head.

    Attributes:
        rows: the token rows, ordered by the length of their suffix: the order of all results.
        values: the activations without an added vector, sites x rows x width.
        watch: layers above the sites whose block outputs at each row's subject_last are kept by `logits`.
        watched: what was seen there at the last call, layers x rows x width, with its gradient.
    """

    watch: tuple[int, ...] = ()
    watched: Tensor

    def __init__(
        self,
        lm: EditableModel,
        rows: Sequence[Row],
        sites: Sequence[Site],
        layout: type[Layout],
        reduced: ReducedLinears | None = None,
        beginnings: Beginnings | None = None,
    ) -> None:
        self.lm = lm
        self.rows = tuple(sorted(rows, key=lambda row: row.suffix))
        self.layout, self.reduced = layout, reduced
        past = (beginnings or Beginnings(lm, self.rows, reduced)).past(self.rows)
        self._passes: list[_Pass] = []
        for group in layout.passes([row.suffix for row in self.rows]):
            members = [self.rows[i] for i in group]
            placed = layout.of(lm, members, past.rows(torch.tensor(group, device=lm.device)))
            self._passes.append(_Pass(lm, members, sites, placed))
        self.values = torch.cat([part.values for part in self._passes], dim=1)

    def logits(self, delta: Float[Tensor, "sites touched width"]) -> Float[Tensor, "positions vocabulary"]:
        """Logits with `delta` added: at each row's target positions, or at the last token of a drift row, row by row."""
        sizes = [len(touched(part.rows)) for part in self._passes]
        parts = list(zip(self._passes, delta.split(sizes, dim=1), strict=True))
        with precision_of(self.reduced):
            found = [part.logits(d, self.watch) for part, d in parts]
        if self.watch:
            self.watched = torch.cat([part.watched for part in self._passes], dim=1)
        return torch.cat(found)

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all rows but these (ascending indices into `rows`)."""
        start, passes = 0, []
        for part in self._passes:
            size = len(part.rows)
            if kept := [row - start for row in rows if start <= row < start + size]:
                part.keep(kept)
                passes.append(part)
            start += size
        self._passes = passes
        self.rows = tuple(row for part in passes for row in part.rows)
        self.values = torch.cat([part.values for part in passes], dim=1)


class _Pass:
    """Rows that share a forward pass.

    Attributes:
        rows: the token rows.
        values: the activations without an added vector, sites x rows x width.
        watched: as in `SuffixRunner`.
    """

    watched: Tensor

    def __init__(self, lm: EditableModel, rows: Sequence[Row], sites: Sequence[Site], layout: Layout) -> None:
        self.lm, self.rows, self.sites, self._layout = lm, tuple(rows), tuple(sites), layout
        self._tuples = False
        self._find_places()
        with torch.no_grad():
            self._record_suffix()

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all rows but these."""
        index = torch.tensor(list(rows), device=self.lm.device)
        self.rows = tuple(self.rows[i] for i in rows)
        self._layout, self._states = self._layout.keep(index, self._states)
        self._find_places()
        self.values = self.values[:, index]

    def logits(
        self, delta: Float[Tensor, "sites touched width"], watch: Sequence[int] = ()
    ) -> Float[Tensor, "positions vocabulary"]:
        """As `SuffixRunner.logits`."""
        seen: dict[int, Tensor] = {}

        def watcher(layer: int):
            def look(_module: nn.Module, _args: Any, output: Any) -> None:
                found = taken(by_row(first_tensor(output), self._layout.sequences), self._subjects)
                seen[layer] = found.to(self.lm.device)

            return look

        def adder(added: Tensor):
            def add(_module: nn.Module, _args: Any, output: Any) -> Any:
                hidden = by_row(first_tensor(output), self._layout.sequences)
                return with_first_tensor(output, added_at(hidden, self._touched, added))

            return add

        hooks: list[Hook] = [(m, "forward", adder(d)) for m, d in zip(self._modules(), delta, strict=True)]
        hooks += [(self.lm.anatomy.blocks[layer], "forward", watcher(layer)) for layer in watch]
        with replaced_forwards(self._recorded_blocks()), hooked(hooks):
            found = self._forward()
        if watch:
            self.watched = torch.stack([seen[layer] for layer in watch])
        return found

    def _modules(self) -> list[nn.Module]:
        return [output_module(self.lm, site) for site in self.sites]

    def _find_places(self) -> None:
        """Places of the subjects' last tokens, of all tokens that are touched, and of every position whose logits are needed."""
        rows: list[int] = []
        offsets: list[int] = []
        for number, row in enumerate(self.rows):
            rows += [number] * len(row.read_at)
            offsets += [token - row.subject_last for token in row.read_at]
        device = self.lm.device
        every = torch.arange(len(self.rows), device=device)
        self._subjects = self._layout.places(every, torch.zeros_like(every))
        at = torch.tensor([(i, token - self.rows[i].subject_last) for i, token, _ in touched(self.rows)], device=device)
        self._touched = self._layout.places(*at.T)
        self._positions = self._layout.places(torch.tensor(rows, device=device), torch.tensor(offsets, device=device))

    def _record_suffix(self) -> None:
        """Run the suffix once, up to the sites: their values, and the output of the last block that will not run again."""
        self._states: list[Tensor] = []
        unchanged = self._unchanged_blocks()
        seen: dict[int, Tensor] = {}

        def record(_module: nn.Module, _args: Any, output: Any) -> None:
            self._states = [first_tensor(output).detach()]
            self._tuples = isinstance(output, (tuple, list))

        def reader(index: int):
            def read(_module: nn.Module, _args: Any, output: Any) -> None:
                found = taken(by_row(first_tensor(output), self._layout.sequences), self._subjects)
                seen[index] = found.detach().to(self.lm.device)
                if len(seen) == len(self.sites):
                    raise StopForward

            return read

        hooks: list[Hook] = [(unchanged[-1], "forward", record)] if unchanged else []
        hooks += [(module, "forward", reader(i)) for i, module in enumerate(self._modules())]
        with hooked(hooks), suppress(StopForward):
            self._forward()
        self.values = torch.stack([seen[i] for i in range(len(self.sites))])

    def _unchanged_blocks(self) -> tuple[nn.Module, ...]:
        """Blocks whose output does not depend on the vectors: those below the sites, and also the sites' own block if its output is the site."""
        return self.lm.anatomy.blocks[: unchanged_blocks(self.sites)]

    def _recorded_blocks(self) -> list[tuple[nn.Module, Callable[..., Any]]]:
        """Forwards of the blocks that need not run: the last returns its recorded output, those before it pass on their input."""
        unchanged = self._unchanged_blocks()
        outputs = [None] * (len(unchanged) - 1) + self._states if unchanged else []
        return [(block, returning(state, self._tuples)) for block, state in zip(unchanged, outputs, strict=True)]

    def _forward(self) -> Tensor:
        head, positions = self.lm.anatomy.head, self._positions
        with hooked(only_at(head, positions)):
            logits = self._layout.run().logits
        return logits_of(logits, head, positions)


def unchanged_blocks(sites: Sequence[Site]) -> int:
    """How many of the first blocks give the same output whatever vector is added at the sites."""
    return min(site.layer + (1 if site.is_block_output else 0) for site in sites)
