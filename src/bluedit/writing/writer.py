"""Writing facts: prefixes, statistics and memory around the loop, and where each batch comes from."""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from bluedit.execution import Execution
from bluedit.facts.fact import Fact
from bluedit.facts.subjects import same_subject_key
from bluedit.forward import says_targets
from bluedit.methods.preserve import Control
from bluedit.methods.recipe import Recipe
from bluedit.model.devices import solve_device
from bluedit.model.editable import EditableModel
from bluedit.model.sites import Site
from bluedit.progress import Progress
from bluedit.statistics.fisher import FisherStore
from bluedit.statistics.store import MomentStore
from bluedit.text.contexts import sampled_prefixes
from bluedit.writing._spaces import Spaces
from bluedit.writing.batch import Batch, Update, objective_fingerprint
from bluedit.writing.context import WriteContext, vector_sites
from bluedit.writing.edit_run import EditRun, Judge, KeepAll, standing_facts, taught_rows
from bluedit.writing.keys import BatchRows
from bluedit.writing.loop import write_batch
from bluedit.writing.memory import Memory
from bluedit.writing.needs import Needs
from bluedit.writing.target import TargetSource
from bluedit.writing.trace import Trace
from bluedit.writing.weights import EditedWeights, Snapshot

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class FactWriter:
    """Writes facts into one model. This changes the model; the caller holds the transaction.

    Attributes:
        lm, weights: the model, and its weights, through which all is written.
        moments: second moments of keys.
        execution: precision, tokens per step, where statistics live.
        source: where targets come from; None optimises them.
        trace: told what the loop does.
        progress: where to report.
    """

    lm: EditableModel
    weights: EditedWeights
    moments: MomentStore
    execution: Execution = field(default_factory=Execution)
    source: TargetSource | None = None
    trace: Trace = field(default_factory=Trace)
    progress: Progress = field(default_factory=Progress)

    @cached_property
    def spaces(self) -> Spaces:
        """The directions that recipes spare."""
        return Spaces(self.weights, self.moments, self.progress)

    @cached_property
    def fisher(self) -> FisherStore:
        """Fisher information at the sites of targets."""
        return FisherStore(self.moments)

    @cached_property
    def memory(self) -> Memory:
        """Operators that hold the keys of earlier batches."""
        return Memory(self.lm, self.execution)

    def write(
        self,
        facts: Sequence[Fact],
        recipe: Recipe,
        batch_size: int | None,
        earlier: Sequence[Batch],
        start: Snapshot,
        judge: Judge | None = None,
    ) -> list[Batch]:
        """All batches of an edit, in order, each with its origin.

        Args:
            facts: what to write.
            recipe: how; with layers.
            batch_size: facts written at once; None means all.
            earlier: all batches that the model carries already, in order.
            start: the weights before the edit.
            judge: decides which batches are kept; None keeps all.

        Raises:
            FailedFactsError: facts that cannot be written, see `write_batch`; `failed` has them.
        """
        started = time.perf_counter()
        judge = judge or KeepAll()
        _warn_of_stripped(earlier)
        self._check_memory(recipe)
        context = replace(self._context(recipe, earlier), most_loss=judge.most_loss, found=judge.found)
        size = 1 if recipe.sequential else batch_size
        run = EditRun(self, context, earlier, start)
        with self.progress.task("editing", len(facts), "facts") as advance:
            for part in recipe.subjects.batches(facts, size):
                judge.decide(run, part)
                advance(len(part))
        judge.settle(run)
        for _ in range(recipe.reteach if run.done else 0):
            lost = self._lost(recipe, run.before)
            if not lost:
                break
            run.again = True
            for part in recipe.subjects.batches(_with_rivals(lost, run), size):
                judge.decide(run, part)
        about = self._about(recipe, time.perf_counter() - started)
        norms = run.context.norms if recipe.objective.norm_anchor else {}
        return [replace(batch, origin=replace(batch.origin, norms=dict(norms), about=about)) for batch in run.done]

    def _context(self, recipe: Recipe, earlier: Sequence[Batch]) -> WriteContext:
        with self.weights.unedited():
            prefixes = recipe.contexts.prefixes(lambda count, seed: sampled_prefixes(self.lm, count, seed))
            sites = vector_sites(self.lm, recipe.objective, recipe.steps()) if recipe.objective.descent.curved else []
            fisher = self.fisher.get(sites, self.progress)
        return WriteContext(
            self.lm,
            self.weights,
            recipe,
            prefixes,
            fisher=fisher,
            spaces=self.spaces.of(recipe.update, recipe.written),
            ordinary=self._ordinary,
            norms=_norms_of(earlier, recipe),
            execution=self.execution,
            source=self.source,
            trace=self.trace,
            progress=self.progress,
        )

    def _ordinary(self) -> list[list[int]]:
        """The texts of all key statistics, on which large batches are refined."""
        with self.weights.unedited():
            return self.moments.all_rows(self.progress)

    def _check_memory(self, recipe: Recipe) -> None:
        """Raises EditError when the edit cannot fit into the memory that is free."""
        preserve = recipe.update.preserve
        built = len(self.memory.missing(preserve, recipe.written)) if preserve else 0
        place = solve_device(self.lm.device, self.execution.statistics_device)
        Needs.of(self.lm, built, self.weights.unchanged(recipe.written)).check(self.lm, place)

    def updates(
        self, context: WriteContext, batch_of: BatchRows, earlier: Sequence[Batch], rewritten: Iterable[Hashable]
    ) -> tuple[Update, ...]:
        """Write a batch on top of `earlier`, see `write_batch`; `rewritten` as in `Memory.operators`."""
        operators = self._operators(context.recipe, earlier, rewritten)
        return write_batch(replace(context, operators=operators), batch_of)

    def _operators(self, recipe: Recipe, earlier: Sequence[Batch], rewritten: Iterable[Hashable]) -> dict[int, Any]:
        """G of the layers that the recipe writes, from statistics of the unedited weights and the keys of earlier batches."""
        preserve = recipe.update.preserve
        if preserve is None:
            return {}
        missing = self.memory.missing(preserve, recipe.written)
        if missing:
            with self.weights.unedited():
                self.memory.build(self.moments.get(missing, self.progress, beside=preserve.beside))
        return self.memory.operators(recipe.written, earlier, recipe.subjects if recipe.memory else None, rewritten)

    def take_back(self, snapshot: Snapshot, batches: Sequence[Batch]) -> None:
        """The weights as they were before these batches, bit for bit."""
        self.weights.restore(snapshot)
        self.memory.clear()
        for batch in reversed(batches):
            self.trace.on_taken_back(batch)

    def forget(self) -> None:
        """Forget what was kept of batches' keys, because these are others now."""
        self.memory.forget()

    def control(self, recipe: Recipe) -> dict[int, Control]:
        """What to record of the weights as they are, if the recipe's lambda follows drift."""
        return self.memory.control(recipe.written, self.weights) if recipe.update.preserve else {}

    def _lost(self, recipe: Recipe, batches: Sequence[Batch]) -> list[Fact]:
        """Facts that the model does not say on their prompt, or in less than half of the wordings they were taught in."""
        facts = standing_facts(batches)
        texts = taught_rows(self.lm, recipe, facts)
        said = iter(says_targets(self.lm, [row for rows in texts for row in rows]))
        lost = []
        for fact, rows in zip(facts, texts, strict=True):
            prompt, *others = [next(said) for _ in rows]
            if not prompt or 2 * (1 + sum(others)) < 1 + len(others):
                lost.append(fact)
        return lost

    def _about(self, recipe: Recipe, seconds: float) -> dict[str, Any]:
        statistics = self.moments
        return {
            "modules": {str(layer): self.lm.projection(layer).name for layer in recipe.written},
            "statistics": {
                **statistics.identity,
                "corpus_name": statistics.corpus.name,
                "corpus_seed": statistics.corpus.seed,
            },
            "free_dimensions": {str(layer): rank for layer, rank in self.memory.ranks().items()},
            "execution": asdict(self.execution),
            "seconds": round(seconds, 2),
            "versions": versions(),
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }


