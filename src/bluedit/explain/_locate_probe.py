"""The probe that decides: z* of the same facts at each layer, and an edit that writes this layer alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from bluedit.evaluate.outcome import Outcome, Yardstick
from bluedit.explain.locate_data import Layer, Target
from bluedit.forward import runners
from bluedit.methods.recipe import Recipe
from bluedit.methods.schedules import Single
from bluedit.model.sites import Site
from bluedit.model.state import frozen
from bluedit.shapes import Float, Tensor
from bluedit.text.rows import Row, touched
from bluedit.writing.batch import Batch
from bluedit.writing.keys import batch_rows
from bluedit.writing.target import Targets
from bluedit.writing.trace import Trace, Write

if TYPE_CHECKING:
    from bluedit.editing.editor import Editor
    from bluedit.facts.fact import Fact


class Watch(Trace):
    """Keeps the targets and the first write of an edit."""

    def __init__(self) -> None:
        self.targets: Targets | None = None
        self.site: Site | None = None
        self.write: Write | None = None
        self.prefixes: Sequence[str] = ()

    def seen(self) -> tuple[Site, Targets, Write]:
        """What was kept; from now on the next edit's is."""
        site, targets, write = self.site, self.targets, self.write
        assert site and targets and write
        self.site = self.targets = self.write = None
        return site, targets, write

    def on_target(self, site: Site, targets: Targets) -> None:
        self.site, self.targets = site, targets

    def on_write(self, write: Write) -> None:
        self.write = self.write or write

    def on_batch(self, batch: Batch) -> None:
        self.prefixes = batch.origin.prefixes


@dataclass(frozen=True, eq=False)
class Probe:
    """What all layers are probed with.

    Attributes:
        editor: of the unedited model; `watch` is its trace.
        watch: sees what an edit does.
        recipe: closed form, teaching the prompt alone, without memory.
        facts: each about another subject.
        yardstick: measures the model.
        before: the unedited model on these facts.
    """

    editor: Editor
    watch: Watch
    recipe: Recipe
    facts: Sequence[Fact]
    yardstick: Yardstick
    before: Outcome

    def at(self, layer: int) -> tuple[list[Target], list[Layer]]:
        """Edit this layer alone, measure, and take the edit back."""
        recipe = replace(self.recipe, schedule=Single(), layers=(layer,))
        try:
            self.editor.edit(self.facts, recipe, known="edit", phrasings=False, report=False)
            after = self.yardstick.outcome(self.facts)
        finally:
            self.editor.reset()
        numbers = after.numbers() | {
            "specificity_before": self.before.specificity,
            "perplexity_before": self.before.perplexity,
            "score": after.score(self.before),
        }
        return self._targets(layer, recipe), [Layer(layer, **numbers)]

    def _targets(self, layer: int, recipe: Recipe) -> list[Target]:
        site, targets, write = self.watch.seen()
        laid = batch_rows(self.editor.lm.tokenizer, self.facts, self.watch.prefixes, recipe)
        bare = {row.fact for row in laid.rows if row.is_bare}  # other columns are of the prompt after a sentence
        vectors = targets.z - targets.start
        said = self._said([row for row in laid.rows if row.is_bare], site, vectors)
        match = self._match(layer, write.keys)
        size, state = vectors.norm(dim=0), targets.start.norm(dim=0)
        columns = {
            "loss": targets.loss,
            "length": size / state,
            "match": match / len(write.keys),
            "cost": size / match.sqrt() / state,
            "delivered": write.reach,
        }
        found = []
        for column in bare:
            owners = laid.owners[column]
            numbers = {name: float(values[column]) for name, values in columns.items()}
            steps, says = int(targets.steps[column]), said.get(column, float("nan"))
            found += [Target(layer, fact, steps=steps, said=says, **numbers) for fact in owners]
        return sorted(found, key=lambda row: row.fact)

    def _match(self, layer: int, keys: Float[Tensor, "d_key n"]) -> Float[Tensor, "n"]:
        """k^T C^-1 k of each key."""
        moment = self.editor.moments.get([layer], self.editor.progress)[layer]
        device = moment.matrix.device
        wide = keys.to(device).double()
        solved = moment.cholesky().solve(wide)
        return (wide * solved).sum(dim=0).to(keys)

    @torch.no_grad()
    def _said(self, rows: Sequence[Row], site: Site, vectors: Float[Tensor, "d_value n"]) -> dict[int, float]:
        """Whether the model says the target of each column on its bare prompt with the vector added."""
        lm = self.editor.lm
        with frozen(lm.model):
            runner = runners(lm, rows, (site,), "full")(rows)
            columns = [token.column for token in touched(runner.rows)]
            logits = runner.logits(vectors[:, columns].T[None].to(runner.values))
        first = logits.argmax(dim=-1).split([len(row.targets) for row in runner.rows])
        return {
            row.fact: float(tuple(found.tolist()) == row.targets) for row, found in zip(runner.rows, first, strict=True)
        }
