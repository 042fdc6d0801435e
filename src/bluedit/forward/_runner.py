"""The fast runner where it agrees with the plain one, and the plain one where it does not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch

from bluedit.errors import out_of_memory
from bluedit.forward._layout import Layout, Packed, Padded
from bluedit.forward._packed import asks_for_attention
from bluedit.forward._reference import PlainRunner
from bluedit.forward._suffix import SuffixRunner, skipped_blocks
from bluedit.model.editable import EditableModel
from bluedit.model.precision import reduced_linears
from bluedit.model.sites import Site
from bluedit.shapes import Tensor
from bluedit.text.rows import Row

Runner = SuffixRunner | PlainRunner
log = logging.getLogger(__name__)
# what a family's own forward raises when it is run in a way it was not made for
_DOES_NOT_FIT = (TypeError, AttributeError, RuntimeError, ValueError, IndexError, KeyError, NotImplementedError)
# nats: more than rounding alone does, by the model's own precision; a wrong position never stays below
_AGREE = {torch.float64: 2e-3, torch.float32: 2e-3, torch.bfloat16: 0.2, torch.float16: 0.1}


def runners(
    lm: EditableModel, rows: Sequence[Row], sites: Sequence[Site], precision: str = "full"
) -> Callable[[Sequence[Row]], Runner]:
    """What makes runners of some of `rows`: from the edited layer and token on if this model allows it.

    Each fast layout is compared with the plain way on the row with the shortest beginning and the longest one, in the model's own
    precision: what bfloat16 linear maps add is rounding, whose size depends on the weights and says nothing about the way. Where both
    fail or differ, the plain way is taken and a log line says so.
    """
    why = ""
    for layout in (Packed, Padded):
        try:
            if layout is Packed and not asks_for_attention(lm):
                continue
            apart = _difference(lm, rows, sites, layout)
        except _DOES_NOT_FIT as error:
            if out_of_memory(error):
                raise
            why = f"{type(error).__name__}: {error}"
            continue
        if apart <= _AGREE[lm.dtype]:
            reduced = reduced_linears(lm, precision, lm.anatomy.blocks[skipped_blocks(sites) :])
            return lambda some: SuffixRunner(lm, some, sites, layout, reduced)
        why = f"its log-probabilities differ by {apart:.2g} nats"
    log.warning(
        "%s is run the plain, slower way while targets are optimised: the fast way does not fit (%s)", lm.name, why
    )
    return lambda some: PlainRunner(lm, some, sites)


@torch.no_grad()
def _difference(lm: EditableModel, rows: Sequence[Row], sites: Sequence[Site], layout: type[Layout]) -> float:
    """Mean difference of log-probabilities between the two ways, weighted by probability, on two rows with a vector added."""
    some = [min(rows, key=lambda row: row.subject_last), max(rows, key=lambda row: len(row.ids))]
    fast, plain = SuffixRunner(lm, some, sites, layout), PlainRunner(lm, some, sites)
    return float(torch.stack([_apart(fast, plain, row) for row in some]).max())


def _apart(fast: SuffixRunner, plain: PlainRunner, row: Row) -> Tensor:
    shown = []
    for runner in (plain, fast):
        push = 0.1 * runner.values.roll(1, dims=-1)
        logits = runner.logits(push)
        sizes = [max(1, len(r.targets)) for r in runner.rows]
        shown.append(logits.split(sizes)[runner.rows.index(row)].double().log_softmax(dim=-1))
    wanted, found = shown
    apart = (wanted.exp() * (wanted - found).abs()).nan_to_num(nan=torch.inf)
    return (
        apart.where(wanted > -torch.inf, 0.0).sum(dim=-1).max()
    )  # not what the model rules out, nor its own NaN: the caller reports that
