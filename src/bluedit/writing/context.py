"""What a batch needs besides its facts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from math import inf

import torch

from bluedit.execution import Execution
from bluedit.facts.fact import Fact
from bluedit.maths.schedule import Step
from bluedit.maths.solve import PreservationOperator
from bluedit.methods.objective import Objective
from bluedit.methods.recipe import Recipe
from bluedit.model.devices import solve_device
from bluedit.model.editable import EditableModel
from bluedit.model.sites import Place, Site
from bluedit.progress import Progress
from bluedit.shapes import Tensor
from bluedit.writing._space import Space
from bluedit.writing.found import FoundTargets
from bluedit.writing.target import TargetSource
from bluedit.writing.trace import Trace
from bluedit.writing.weights import EditedWeights

Norms = MutableMapping[Site, float]


def needed(lm: EditableModel, step: Step, site: Site) -> float:
    """What the projection must deliver of a missing residual: the step's share, undoing what blocks multiply outputs by.

    Args:
        lm: the model.
        step: which weight is written, for which target.
        site: where that target is measured.
    """
    return (
        step.share
        * (lm.anatomy.scale(step.target) if site.is_projection_output else 1.0)
        / lm.anatomy.scale(step.layer)
    )


@dataclass(frozen=True, eq=False)
class WriteContext:
    """All that a batch needs besides its facts.

    Attributes:
        lm, weights: the model, and its weights, through which all is written.
        recipe: how.
        prefixes: sentences put before prompts.
        operators: G of each layer that is written.
        fisher: Fisher information at the sites of targets, if the recipe's descent needs it.
        spaces: the directions of each layer that writes spare; none for layers that are not there.
        ordinary: gives token rows of ordinary text, for refining.
        taught: facts that the model carries from earlier batches.
        norms: mean |v*| on the unedited model by site; filled when the recipe anchors norms.
        execution: precision, and tokens per step.
        source: where targets come from; None optimises them.
        found: targets that the edit has found already; None forgets them.
        trace: told what is done.
        progress: where to report.
        most_loss: a fact whose last target ends with a larger loss, in nats, has failed.
    """

    lm: EditableModel
    weights: EditedWeights
    recipe: Recipe
    prefixes: Sequence[str] = ()
    operators: Mapping[int, PreservationOperator] = field(default_factory=dict)
    fisher: Mapping[Site, Tensor] = field(default_factory=dict)
    spaces: Mapping[int, Space] = field(default_factory=dict)
    ordinary: Callable[[], Sequence[Sequence[int]]] = list
    taught: Sequence[Fact] = ()
    norms: Norms = field(default_factory=dict)
    execution: Execution = field(default_factory=Execution)
    source: TargetSource | None = None
    found: FoundTargets | None = None
    trace: Trace = field(default_factory=Trace)
    progress: Progress = field(default_factory=Progress)
    most_loss: float = inf

    @property
    def solve_device(self) -> torch.device:
        """Where the operators are."""
        return solve_device(self.lm.device, self.execution.statistics_device)

    def site(self, layer: int) -> Site:
        """Where values live at a layer."""
        return _value_site(self.lm, self.recipe.objective, layer)


def _value_site(lm: EditableModel, objective: Objective, layer: int) -> Site:
    """Where values live at a layer: at the projection's output in models whose blocks normalise it before adding it."""
    site = Site(objective.site, layer)
    return site if lm.anatomy.additive else site.at_projection


def vector_sites(lm: EditableModel, objective: Objective, steps: Sequence[Step]) -> list[Site]:
    """All sites at which vectors are optimised for the targets of some steps."""
    layers = dict.fromkeys(step.target for step in steps)
    attention = [Site(Place.ATTENTION, layer) for layer in layers] if objective.attention else []
    return [_value_site(lm, objective, layer) for layer in layers] + attention
