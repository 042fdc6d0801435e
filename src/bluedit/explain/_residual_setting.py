"""What the stages of the analysis share: the model with an editor that each stage watches and gives targets to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from bluedit.facts.fact import Fact
from bluedit.maths.preserve import GrowingOperator
from bluedit.methods.objective import Objective
from bluedit.methods.recipe import Recipe
from bluedit.methods.schedules import Schedule
from bluedit.model.editable import EditableModel
from bluedit.model.sites import Place, Site
from bluedit.shapes import Float, Tensor
from bluedit.statistics.store import MomentStore
from bluedit.text.rows import Row
from bluedit.writing.batch import Batch
from bluedit.writing.keys import BatchRows
from bluedit.writing.target import Targets, TargetSource
from bluedit.writing.trace import Trace, Write

if TYPE_CHECKING:
    from bluedit.editing.editor import Editor


class Given(TargetSource):
    """Targets that add given residuals to the values as they are, by layer."""

    def __init__(self, residuals: Mapping[int, Float[Tensor, "d_value n"]], read: Callable[[Site], Tensor]) -> None:
        self._residuals, self._read = residuals, read

    def get(
        self,
        lm: EditableModel,
        rows: Sequence[Row],
        site: Site,
        objective: Objective,
        optimise: Callable[[], Targets],
        *,
        later: Sequence[Site] = (),
    ) -> Targets:
        del lm, rows, objective, optimise, later
        start = self._read(site)
        return fixed(start + self._residuals[site.layer], start)


class Known(TargetSource):
    """Targets with given values, by layer, whatever the weights are."""

    def __init__(self, z: Mapping[int, Float[Tensor, "d_value n"]], read: Callable[[Site], Tensor]) -> None:
        self._z, self._read = z, read

    def get(
        self,
        lm: EditableModel,
        rows: Sequence[Row],
        site: Site,
        objective: Objective,
        optimise: Callable[[], Targets],
        *,
        later: Sequence[Site] = (),
    ) -> Targets:
        del lm, rows, objective, optimise, later
        return fixed(self._z[site.layer], self._read(site))


def fixed(z: Tensor, start: Tensor) -> Targets:
    """Targets that were not optimised: no steps, and no loss."""
    n = z.shape[1]
    return Targets(z, start, torch.zeros(n, dtype=torch.long), torch.full((n,), torch.nan))


class Switch(Trace):
    """What an editor asks for targets and tells what it does, where both can be exchanged."""

    def __init__(self, source: TargetSource | None) -> None:
        self.source, self.trace = source, Trace()

    def get(
        self,
        lm: EditableModel,
        rows: Sequence[Row],
        site: Site,
        objective: Objective,
        optimise: Callable[[], Targets],
        *,
        later: Sequence[Site] = (),
    ) -> Targets:
        if self.source is None:
            return optimise()
        more = {"later": later} if later else {}
        return self.source.get(lm, rows, site, objective, optimise, **more)

    def on_target(self, site: Site, targets: Targets) -> None:
        self.trace.on_target(site, targets)

    def on_write(self, write: Write) -> None:
        self.trace.on_write(write)

    def on_batch(self, batch: Batch) -> None:
        self.trace.on_batch(batch)


@dataclass(frozen=True, eq=False)
class Setting:
    """The model and the editor of it, without edits between stages.

    Attributes:
        switch: where the editor's targets come from, and what watches it.
        host: the recipe whose distribution is looked into, with layers.
        plain, blue: the recipes of sequences of batches; `plain` is None where the model cannot distribute.
        facts: what is edited; no subject occurs twice.
        batch: their rows.
        moments: second moments of the unedited model's keys.
        batches: into how many the facts are cut for sequences.
        fluent: how many facts fluency is measured on.
    """

    editor: Editor
    switch: Switch
    host: Recipe
    plain: Recipe | None
    blue: Recipe
    facts: Sequence[Fact]
    batch: BatchRows
    moments: MomentStore
    batches: int
    fluent: int

    @property
    def lm(self) -> EditableModel:
        return self.editor.lm

    @property
    def layers(self) -> tuple[int, ...]:
        """The critical layers, ascending."""
        return self.host.layers

    @property
    def distributes(self) -> bool:
        """Whether a layer can write what another one lacks: its MLP's output reaches the residual stream unchanged."""
        return self.lm.anatomy.additive

    @property
    def shares(self) -> dict[int, float]:
        """Fraction of the last layer's residual that distribution gives each layer, from the host's schedule."""
        return {step.layer: step.share for step in self.host.steps()}

    def after(self, layer: int) -> int:
        """Critical layers after one."""
        return len(self.layers) - 1 - self.layers.index(layer)

    def site(self, layer: int) -> Site:
        """Where a layer's targets live."""
        site = Site(self.host.objective.site, layer)
        return site if self.distributes else site.at_projection

    def block(self, layer: int) -> Site:
        """The output of a layer's block."""
        return Site(Place.BLOCK, layer)

    @property
    def measured(self) -> list[Row]:
        """Bare prompts in the order of their columns; a column without any has its first prompt."""
        prompts = [row for row in self.batch.rows if not row.is_drift]
        found: dict[int, Row] = {}
        for row in sorted(prompts, key=lambda row: not row.is_bare):
            found.setdefault(row.fact, row)
        return [found[column] for column in range(self.batch.n)]

    def fact_of(self, column: int) -> int:
        """The number of the fact that a column of K and R belongs to."""
        return self.batch.owners[column][0]

    def operators(self) -> dict[int, GrowingOperator]:
        """G of each critical layer, without memory."""
        preserve = self.host.update.preserve
        assert preserve is not None
        found = self.moments.get(self.layers, self.editor.progress, names=preserve.weight_of_names)
        return {layer: preserve.operator(C) for layer, C in found.items()}

    @contextmanager
    def edited(
        self,
        schedule: Schedule,
        *,
        layers: Sequence[int] | None = None,
        source: TargetSource | None = None,
        trace: Trace | None = None,
    ) -> Iterator[None]:
        """Inside the `with` the facts are written, by the host with another schedule; after it the model is unedited again."""
        recipe = replace(self.host, schedule=schedule, layers=tuple(layers or self.layers))
        with self.watched(source, trace):
            try:
                self.editor.edit(self.facts, recipe, known="edit", phrasings=False, report=False)
                yield
            finally:
                self.editor.reset()

    @contextmanager
    def watched(self, source: TargetSource | None = None, trace: Trace | None = None) -> Iterator[None]:
        """Another source of targets, and another trace, for the duration."""
        before = self.switch.source, self.switch.trace
        self.switch.source, self.switch.trace = source or before[0], trace or Trace()
        try:
            yield
        finally:
            self.switch.source, self.switch.trace = before
