"""What writing does: one layer alone, and all critical layers by different schedules."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from bluedit.evaluate.metrics import Columns
from bluedit.evaluate.model_queries import ModelQueries
from bluedit.evaluate.suites import suites_of
from bluedit.explain._residual_vectors import replayed
from bluedit.explain.residual_data import Remaining, SingleLayer, Steps
from bluedit.maths.schedule import Step
from bluedit.methods.schedules import Boundary, Schedule, Single
from bluedit.model.precision import reduced_linears
from bluedit.model.sites import Site
from bluedit.shapes import Tensor
from bluedit.writing.batch import Batch
from bluedit.writing.keys import read_values
from bluedit.writing.target import Fixed, Targets, TargetSource
from bluedit.writing.trace import Trace, Write

if TYPE_CHECKING:
    from bluedit.explain._residual_setting import Setting
    from bluedit.explain._residual_vectors import Residuals


class Undivided(Schedule):
    """All layers, each with all that is missing of the last layer's target."""

    def steps(self, layers: Sequence[int]) -> tuple[Step, ...]:
        return tuple(Step(layer, layers[-1], 1.0) for layer in layers)


class EachOwn(Schedule):
    """All layers, each with its own target and all of its residual."""

    def steps(self, layers: Sequence[int]) -> tuple[Step, ...]:
        return tuple(Step(layer, layer, 1.0) for layer in layers)


def single_layer(setting: Setting, residuals: Residuals, layer: int, kinds: Sequence[str]) -> list[SingleLayer]:
    """Metrics of every fact after writing one layer with its computed or distributed residual, by the ordinary loop.

    Several kinds are one and the same residual, which is written and measured once.
    """
    given = residuals.both(layer, distributes=setting.distributes)[kinds[0]]
    source = Fixed(partial(_values, setting), lambda _, start: start + given)
    with setting.edited(Single(), layers=(layer,), source=source):
        columns = measured(setting)
    return [
        SingleLayer(layer, kind, name, fact, value)
        for kind in kinds
        for name, values in columns.items()
        for fact, value in enumerate(values)
    ]


def measured(setting: Setting) -> Columns:
    """CounterFact's metrics of all facts, or zsRE's where a fact has no old target, and fluency of the first facts.

    Answers are scored with the precision in which targets are optimised, sampled text is not.
    """
    facts = list(setting.facts)
    queries = ModelQueries(setting.lm, setting.editor.unedited, setting.editor.progress)
    compared = all(fact.old_target is not None for fact in facts)
    (suite,) = suites_of(["counterfact" if compared else "zsre"])
    reduced = reduced_linears(setting.lm, setting.editor.execution.precision, setting.lm.anatomy.blocks)
    with reduced.active() if reduced else nullcontext():
        columns = dict(suite.measure(queries, facts))
    if setting.fluent:
        (fluency,) = suites_of(["fluency"])
        sampled = fluency.measure(queries, facts[: setting.fluent])
        columns |= {name: values for name, values in sampled.items() if not all(map(math.isnan, values))}
    return {name: values for name, values in columns.items() if compared or name != "locality_same"}


def _values(setting: Setting, site: Site) -> Tensor:
    """The current value of each column at a site."""
    return read_values(setting.lm, setting.batch.rows, site, setting.batch.n)


@dataclass(frozen=True)
class Order:
    """One way to write the critical layers.

    Attributes:
        name: as tables and pages have it.
        schedule: the steps.
        source: makes the source of targets from the unedited model's residuals; None optimises them, or takes those that were kept.
        measures_steps: whether the steps of its targets are what the table of steps shows.
    """

    name: str
    schedule: Callable[[Setting], Schedule]
    source: Callable[[Setting, Residuals], TargetSource] | None = None
    measures_steps: bool = False


def _replay(setting: Setting, residuals: Residuals) -> TargetSource:
    z = replayed(setting, residuals)
    return Fixed(partial(_values, setting), lambda site, _: z[site.layer])


ORDERS = (
    Order("divided", lambda setting: setting.host.schedule),
    Order("undivided", lambda _: Undivided()),
    Order("own targets", lambda _: EachOwn(), measures_steps=True),
    Order("BLUE", lambda _: Boundary()),
    Order("single", lambda _: Single()),
    Order("replay", lambda _: EachOwn(), _replay),
)


class _Watch(Trace):
    """Notes how much of the last layer's residual is missing after each write, and the steps of each target."""

    def __init__(self, setting: Setting, residuals: Residuals, name: str) -> None:
        self.setting, self.name = setting, name
        self.remaining: list[Remaining] = []
        self.steps: dict[int, list[int]] = {}
        self._wanted = residuals.targets[setting.layers[-1]]
        self._rest = False
        self._note(0, -1)

    def on_target(self, site: Site, targets: Targets) -> None:
        self.steps[site.layer] = targets.steps.tolist()

    def on_write(self, write: Write) -> None:
        if write.number == 0:
            self._note(1 + self.remaining[-1].write, write.step.layer)
        else:  # some facts are written again: noted once, at the end
            self._rest = True

    def on_batch(self, batch: Batch) -> None:
        if self._rest or batch.filters:
            self._note(1 + self.remaining[-1].write, -1)

    def _note(self, write: int, layer: int) -> None:
        wanted, setting = self._wanted, self.setting
        missing = wanted.z - _values(setting, setting.site(setting.layers[-1]))
        shares = missing.norm(dim=0) / (wanted.z - wanted.start).norm(dim=0)
        self.remaining += [
            Remaining(self.name, write, layer, setting.fact_of(column), share)
            for column, share in enumerate(shares.tolist())
        ]


def written_by(setting: Setting, residuals: Residuals, order: Order) -> tuple[list[Remaining], dict[int, list[int]]]:
    """What is missing of the last layer's residual after each write, and the steps of each target that was optimised on the way."""
    watch = _Watch(setting, residuals, order.name)
    source = order.source(setting, residuals) if order.source else None
    with setting.edited(order.schedule(setting), source=source, trace=watch):
        return watch.remaining, watch.steps


def steps_of(setting: Setting, residuals: Residuals, after: dict[int, list[int]]) -> list[Steps]:
    """Steps of each layer's target on the unedited model and after the layers below were written."""
    most = setting.host.objective.steps - 1  # the last evaluation takes no step
    return [
        Steps(layer, setting.fact_of(column), before, now, most)
        for layer in setting.layers
        for column, (before, now) in enumerate(zip(residuals.targets[layer].steps.tolist(), after[layer], strict=True))
    ]