def _with_rivals(lost: Sequence[Fact], run: EditRun) -> list[Fact]:
    """Lost facts, each followed by those that took its place.

    In lower layers the key of a name is hardly more than that of its last word. So a fact about "Calder Foods" takes the place of an earlier
    one about "Brightwater Foods", and would lose its own if that were taught again alone. These are what later batches of the edit have
    written about subjects whose names end in the same word. Written together, they are told apart.
    """
    numbers = {fact: number for number, batch in enumerate(run.before) for fact in batch.written}
    here: dict[str, list[Fact]] = {}
    for fact in standing_facts(run.done):
        for word in _last_words(fact):
            here.setdefault(word, []).append(fact)
    found: dict[Fact, None] = {}
    for fact in lost:
        alike = [one for word in sorted(_last_words(fact)) for one in here.get(word, ())]
        found |= dict.fromkeys((fact, *(one for one in alike if numbers[one] > numbers[fact])))
    return list(found)


def _last_words(fact: Fact) -> set[str]:
    """The last word of each of a subject's names."""
    return {same_subject_key(name).split()[-1] for name in fact.names}


def _warn_of_stripped(earlier: Sequence[Batch]) -> None:
    if gone := sum(batch.stripped for batch in earlier):
        log.warning("%d facts were taken out of the patch that this edit stands on, so it cannot protect them", gone)


def _norms_of(earlier: Sequence[Batch], recipe: Recipe) -> dict[Site, float]:
    """Norms that earlier batches with the same objective anchored their targets to; later ones hold on to the same."""
    wanted = objective_fingerprint(recipe.settings())
    found: dict[Site, float] = {}
    for batch in earlier:
        if batch.origin.norms and batch.origin.objective == wanted:
            found |= batch.origin.norms
    return found


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    found = {name: _version(name) for name in ("bluedit", "torch", "transformers")}
    return found | {"python": platform.python_version()}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
