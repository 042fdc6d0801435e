"""Chooses a runner: a fast one if it agrees with the reference forward, otherwise the reference forward itself."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from weakref import WeakSet

import torch

from bluedit.errors import FAMILY_ERRORS, out_of_memory
from bluedit.forward._layout import Layout
from bluedit.forward._packed import Packed, uses_attention_interface
from bluedit.forward._padded import Padded
from bluedit.forward._reference import ReferenceRunner
from bluedit.forward._suffix import Beginnings, SuffixRunner, unchanged_blocks
from bluedit.model.devices import widened
from bluedit.model.editable import EditableModel
from bluedit.model.memory import too_little
from bluedit.model.precision import TOLERANCE, ReducedLinears, reduced_linears
from bluedit.model.sites import Site
from bluedit.shapes import Tensor
from bluedit.text.rows import Row, touched

Runner = SuffixRunner | ReferenceRunner
log = logging.getLogger(__name__)
_WARNED: WeakSet[EditableModel] = WeakSet()  # an edit makes many runners; one line is enough


@dataclass(frozen=True, eq=False)
class Runners:
    """Makes runners for rows of one model.

    Attributes:
        layout: of fast runners; None for reference runners.
        reduced: linear maps of fast runners.
    """

    lm: EditableModel
    sites: tuple[Site, ...]
    layout: type[Layout] | None = None
    reduced: ReducedLinears | None = None

    def __call__(self, rows: Sequence[Row]) -> Runner:
        """A runner of these rows."""
        return self.several([rows])[0]

    def exact(self, rows: Sequence[Row]) -> Runner:
        """A runner of these rows whose linear maps have the model's own precision."""
        return replace(self, reduced=None)(rows)

    def several(self, parts: Sequence[Sequence[Row]]) -> list[Runner]:
        """A runner for each of several lists of rows. What their texts begin with is computed once for all of them."""
        if self.layout is None:
            return [ReferenceRunner(self.lm, rows, self.sites) for rows in parts]
        before = Beginnings(self.lm, [row for rows in parts for row in rows], self.reduced)
        return [SuffixRunner(self.lm, rows, self.sites, self.layout, self.reduced, before) for rows in parts]


def runners(lm: EditableModel, rows: Sequence[Row], sites: Sequence[Site], precision: str = "full") -> Runners:
    """A factory of runners for subsets of `rows`, with the fastest layout that is right for this model.

    Each fast layout (packed, then padded) is compared with the reference forward on two rows, the one with the fewest tokens before its
    subject's last and the longest one, in the model's own precision: reduced precision adds rounding, whose size depends on the weights
    and says nothing about the layout. Where both layouts fail or differ, the factory makes reference runners and logs one warning for the model.
    """
    why = lm.cache_fault
    for layout in () if why else (Packed, Padded):
        try:
            if layout is Packed and not uses_attention_interface(lm):
                continue
            difference = _difference(lm, rows, sites, layout)
        except FAMILY_ERRORS as error:
            if out_of_memory(error):
                raise too_little(lm.device, "two prompts", error) from error
            why = f"{type(error).__name__}: {error}"
            continue
        if difference <= TOLERANCE[lm.dtype]:
            above = lm.anatomy.blocks[unchanged_blocks(sites) :]
            reduced = reduced_linears(lm, precision, above, lm.anatomy.head, exact_logits=True)
            return Runners(lm, tuple(sites), layout, reduced)
        why = f"its log-probabilities differ by {difference:.2g} nats"
    log.log(
        logging.DEBUG if lm in _WARNED else logging.WARNING,
        "%s uses the slower reference forward to optimise targets: the fast one does not fit (%s)",
        lm.name,
        why,
    )
    _WARNED.add(lm)
    return Runners(lm, tuple(sites))


@torch.no_grad()
def _difference(lm: EditableModel, rows: Sequence[Row], sites: Sequence[Site], layout: type[Layout]) -> float:
    """Largest mean difference of log-probabilities between a layout and the reference forward, on two rows with a vector added.

    The mean is weighted by probability.
    """
    some = [min(rows, key=lambda row: row.subject_last), max(rows, key=lambda row: len(row.ids))]
    expected, found = (
        _by_row(runner, some) for runner in (ReferenceRunner(lm, some, sites), SuffixRunner(lm, some, sites, layout))
    )
    return float(torch.stack([_apart(*pair) for pair in zip(expected, found, strict=True)]).max())


def _by_row(runner: Runner, rows: Sequence[Row]) -> list[Tensor]:
    """Log-probabilities of each of these rows, with a vector added."""
    at = [token.row for token in touched(runner.rows)]
    logits = runner.logits(0.1 * runner.values.roll(1, dims=-1)[:, at])
    own = logits.split([max(1, len(row.targets)) for row in runner.rows])
    return [widened(own[runner.rows.index(row)]).log_softmax(dim=-1) for row in rows]


def _apart(expected: Tensor, found: Tensor) -> Tensor:
    difference = (expected.exp() * (expected - found).abs()).nan_to_num(nan=torch.inf)
    # tokens that the model rules out (and its own NaN, which the caller reports) do not count
    return difference.where(expected > -torch.inf, 0.0).sum(dim=-1).max()
