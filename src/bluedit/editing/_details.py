"""How the facts of an edit were written, as far as it tells why a model does not say one: loss, bound, reach, and what came later."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch

from bluedit.evaluate.report import Details
from bluedit.facts.subjects import same_subject_key
from bluedit.methods.recipe import Recipe
from bluedit.model.sites import Site
from bluedit.shapes import Int, Tensor
from bluedit.writing.batch import Batch
from bluedit.writing.keys import batch_rows
from bluedit.writing.target import Targets
from bluedit.writing.trace import Trace, Write

_AT_BOUND = 0.999  # of the bound: rounding leaves |delta| a little below it


class _Columns:
    """What the loop did with the columns of one batch; the last target counts, since it decides what the model says.

    Numbers by column, on the CPU: an edit of many batches must not keep its targets on the model's device.
    """

    def __init__(self) -> None:
        self.loss: Tensor | None = None
        self.size: Tensor | None = None  # |z - h| / |h|
        self.first: dict[int, Tensor] = {}  # by layer of the target: |missing| before the first write
        self.taken: dict[int, Tensor] = {}  # share of it that the weights have taken

    def aim(self, targets: Targets) -> None:
        """Note the targets of a layer, in place of those of the layer before."""
        start = targets.start.norm(dim=0)
        self.loss, self.size = targets.loss.cpu(), ((targets.z - targets.start).norm(dim=0) / start).cpu()

    def add(self, write: Write) -> None:
        """Earlier writes of a column count as well: what they left is what the last one found missing."""
        layer, missing = write.step.target, write.missing.norm(dim=0).cpu()
        first = self.first.setdefault(layer, missing).clamp(min=torch.finfo(missing.dtype).tiny)
        taken = 1 - (1 - write.step.share * write.reach.cpu()) * missing / first
        self.taken[layer] = torch.where(write.due.cpu(), taken, self.taken.get(layer, taken))

    def details(self, recipe: Recipe, sharing: Int[Tensor, "n"]) -> dict[str, list[Any]]:
        """Loss, bound and reach by column; `sharing` is the number of facts of each."""
        loss, size = self.loss, self.size
        if loss is None or size is None or not self.taken:
            return {}
        objective, (*_, taken) = recipe.objective, self.taken.values()
        at_bound = size >= _AT_BOUND * objective.clamp * sharing.to(size) ** objective.clamp_growth
        # a target that is good enough wants no larger bound, and an anchored norm says nothing about it
        bound = at_bound & (loss >= objective.stop_loss) & (not objective.norm_anchor)
        return {"loss": loss.tolist(), "bound": bound.tolist(), "reach": taken.tolist()}


class WriteDetails(Trace):
    """Passes everything on to another trace, and keeps what tells how well each fact of an edit was written."""

    def __init__(self, inner: Trace) -> None:
        self.inner = inner
        self.clear()

    def clear(self) -> None:
        """Begin a new edit."""
        self._done: list[_Columns] = []
        self._now = _Columns()

    def on_target(self, site: Site, targets: Targets) -> None:
        self._now.aim(targets)
        self.inner.on_target(site, targets)

    def on_write(self, write: Write) -> None:
        self._now.add(write)
        self.inner.on_write(write)

    def on_batch(self, batch: Batch) -> None:
        self._done.append(self._now)
        self._now = _Columns()
        self.inner.on_batch(batch)

    def on_taken_back(self, batch: Batch | None) -> None:
        if batch is not None:
            self._done.pop()
        self._now = _Columns()
        self.inner.on_taken_back(batch)

    def of(self, tokenizer: Any, recipe: Recipe, batches: Sequence[Batch]) -> Details:
        """By the text of a fact's prompt what is known of its last write, for `bluedit.evaluate.report.compare`.

        Args:
            batches: those of the edit, in order.
        """
        found: dict[str, dict[str, Any]] = {}
        for columns, batch in zip(self._done, batches, strict=True):
            rows = batch_rows(tokenizer, batch.written, batch.origin.prefixes[:1], recipe)
            facts = Counter(row.fact for row in rows.rows if row.is_bare)
            known = columns.details(recipe, torch.tensor([max(1, facts[column]) for column in range(rows.n)]))
            for fact in batch.written:
                found[fact.text] = {}
            for column, owners in enumerate(rows.owners):
                for name, values in known.items():
                    worse = min if name == "reach" else max  # the one figure of which little is bad
                    for own in (found[batch.written[i].text] for i in owners):
                        own[name] = worse(own.get(name, values[column]), values[column])
        for text, later in _lost_to(batches).items():
            found[text]["lost_to"] = later
        return found


def _lost_to(batches: Sequence[Batch]) -> dict[str, str]:
    """Facts whose key a later batch gave to another fact about the same subject without writing them again, and that fact in words."""
    lost: dict[str, str] = {}
    about: dict[str, set[str]] = {}  # texts of facts by subject
    for batch in batches:
        again = {fact.text for fact in batch.written}
        for fact in batch.facts:
            earlier = about.setdefault(same_subject_key(fact.subject), set())
            lost |= dict.fromkeys(earlier - again, f"{fact.text!r} => {fact.target!r}")
        for fact in batch.facts:
            about[same_subject_key(fact.subject)].add(fact.text)
        lost = {text: later for text, later in lost.items() if text not in again}
    return lost
