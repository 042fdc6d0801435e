"""A benchmark being run: recipe after recipe, batch after batch, measured as they come."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from bluedit.benchmark.folder import claimed, config_of, note_failure, place_of, read_json, read_log, rows_of
from bluedit.benchmark.plan import UNEDITED, Benchmark, parse_run
from bluedit.benchmark.results import write_table
from bluedit.editing.editor import Editor
from bluedit.editing.patch import Patch
from bluedit.errors import BenchmarkError, BluEditError
from bluedit.evaluate.ability import ability, read_items
from bluedit.evaluate.drift import Unedited
from bluedit.evaluate.generate import continuations
from bluedit.evaluate.hidden import hidden_drift
from bluedit.evaluate.metrics import Columns, means
from bluedit.evaluate.model_queries import ModelQueries
from bluedit.evaluate.passages import passages_beyond
from bluedit.evaluate.suites import suites_of
from bluedit.evaluate.training import trained
from bluedit.facts.fact import Fact, conflicts
from bluedit.facts.records import fact_record
from bluedit.files import write_json
from bluedit.methods.recipe import Recipe
from bluedit.model.editable import EditableModel
from bluedit.progress import Progress
from bluedit.writing.batches import split_batches

log = logging.getLogger(__name__)

_HALVED = 4  # batches from which on a run is measured half-way too
_KNOWN = 1000  # prompts whose hidden states are compared
_SHOWN = 8  # tokens of what the model says, kept for each fact


def run_benchmark(lm: EditableModel, benchmark: Benchmark, folder: Path, progress: Progress) -> list[dict[str, Any]]:
    """Run, or go on with, a benchmark. Returns the rows of the table, which are also written: of the recipes asked for, in their order,
    then of those that the folder holds besides. The model is left as it was.

    Raises:
        BenchmarkError: the folder holds another benchmark or cannot be written; or, after all the others, recipes could not be
            finished. What was measured stays.
        FactError, RecipeError: something asked for cannot be done; nothing was begun.
    """
    benchmark.check()
    benchmark.check_for(lm)
    if clashes := conflicts(benchmark.facts):
        log.warning(
            "%d facts repeat or contradict earlier ones, of which the later one wins: %s", len(clashes), clashes[0]
        )
    asked = list(dict.fromkeys(benchmark.recipes))
    options = {
        "corpus": benchmark.corpus,
        "tokens": benchmark.tokens,
        "targets": benchmark.targets or folder / "targets",
        "progress": progress,
    }
    recipes = {run: Editor(lm, **options).recipe(*parse_run(run)) for run in asked if run != UNEDITED}
    failed: dict[str, BluEditError] = {}
    try:
        with claimed(folder, config_of(lm, benchmark, recipes)) as order:
            for run in asked:
                editor = Editor(lm, **options)
                try:
                    _Run(editor, benchmark, run, recipes.get(run), folder / place_of(run)).finish()
                except BluEditError as error:
                    failed[run] = error
                    log.warning("%s is given up, the others go on: %s", run, error)
                finally:
                    editor.reset()
                note_failure(folder, run, failed.get(run))
                write_table(rows_of(folder, order), folder)
    except OSError as error:
        raise BenchmarkError(
            f"cannot write to {folder}: {error.strerror or error}; make room or choose another place, and run the same again: "
            "finished batches stay"
        ) from error
    if failed:
        told = "; ".join(f"{run}: {error}" for run, error in failed.items())
        raise BenchmarkError(
            f"{len(failed)} of {len(asked)} recipes could not be finished ({told}). What was measured before is kept"
        )
    return rows_of(folder, [*asked, *(run for run in order if run not in asked)])


@dataclass(frozen=True, eq=False)
class _Run:
    """One recipe of a benchmark."""

    editor: Editor
    benchmark: Benchmark
    run: str
    recipe: Recipe | None
    folder: Path

    def finish(self) -> None:
        """Edit and measure what is not yet done."""
        if self.recipe is None:
            parts = [list(self.benchmark.facts)]
        else:
            parts = split_batches(self.benchmark.facts, self.benchmark.batch_size, self.recipe.subjects)
        log = read_log(self.folder)
        done = sum(entry["patches"] for entry in log)
        if done and (len(log) < len(parts) or self._to_finetune()):
            saved = Patch.load(self.folder / "patch")  # one batch ahead of the log if the run was killed in between
            if len(saved.batches) < done:
                raise BenchmarkError(
                    f"{self.folder} logs {done} batches and its patch holds {len(saved.batches)}; delete that folder to run the recipe again"
                )
            self.editor.apply(Patch(saved.base, saved.batches[:done]))
        for number, part in enumerate(parts[len(log) :], start=len(log) + 1):
            entry = (
                self._write(part) if self.recipe else {"facts": len(part), "patches": 0, "seconds": 0.0, "reach": []}
            )
            last, half = number == len(parts), len(parts) >= _HALVED and number == len(parts) // 2
            if number % self.benchmark.every == 0 or last or half:
                entry |= self._measure(parts[:number], last=last, able=last or half)
            if self.recipe:
                self.editor.patch.append_to(self.folder / "patch")
            log.append({"recipe": self.run} | entry)
            write_json(self.folder / "batches.json", log)
        if self._to_finetune():
            self._finetune(log[-1]["all"])

    def _write(self, part: Sequence[Fact]) -> dict[str, Any]:
        """Edit one batch. Seconds include those that targets found on disk took when they were made."""
        assert self.recipe and self.editor.targets
        started, spared = time.perf_counter(), self.editor.targets.spared
        edit = self.editor.edit(part, self.recipe, known="edit", report=False)
        seconds = time.perf_counter() - started + self.editor.targets.spared - spared
        updates = [u for batch in edit.patch.batches for u in batch.updates]
        return {
            "facts": len(part),
            "patches": len(edit.patch.batches),
            "seconds": seconds,
            "reach": [[u.layer, u.mean_reach] for u in updates if len(u.reach)],
            "norms": self.editor.change_norms(),
        }

    def _measure(self, parts: Sequence[Sequence[Fact]], *, last: bool, able: bool) -> dict[str, Any]:
        """The metrics over all facts so far, and over those of each batch: what is kept of the earlier ones."""
        facts = [fact for part in parts for fact in part]
        columns = self._columns(facts, self.editor.unedited)
        if last:
            self._keep_facts(facts, columns)
            self._keep_hidden(facts)
        ends = [0, *accumulate(map(len, parts))]
        by_batch = [means({name: v[a:b] for name, v in columns.items()}) for a, b in pairwise(ends)]
        return {
            "abilities": self._abilities() if able else {},
            "all": means(columns) | self._on_passages(self.editor.unedited),
            "first": by_batch[0],
            "by_batch": by_batch,
        }

    def _abilities(self) -> dict[str, dict[str, Any]]:
        return {
            task: asdict(ability(self._queries(self.editor.unedited), task, read_items(task, file)))
            for task, file in self.benchmark.abilities.items()
        }

    def _keep_facts(self, facts: Sequence[Fact], columns: Columns) -> None:
        """Fact by fact, in the order of the data set, which that of the batches may differ from."""
        says = continuations(self.editor.lm, [fact.text for fact in facts], _SHOWN, self.editor.progress)
        found = {
            id(fact): {"fact": fact_record(fact), "says": text} | {name: values[i] for name, values in columns.items()}
            for i, (fact, text) in enumerate(zip(facts, says, strict=True))
        }
        write_json(self.folder / "facts.json", [found[id(fact)] for fact in self.benchmark.facts])

    def _keep_hidden(self, facts: Sequence[Fact]) -> None:
        """Hidden states of known facts before and after."""
        known = sorted({n.prompt for fact in facts for n in fact.neighbours})
        if len(known) > 1:
            write_json(
                self.folder / "hidden.json", asdict(hidden_drift(self.editor.lm, known[:_KNOWN], self.editor.unedited))
            )

    def _on_passages(self, unedited: Unedited) -> dict[str, float]:
        queries, text, tokens = self._queries(unedited), self.benchmark.text, self.benchmark.passage_tokens
        moved = {}
        for suite in suites_of(self.benchmark.suites):
            moved |= suite.measure_passages(queries, text, tokens)
        return moved | {"perplexity": queries.perplexity(text, tokens)}

    def _queries(self, unedited: Unedited) -> ModelQueries:
        return ModelQueries(self.editor.lm, unedited, self.editor.progress)

    def _to_finetune(self) -> bool:
        """Whether further fine-tuning is wanted and not yet done."""
        wanted, file = self.benchmark.then_finetune, self.folder / "finetuned.json"
        if wanted is None:
            return False
        found = read_json(file) if file.is_file() else {}
        return found.get("training") != asdict(wanted)

    def _finetune(self, before: Mapping[str, float]) -> None:
        training = self.benchmark.then_finetune
        assert training
        lm = self.editor.lm
        text = passages_beyond(lm, self.benchmark.text, self.benchmark.passage_tokens)
        with trained(lm, text, training, self.editor.progress) as untrained:

            @contextmanager
            def unedited() -> Iterator[None]:
                with untrained(), self.editor.unedited():
                    yield

            after = means(self._columns(self.benchmark.facts, unedited)) | self._on_passages(unedited)
            tasks = self._abilities()
        found = {"training": asdict(training), "tokens": training.tokens, "before": before, "after": after}
        write_json(self.folder / "finetuned.json", found | {"abilities": tasks})

    def _columns(self, facts: Sequence[Fact], unedited: Unedited) -> Columns:
        columns: Columns = {}
        for suite in suites_of(self.benchmark.suites):
            columns |= suite.measure(self._queries(unedited), facts)
        return columns
