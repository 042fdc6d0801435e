"""Running a model again and again from one layer and one token on.

An optimised vector that enters at layer l and token t changes nothing below l and nothing before t. So the tokens before t
are run once and kept as attention keys and values, the hidden states of the remaining tokens are computed once up to l, and
each repetition runs only the rest, through the model's own forward: blocks below l answer from memory for the time being.
The head sees only the positions asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

import torch
from torch import nn

from bluedit.forward._layout import Layout, Packed
from bluedit.forward._past import past_of
from bluedit.model.editable import EditableModel
from bluedit.model.hooks import Hook, StopForward, by_row, first_tensor, hooked, with_first_tensor
from bluedit.model.precision import ReducedLinears
from bluedit.model.sites import Site, output_module
from bluedit.shapes import Float, Tensor
from bluedit.text.rows import Row


class SuffixRunner:
    """Repeated forward passes of `rows` in which only vectors added at sites of one layer, at each row's subject_last, vary.

    With `reduced`, the linear maps above the sites run in bfloat16.

    Attributes:
        rows: the token rows, ordered by the length of their suffix: the order of all results.
        values: the unchanged activations, sites x rows x width.
    """

    def __init__(
        self,
        lm: EditableModel,
        rows: Sequence[Row],
        sites: Sequence[Site],
        layout: type[Layout] = Packed,
        reduced: ReducedLinears | None = None,
    ) -> None:
        self.lm = lm
        self.rows = tuple(sorted(rows, key=lambda row: row.suffix))
        self.layout, self.reduced = layout, reduced
        with self._precision():
            past = past_of(lm, [row.ids[: row.subject_last] for row in self.rows])
        self._passes: list[_Pass] = []
        for group in layout.passes([row.suffix for row in self.rows]):
            mine = [self.rows[i] for i in group]
            placed = layout.of(lm, mine, past.rows(torch.tensor(group, device=lm.device)))
            self._passes.append(_Pass(lm, mine, sites, placed))
        self.values = torch.cat([part.values for part in self._passes], dim=1)

    def logits(self, delta: Float[Tensor, "sites rows width"]) -> Float[Tensor, "positions vocabulary"]:
        """Logits at each row's target positions (the subject's last token for drift rows), row after row, with `delta` added."""
        sizes = [len(part.rows) for part in self._passes]
        with self._precision():
            return torch.cat([part.logits(d) for part, d in zip(self._passes, delta.split(sizes, dim=1), strict=True)])

    def _precision(self) -> AbstractContextManager[None]:
        return self.reduced.active() if self.reduced else nullcontext()

    def keep(self, lanes: Sequence[int]) -> None:
        """Drop all rows but these (ascending indices into `rows`)."""
        start, passes = 0, []
        for part in self._passes:
            size = len(part.rows)
            if mine := [lane - start for lane in lanes if start <= lane < start + size]:
                part.keep(mine)
                passes.append(part)
            start += size
        self._passes = passes
        self.rows = tuple(row for part in passes for row in part.rows)
        self.values = torch.cat([part.values for part in passes], dim=1)


class _Pass:
    """Rows that share a forward pass.

    Attributes:
        rows: the token rows.
        values: the unchanged activations, sites x rows x width.
    """

    def __init__(self, lm: EditableModel, rows: Sequence[Row], sites: Sequence[Site], layout: Layout) -> None:
        self.lm, self.rows, self.sites, self._layout = lm, tuple(rows), tuple(sites), layout
        self._tuples = False
        self._read_places()
        with torch.no_grad():
            self._record_suffix()

    def keep(self, lanes: Sequence[int]) -> None:
        """Drop all rows but these."""
        index = torch.tensor(list(lanes), device=self.lm.device)
        self.rows = tuple(self.rows[i] for i in lanes)
        self._layout, self._states = self._layout.keep(index, self._states)
        self._read_places()
        self.values = self.values[:, index]

    def logits(self, delta: Float[Tensor, "sites rows width"]) -> Float[Tensor, "positions vocabulary"]:
        """Logits at each row's target positions (the subject's last token for drift rows), row after row, with `delta` added."""

        def adder(added: Tensor):
            def add(_module: nn.Module, _args: Any, output: Any) -> Any:
                hidden = by_row(first_tensor(output), self._layout.lanes)
                changed = hidden.index_put(self._subjects, hidden[self._subjects] + added.to(hidden.dtype))
                return with_first_tensor(output, changed)

            return add

        hooks = [(m, "forward", adder(d)) for m, d in zip(self._modules(), delta, strict=True)]
        with self._short_cut(), hooked(hooks):
            return self._forward()

    def _modules(self) -> list[nn.Module]:
        return [output_module(self.lm, site) for site in self.sites]

    def _read_places(self) -> None:
        """Where the subjects' last tokens are, and every position whose logits are wanted."""
        lanes: list[int] = []
        offsets: list[int] = []
        for lane, row in enumerate(self.rows):
            start = row.target_start - 1 - row.subject_last if row.targets else 0
            count = max(1, len(row.targets))
            lanes += [lane] * count
            offsets += range(start, start + count)
        device = self.lm.device
        every = torch.arange(len(self.rows), device=device)
        self._subjects = self._layout.places(every, torch.zeros_like(every))
        self._wanted = self._layout.places(torch.tensor(lanes, device=device), torch.tensor(offsets, device=device))

    def _record_suffix(self) -> None:
        """Hidden states of the suffix: what each block that will not be run again answers, and the value at the site."""
        self._states: list[Tensor] = []
        skipped = self._skipped_blocks()
        seen: dict[int, Tensor] = {}

        def remember(_module: nn.Module, _args: Any, output: Any) -> None:
            self._states = [first_tensor(output).detach()]
            self._tuples = isinstance(output, tuple)

        def reader(index: int):
            def read(_module: nn.Module, _args: Any, output: Any) -> None:
                seen[index] = by_row(first_tensor(output), self._layout.lanes)[self._subjects].detach()
                if len(seen) == len(self.sites):
                    raise StopForward

            return read

        hooks: list[Hook] = [(skipped[-1], "forward", remember)] if skipped else []
        hooks += [(module, "forward", reader(i)) for i, module in enumerate(self._modules())]
        with hooked(hooks), suppress(StopForward):
            self._forward()
        self.values = torch.stack([seen[i] for i in range(len(self.sites))])

    def _skipped_blocks(self) -> tuple[nn.Module, ...]:
        """Blocks whose output does not depend on the vectors: those below the sites, and theirs when the block's output is the site."""
        return self.lm.anatomy.blocks[: skipped_blocks(self.sites)]

    def _forward(self) -> Tensor:
        head, wanted = self.lm.anatomy.head, self._wanted
        hooks: list[Hook] = []
        if head is not None:  # it sees only the wanted positions, as one row
            hooks = [(head, "pre", lambda _m, args: (args[0][wanted].unsqueeze(0), *args[1:]))]
        with hooked(hooks):
            logits = self._layout.run().logits
        return logits[wanted] if head is None else logits[0]

    @contextmanager
    def _short_cut(self) -> Iterator[None]:
        """Blocks that need not run answer with what they answered before; restored whatever happens."""
        skipped = self._skipped_blocks()
        answers = [None] * (len(skipped) - 1) + self._states if skipped else []
        saved: list[tuple[nn.Module, Any]] = []
        try:
            for block, answer in zip(skipped, answers, strict=True):
                saved.append((block, block.__dict__.get("forward")))
                block.forward = _answer(answer, self._tuples)
            yield
        finally:
            for block, forward in saved:
                if forward is None:
                    block.__dict__.pop("forward", None)
                else:
                    block.forward = forward


def _answer(state: Tensor | None, as_tuple: bool) -> Callable[..., Any]:
    """A block's forward that returns `state`, or its own input, in the form the family's blocks return it."""

    def forward(hidden_states: Tensor, *_args: Any, **_kwargs: Any) -> Any:
        answer = hidden_states if state is None else state
        return (answer,) if as_tuple else answer

    return forward


def skipped_blocks(sites: Sequence[Site]) -> int:
    """How many blocks the vectors leave as they are."""
    return min(site.layer + (1 if site.is_block_output else 0) for site in sites)
