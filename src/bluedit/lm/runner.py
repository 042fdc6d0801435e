"""The fast runner where it agrees with the plain one, and the plain one where it does not."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch

from bluedit.lm.memory import EditableModel
from bluedit.lm.observe import Site
from bluedit.lm.plain import PlainRunner
from bluedit.lm.precision import reduced_linears
from bluedit.lm.prompts import Row
from bluedit.lm.suffix import SuffixRunner, skipped_blocks
from bluedit.shapes import Tensor

log = logging.getLogger(__name__)
# nats: more than rounding alone does, by the model's own precision; a wrong position never stays below
_AGREE = {torch.float64: 2e-3, torch.float32: 2e-3, torch.bfloat16: 0.2, torch.float16: 0.1}


def make_runner(
    lm: EditableModel, rows: Sequence[Row], sites: Sequence[Site], precision: str = "full"
) -> SuffixRunner | PlainRunner:
    """A runner of `rows`, from the edited layer and token on if this model allows it.

    The fast way is compared with the plain one on the shortest and the longest row, both in the model's own precision: what bfloat16 linear
    maps add is rounding, whose size depends on the weights and says nothing about the way. Where it fails or differs, the
    plain way is taken and a log line says so.
    """
    try:
        reduced = reduced_linears(lm, precision, lm.anatomy.blocks[skipped_blocks(sites) :])
        runner = SuffixRunner(lm, rows, sites, reduced)
        apart = _difference(lm, rows, sites)
    except (TypeError, AttributeError, RuntimeError, ValueError, IndexError, KeyError, NotImplementedError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        return _plain(lm, rows, sites, f"{type(error).__name__}: {error}")
    if not apart <= _AGREE[lm.dtype] and apart == apart:  # NaN is not the runner's doing: the caller reports it
        return _plain(lm, rows, sites, f"its log-probabilities differ by {apart:.2g} nats")
    return runner


@torch.no_grad()
def _difference(lm: EditableModel, rows: Sequence[Row], sites: Sequence[Site]) -> float:
    """Mean difference of log-probabilities between the two ways, weighted by probability, on two rows with a vector added."""
    some = [min(rows, key=lambda row: row.subject_last), max(rows, key=lambda row: len(row.ids))]
    fast, plain = SuffixRunner(lm, some, sites), PlainRunner(lm, some, sites)
    return float(max(_apart(fast, plain, row) for row in some))


def _apart(fast: SuffixRunner, plain: PlainRunner, row: Row) -> Tensor:
    shown = []
    for runner in (plain, fast):
        push = 0.1 * runner.values.roll(1, dims=-1)
        logits = runner.logits(push)
        sizes = [max(1, len(r.targets)) for r in runner.rows]
        shown.append(logits.split(sizes)[runner.rows.index(row)].double().log_softmax(dim=-1))
    wanted, found = shown
    return (wanted.exp() * (wanted - found).abs()).sum(dim=-1).max()


def _plain(lm: EditableModel, rows: Sequence[Row], sites: Sequence[Site], why: str) -> PlainRunner:
    log.warning(
        "%s is run the plain, slower way while targets are optimised: the fast way does not fit (%s)", lm.name, why
    )
    return PlainRunner(lm, rows, sites)
