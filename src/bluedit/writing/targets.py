"""Targets z*: the hidden state at the subject's last token that makes the model say the new fact.

ROME (arXiv 2202.05262, eq. 4) and MEMIT (arXiv 2210.07229, eq. 16) run Adam on a vector delta added at one site, PMET (arXiv 2308.08742,
eq. 6) on a second one at the attention's output as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch

from bluedit.execution import Execution
from bluedit.forward import runners, tokens_per_step
from bluedit.methods.objective import Objective
from bluedit.model.editable import EditableModel
from bluedit.model.sites import Place, Site
from bluedit.progress import Advance
from bluedit.shapes import Float, Int, Tensor
from bluedit.text.rows import Row, chunks_by_cost
from bluedit.writing._optimiser import ChunkOptimiser

_PREFIX_COST = (
    16  # prefix tokens, of which only keys and values are kept, that need as much memory as one token after them
)


@dataclass(frozen=True, eq=False)
class Targets:
    """Optimised targets of n facts at one site.

    Attributes:
        z: target activations, d_value x n, float32 or wider.
        start: activations before, on the bare prompt, d_value x n.
        steps: Adam steps taken per fact.
        loss: last loss per fact, in nats.
    """

    z: Float[Tensor, "d_value n"]
    start: Float[Tensor, "d_value n"]
    steps: Int[Tensor, "n"]
    loss: Float[Tensor, "n"]


class TargetSource(Protocol):
    """Where the targets of a batch come from: a store on disk, or values of one's own."""

    def get(
        self, lm: EditableModel, rows: Sequence[Row], site: Site, objective: Objective, optimise: Callable[[], Targets]
    ) -> Targets:
        """The targets of the facts in `rows` on the model's weights as they are; `optimise` computes them."""
        ...


@torch.enable_grad()
def optimise_targets(
    lm: EditableModel,
    rows: Sequence[Row],
    site: Site,
    objective: Objective,
    execution: Execution,
    advance: Advance,
    unedited: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Targets:
    """Optimise z* of every fact in `rows` at `site`, on the weights as they are now.

    Facts are independent under Adam, so a chunk of facts is optimised in one forward pass per step.

    Args:
        lm: the model.
        rows: prompts of the facts, with drift rows; rows of one fact share its vector.
        site: where the vector is added and z* is measured.
        objective: the loss and its numbers.
        execution: precision, and tokens per step.
        advance: called once for each finished fact.
        unedited: puts the unedited weights in place for a while; the KL term holds on to them if the objective says so.

    Raises:
        EditError: a loss is not finite.
    """
    by_fact: dict[int, list[Row]] = {}
    for row in rows:
        by_fact.setdefault(row.fact, []).append(row)
    facts = sorted(by_fact)
    costs = [sum(row.suffix + row.subject_last // _PREFIX_COST for row in by_fact[f]) for f in facts]
    sites = (site, Site(Place.ATTENTION, site.layer)) if objective.attention else (site,)
    make_runner = runners(lm, rows, sites, execution.precision)
    found: dict[int, tuple[Tensor, ...]] = {}
    for chunk in chunks_by_cost(costs, execution.tokens_per_step or tokens_per_step(lm)):
        chosen = [row for i in chunk for row in by_fact[facts[i]]]
        optimiser = ChunkOptimiser(make_runner(chosen), chosen, objective)
        if objective.anchors_on_unedited_weights:
            drift = [row for row in chosen if row.is_drift]
            with unedited():
                optimiser.anchor(runners(lm, drift, sites)(drift))
        columns = optimiser.optimise(advance)
        found.update((facts[i], tuple(column[j] for column in columns)) for j, i in enumerate(chunk))
    z, start, steps, loss = (torch.stack(column) for column in zip(*(found[f] for f in facts), strict=True))
    return Targets(z.T.contiguous(), start.T.contiguous(), steps, loss)
