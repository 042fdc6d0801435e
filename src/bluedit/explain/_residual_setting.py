"""What the stages of the analysis share: the model with an editor that each stage watches and gives targets to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from bluedit.facts.fact import Fact
from bluedit.maths.preserve import GrowingOperator
from bluedit.methods.objective import Objective
from bluedit.methods.recipe import Recipe
from bluedit.methods.schedules import Schedule
from bluedit.methods.update import ClosedForm
from bluedit.model.editable import EditableModel
from bluedit.model.sites import Place, Site
from bluedit.shapes import Float, Tensor
from bluedit.statistics.fisher import FisherStore
from bluedit.statistics.store import MomentStore
from bluedit.text.rows import Row, measured_rows
from bluedit.writing.batch import Batch
from bluedit.writing.keys import BatchRows, average_values, batch_rows
from bluedit.writing.target import Targets, TargetSource
from bluedit.writing.trace import Trace, Write

if TYPE_CHECKING:
    from bluedit.editing.editor import Editor


class Switch(Trace):
    """What an editor asks for targets and tells what it does, where both can be exchanged; `outer` is told in any case."""

    def __init__(self, source: TargetSource | None, outer: Trace) -> None:
        self.source, self.outer, self.trace = source, outer, Trace()

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
        self.outer.on_target(site, targets)
        self.trace.on_target(site, targets)

    def on_write(self, write: Write) -> None:
        self.outer.on_write(write)
        self.trace.on_write(write)

    def on_batch(self, batch: Batch) -> None:
        self.outer.on_batch(batch)
        self.trace.on_batch(batch)


@dataclass(frozen=True, eq=False)
class Setting:
    """The model and the editor of it, without edits between stages.

    Attributes:
        switch: where the editor's targets come from, and what watches it.
        host: the recipe that is analysed, with layers.
        plain, blue: the recipes of sequences of batches; `plain` is None where the model cannot distribute.
        facts: what is edited; no subject occurs twice.
        unrelated: bundled true facts about other subjects.
        batch: the rows of what is edited.
        prefixes: sentences put before prompts.
        batches: into how many the facts are cut for sequences.
        fluent: how many facts fluency is measured on.
        most: how many facts are written by several schedules and in sequences.
    """

    editor: Editor
    switch: Switch
    host: Recipe
    plain: Recipe | None
    blue: Recipe
    facts: Sequence[Fact]
    unrelated: Sequence[Fact]
    batch: BatchRows
    prefixes: Sequence[str]
    batches: int
    fluent: int
    most: int

    @cached_property
    def sample(self) -> Setting:
        """The first facts alone, which are written by several schedules and in sequences."""
        if self.most >= len(self.facts):
            return self
        facts = self.facts[: self.most]
        rows = batch_rows(self.lm.tokenizer, facts, self.prefixes, self.host)
        return replace(self, facts=facts, batch=rows, batches=min(self.batches, len(facts)))

    @property
    def lm(self) -> EditableModel:
        return self.editor.lm

    @property
    def moments(self) -> MomentStore:
        """Second moments of the unedited model's keys."""
        return self.editor.moments

    @property
    def update(self) -> ClosedForm:
        """How the host writes."""
        assert isinstance(self.host.update, ClosedForm)
        return self.host.update

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

    def fisher(self) -> dict[Site, Float[Tensor, "d_value d_value"]]:
        """Fisher information at the sites of all layers, if the host's descent needs it."""
        sites = [self.site(layer) for layer in self.layers] if self.host.objective.descent.curved else []
        return FisherStore(self.moments).get(sites, self.editor.progress)

    def block(self, layer: int) -> Site:
        """The output of a layer's block."""
        return Site(Place.BLOCK, layer)

    @property
    def measured(self) -> list[Row]:
        """The rows on which values are measured: bare prompts, and the prefixed ones of a column that has none."""
        rows = self.batch.rows
        chosen = {i for own in measured_rows(rows).values() for i in own}
        return [row for i, row in enumerate(rows) if i in chosen]

    def by_column(self, seen: Float[Tensor, "rows d_model"]) -> Float[Tensor, "d_model n"]:
        """What was seen on the measured rows, as the mean of each column."""
        return average_values(self.measured, seen, self.batch.n)

    def fact_of(self, column: int) -> int:
        """The number of the fact that a column of K and R belongs to."""
        return self.batch.owners[column][0]

    def operators(self) -> Iterator[tuple[int, GrowingOperator]]:
        """Each critical layer with its G without memory, made when it is asked for."""
        preserve = self.update.preserve
        found = self.moments.get(self.layers, self.editor.progress, beside=preserve.beside)
        for layer, C in found.items():
            yield layer, preserve.operator(C)

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
