"""Recipes side by side on one data set: facts written in sequential batches, measured as they come. A run is a folder; killed at any
moment it goes on after the last finished batch, and gives what an uninterrupted run gives.

    RUN/config.json             what is run; a folder holds one benchmark only
    RUN/targets/                optimised targets, shared by recipes where they are the same
    RUN/RECIPE/patch/           all edits so far
    RUN/RECIPE/batches.json     after each batch: seconds, reach, norms, and the metrics over all facts so far and over the first batch
    RUN/RECIPE/facts.json       fact by fact, after the last batch
    RUN/RECIPE/hidden.json      hidden states of known facts before and after all edits
    RUN/RECIPE/finetuned.json   with `then_finetune`: the metrics before and after a short further fine-tuning
    RUN/results.csv, .md        the table
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bluedit.editing.batches import split_batches
from bluedit.editing.editor import Editor
from bluedit.editing.patch import Patch
from bluedit.errors import BenchmarkError, RecipeError, did_you_mean
from bluedit.evaluate.ability import ability, read_items
from bluedit.evaluate.answers import passages_beyond, perplexity
from bluedit.evaluate.drift import hidden_drift, passage_drift
from bluedit.evaluate.generate import continuations
from bluedit.evaluate.metrics import Columns, means
from bluedit.evaluate.report import ordinary_passages
from bluedit.evaluate.suites import SUITES
from bluedit.evaluate.training import Training, trained
from bluedit.facts.fact import Fact
from bluedit.facts.records import fact_record
from bluedit.files import write_file
from bluedit.lm.fingerprint import text_fingerprint, weights_fingerprint
from bluedit.lm.memory import EditableModel
from bluedit.progress import Progress
from bluedit.report.results import write_table

UNEDITED = "unedited"
FORMAT = 1  # of a run's folder
_NOT_COMPARED = ("order", "format", "versions")
_HALVED = 4  # batches from which on a run is measured half-way too
_KNOWN = 1000  # prompts whose hidden states are compared
_SHOWN = 8  # tokens of what the model says, kept for each fact


@dataclass(frozen=True)
class Benchmark:
    """What to run.

    Attributes:
        facts: what is written, in order.
        recipes: NAME or NAME:option=value,option=value (layers as 4+8); "unedited" measures the model as it is.
        batch_size: facts written at once.
        every: batches between measurements; the last one is always measured.
        suites: names of `bluedit.evaluate.suites.SUITES`.
        passages: ordinary text for perplexity; None means the bundled passages.
        passage_tokens: how much of it.
        corpus, tokens: for key statistics, as in `Editor`.
        abilities: files of general-ability items by task (`bluedit.evaluate.ability.TASKS`), asked after the last batch and,
            with four batches or more, half-way.
        targets: folder of optimised targets to share with other runs; None means the run's own.
        then_finetune: after the last measurement, train the model further on the passages beyond those of the perplexity and measure
            again (BLUE's paper claims that models it edited stay fit for it); None leaves it out.
    """

    facts: Sequence[Fact]
    recipes: Sequence[str] = (UNEDITED, "memit-seq-blue")
    batch_size: int = 100
    every: int = 1
    suites: Sequence[str] = ("counterfact",)
    passages: Sequence[str] | None = None
    passage_tokens: int = 8000
    corpus: str = "self"
    tokens: int | None = None
    targets: Path | None = None
    abilities: Mapping[str, Path] = field(default_factory=dict)
    then_finetune: Training | None = None

    @property
    def text(self) -> Sequence[str]:
        """The ordinary passages."""
        return ordinary_passages() if self.passages is None else self.passages

    def check(self) -> None:
        """Raises BenchmarkError when something asked for does not exist."""
        if not self.facts:
            raise BenchmarkError("there are no facts to write; give a file with --facts or world:N")
        for name in self.suites:
            if name not in SUITES:
                raise BenchmarkError(f"unknown suite of metrics {name!r}; {did_you_mean(name, SUITES)}")
        if self.batch_size < 1 or self.every < 1:
            raise BenchmarkError("batch size and every must be at least 1")
        if self.then_finetune and (self.then_finetune.steps < 1 or not self.then_finetune.learning_rate > 0):
            raise BenchmarkError("further fine-tuning needs at least one step and a learning rate above 0")
        for run in self.recipes:
            parse_run(run)
        for task, file in self.abilities.items():
            read_items(task, file)


def parse_run(run: str) -> tuple[str, dict[str, str]]:
    """(recipe, settings) of "NAME:option=value,option=value".

    Raises:
        RecipeError: an option without a value.
    """
    name, _, rest = run.partition(":")
    settings = {}
    for item in filter(None, rest.split(",")):
        key, equals, value = item.partition("=")
        if not equals:
            raise RecipeError(f"{item!r} in {run!r} is no option; write NAME:option=value,option=value")
        settings[key] = value.replace("+", ",")
    return name, settings


def run_benchmark(lm: EditableModel, benchmark: Benchmark, folder: Path, progress: Progress) -> list[dict[str, Any]]:
    """Run, or go on with, a benchmark. Returns the rows of the table, which are also written. The model is left as it was.

    Raises:
        BenchmarkError: the folder holds another benchmark.
        BluEditError: a recipe cannot be run; what is finished stays.
    """
    benchmark.check()
    options = {
        "corpus": benchmark.corpus,
        "tokens": benchmark.tokens,
        "targets": benchmark.targets or folder / "targets",
        "progress": progress,
    }
    recipes = {run: Editor(lm, **options).recipe(*parse_run(run)) for run in benchmark.recipes if run != UNEDITED}
    _claim(folder, _config(lm, benchmark))
    rows: list[dict[str, Any]] = []
    for run in benchmark.recipes:
        editor = Editor(lm, **options)
        try:
            rows += _Run(editor, benchmark, run, recipes.get(run), folder / place_of(run)).rows()
        except OSError as error:
            raise BenchmarkError(
                f"cannot write to {folder}: {error.strerror or error}; make room and run the same again: finished batches stay"
            ) from error
        finally:
            while editor.patch.batches:
                editor.undo()
        write_table(rows, folder)
    return rows


def place_of(run: str) -> str:
    """The folder of a recipe within a run."""
    return "".join(c if c.isalnum() or c in "-.+" else "_" for c in run)


def _config(lm: EditableModel, benchmark: Benchmark) -> dict[str, Any]:
    shown = asdict(benchmark)
    facts = [fact_record(fact) for fact in benchmark.facts]
    drop = ("facts", "recipes", "passages", "targets", "abilities", "then_finetune")
    return {k: v for k, v in shown.items() if k not in drop} | {
        "model": lm.name,
        "weights": weights_fingerprint(lm.model),
        "facts": len(facts),
        "facts_fingerprint": text_fingerprint(facts),
        "passages_fingerprint": text_fingerprint(list(benchmark.text)),
        "abilities": {task: str(file) for task, file in benchmark.abilities.items()},
        "order": list(benchmark.recipes),
        "format": FORMAT,
        "versions": {name: version(name) for name in ("bluedit", "torch", "transformers")},
    }


def _claim(folder: Path, config: Mapping[str, Any]) -> None:
    """Make the folder this benchmark's, or make sure that it is. More recipes may be added to it later."""
    config = dict(json.loads(json.dumps(config)))
    file = folder / "config.json"
    if file.is_file():
        try:
            found = json.loads(file.read_text("utf-8"))
        except ValueError as error:
            raise BenchmarkError(
                f"{file} is unreadable ({error}); choose another folder, or delete this one"
            ) from error
        if found.get("format", 1) != FORMAT:
            raise BenchmarkError(
                f"{folder} was written by another version of bluedit; choose another folder, or run it with that version"
            )
        wrong = [key for key in config if key not in _NOT_COMPARED and found.get(key) != config[key]]
        if wrong:
            raise BenchmarkError(
                f"{folder} holds another benchmark: {', '.join(wrong)} differ; choose another folder, or ask for the same as before"
            )
        config["order"] = list(dict.fromkeys([*found.get("order", ()), *config["order"]]))
    elif folder.exists() and (not folder.is_dir() or any(f.name != "targets" for f in folder.iterdir())):
        raise BenchmarkError(f"{folder} holds other things than a benchmark; choose a new or empty folder")
    try:
        write_file(file, json.dumps(config, indent=1, ensure_ascii=False).encode())
    except OSError as error:
        raise BenchmarkError(f"cannot write to {folder}: {error.strerror or error}; choose another place") from error


@dataclass(frozen=True, eq=False)
class _Run:
    """One recipe of a benchmark."""

    editor: Editor
    benchmark: Benchmark
    run: str
    recipe: Any
    folder: Path

    def rows(self) -> list[dict[str, Any]]:
        """The recipe's rows of the table; edits and measures what is not yet done."""
        parts = split_batches(self.benchmark.facts, self.benchmark.batch_size)
        if self.recipe is None:
            parts = [list(self.benchmark.facts)]
        log = self._read_log()
        done = sum(entry["patches"] for entry in log)
        if done and (len(log) < len(parts) or self._to_finetune()):
            saved = Patch.load(
                self.folder / "patch"
            )  # may be one batch ahead of the log if the run was killed in between
            self.editor.apply(Patch(saved.batches[:done], saved.info))
        for number, part in enumerate(parts[len(log) :], start=len(log) + 1):
            entry = (
                self._write(part) if self.recipe else {"facts": len(part), "patches": 0, "seconds": 0.0, "reach": []}
            )
            last, half = number == len(parts), len(parts) >= _HALVED and number == len(parts) // 2
            if number % self.benchmark.every == 0 or last or half:
                facts = [fact for batch in parts[:number] for fact in batch]
                entry |= self._measure(facts, parts[0], last=last, able=last or half)
            if self.recipe:
                self.editor.patch.save(self.folder / "patch")
            log.append({"recipe": self.run} | entry)
            write_file(self.folder / "batches.json", json.dumps(log, indent=1).encode())
        if self._to_finetune():
            self._finetune(log[-1]["all"])
        return [self._row(log[: number + 1]) for number, entry in enumerate(log) if "all" in entry]

    def _read_log(self) -> list[dict[str, Any]]:
        file = self.folder / "batches.json"
        return self._read(file) if file.is_file() else []

    def _read(self, file: Path) -> Any:
        try:
            return json.loads(file.read_text("utf-8"))
        except ValueError as error:
            raise BenchmarkError(
                f"{file} is unreadable ({error}); delete the folder {self.folder} to run it again"
            ) from error

    def _write(self, part: Sequence[Fact]) -> dict[str, Any]:
        """Edit one batch. Seconds include those that targets found on disk took when they were made."""
        assert self.editor.targets
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

    def _measure(self, facts: Sequence[Fact], first: Sequence[Fact], *, last: bool, able: bool) -> dict[str, Any]:
        columns = self._columns(facts)
        if last:
            says = continuations(self.editor.lm, [fact.text for fact in facts], _SHOWN, self.editor.progress)
            per_fact = [
                {"fact": fact_record(fact), "says": text} | {name: values[i] for name, values in columns.items()}
                for i, (fact, text) in enumerate(zip(facts, says, strict=True))
            ]
            write_file(self.folder / "facts.json", json.dumps(per_fact, ensure_ascii=False).encode())
            known = sorted({n.prompt for fact in facts for n in fact.neighbours})
            if len(known) > 1:
                hidden = hidden_drift(self.editor.lm, known[:_KNOWN], self.editor.unedited)
                write_file(self.folder / "hidden.json", json.dumps(hidden).encode())
        tasks = {}
        for task, file in self.benchmark.abilities.items() if able else ():
            tasks[task] = asdict(ability(self.editor.lm, task, read_items(task, file), self.editor.progress))
        return {
            "abilities": tasks,
            "all": means(columns) | self._on_passages(),
            "first": means({name: values[: len(first)] for name, values in columns.items()}),
        }

    def _on_passages(self) -> dict[str, float]:
        lm, text, tokens = self.editor.lm, self.benchmark.text, self.benchmark.passage_tokens
        now = perplexity(lm, text, tokens)
        if now != now:
            raise BenchmarkError(
                f"{lm.name} gives numbers that are not finite ({self.run}); check its weights, or use weaker settings. "
                "What was measured before is kept"
            )
        moved = passage_drift(lm, text, tokens, self.editor.unedited) if "locality" in self.benchmark.suites else {}
        return moved | {"perplexity": now}

    def _to_finetune(self) -> bool:
        """Whether further fine-tuning is wanted and not yet done."""
        wanted, file = self.benchmark.then_finetune, self.folder / "finetuned.json"
        if wanted is None:
            return False
        found = self._read(file) if file.is_file() else {}
        return found.get("training") != asdict(wanted)

    def _finetune(self, before: Mapping[str, float]) -> None:
        training = self.benchmark.then_finetune
        assert training
        lm = self.editor.lm
        text = passages_beyond(lm, self.benchmark.text, self.benchmark.passage_tokens)
        with trained(lm, text, training, self.editor.progress):
            after = means(self._columns(self.benchmark.facts)) | self._on_passages()
        found = {"training": asdict(training), "tokens": training.tokens, "before": before, "after": after}
        write_file(self.folder / "finetuned.json", json.dumps(found, indent=1).encode())

    def _columns(self, facts: Sequence[Fact]) -> Columns:
        columns: Columns = {}
        for name in self.benchmark.suites:
            columns |= SUITES[name](self.editor.lm, facts, self.editor.unedited, self.editor.progress)
        return columns

    def _row(self, log: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        facts = sum(entry["facts"] for entry in log)
        reach: dict[int, list[float]] = {}
        for entry in log:
            for layer, value in entry["reach"]:
                reach.setdefault(layer, []).append(value)
        return {
            "recipe": self.run,
            "facts": facts,
            "batches": len(log) if self.recipe else 0,
            **log[-1]["all"],
            "first_batch": log[-1]["first"],
            "abilities": log[-1].get("abilities", {}),
            "seconds_per_edit": sum(entry["seconds"] for entry in log) / facts if self.recipe else None,
            "reach": {layer: sum(v) / len(v) for layer, v in sorted(reach.items())},
        }
