"""What a benchmark runs and measures. It is checked before anything is computed."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bluedit.benchmark.entry import UNEDITED, Entry, entries_of
from bluedit.benchmark.front import check_front
from bluedit.benchmark.sweep import check_sweeps
from bluedit.errors import BenchmarkError, FactError
from bluedit.evaluate.ability import read_items, task_texts
from bluedit.evaluate.passages import ordinary_passages, passage_rows, passages_beyond
from bluedit.evaluate.suites import suites_of
from bluedit.evaluate.training import training_rows
from bluedit.text.prompts import encode

if TYPE_CHECKING:
    from bluedit.benchmark.approach import Approach
    from bluedit.evaluate.data import Training
    from bluedit.evaluate.model_queries import ModelQueries
    from bluedit.facts.fact import Fact
    from bluedit.methods.recipe import Recipe

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Benchmark:
    """What to run.

    Attributes:
        facts: what is written, in order.
        entries: the rows of the table, each an `Entry`, a Recipe, another `Approach`, or text: "NAME", "NAME:option=value,option=value"
            (layers as 4+8), or "unedited" for the unedited model.
        batch_size: facts written at once.
        edit_size: facts of one edit, which writes them in batches of `batch_size`; None makes every batch an edit of its own. At the end of an
            edit some recipes refine its batches together and teach lost facts again. A measurement "after a batch" is then after an edit.
        every: batches between measurements, or edits with `edit_size`; the last one is always measured.
        at: numbers of facts after which to measure, instead of `every`. One that no batch ends at is measured after the next that does.
        suites: names of `bluedit.evaluate.suites.SUITES`.
        passages: ordinary text for perplexity; None means the bundled passages.
        passage_tokens: how many tokens of it.
        corpus, tokens: text for key statistics, as in `Editor`.
        abilities: files with general-ability items by task (`bluedit.evaluate.ability.TASKS`), measured after the last batch and, with four
            batches or more, half-way.
        targets: folder of optimised targets to share with other benchmarks; None means the benchmark's own.
        source: where the facts come from, for the page, e.g. the name of a file.
        then_finetune: after the last measurement, fine-tune the model on the passages beyond those of the perplexity and measure again
            (BLUE's paper claims that models it edited stay fit for that); None leaves it out.
        front: what is varied in each recipe to draw the front: "strength", "lambda", or both (`bluedit.benchmark.sweep`). Needs the suites
            generation and locality.
        front_values: at which values; none means the usual ones. 1 is the recipe as it is.
    """

    facts: Sequence[Fact]
    entries: Sequence[Entry | Recipe | Approach | str] = (UNEDITED, "memit-seq-blue")
    batch_size: int = 100
    edit_size: int | None = None
    every: int = 1
    suites: Sequence[str] = ("counterfact",)
    passages: Sequence[str] | None = None
    passage_tokens: int = 8000
    corpus: str = "self"
    tokens: int | None = None
    targets: Path | None = None
    abilities: Mapping[str, Path] = field(default_factory=dict)
    source: str = ""
    then_finetune: Training | None = None
    at: Sequence[int] = ()
    front: Sequence[str] = ()
    front_values: Sequence[float] = ()

    @property
    def facts_of_an_edit(self) -> int:
        """How many facts one edit writes."""
        return self.edit_size or self.batch_size

    @property
    def text(self) -> Sequence[str]:
        """The ordinary passages."""
        return ordinary_passages() if self.passages is None else self.passages

    def is_due(self, before: int, after: int, number: int) -> bool:
        """Whether to measure after batch `number`, which raised the number of facts from `before` to `after`."""
        if self.at:
            return any(before < count <= after for count in self.at)
        return number % self.every == 0

    def _check_at(self) -> None:
        """Raise BenchmarkError for numbers of facts that there are not; say so where one is measured later."""
        if any(number < 1 for number in self.at) or max(self.at, default=0) > len(self.facts):
            raise BenchmarkError(
                f"there are {len(self.facts)} facts, and measuring is asked for after {', '.join(map(str, self.at))}; "
                f"give numbers from 1 to {len(self.facts)}, or more facts"
            )
        between = [n for n in sorted(self.at) if n % self.facts_of_an_edit and n < len(self.facts)]
        if between:
            what = "edit" if self.edit_size else "batch"
            log.warning(
                "no %s of %d facts ends after %s; that is measured when the next one ends",
                *(what, self.facts_of_an_edit, ", ".join(map(str, between))),
            )

    def check(self) -> None:
        """Check everything that does not need the model.

        Raises:
            BenchmarkError, RecipeError, FactError: an entry, suite or task does not exist, or cannot be measured on these facts.
        """
        if not self.facts:
            raise BenchmarkError("there are no facts to write; give a file with --facts or world:N")
        suites = suites_of(self.suites)
        if self.batch_size < 1 or self.every < 1:
            raise BenchmarkError(
                f"batch size and every must be at least 1, and they are {self.batch_size} and {self.every}"
            )
        if self.edit_size is not None and self.edit_size < self.batch_size:
            raise BenchmarkError(
                f"an edit of {self.edit_size} facts is smaller than a batch of {self.batch_size}; "
                "give a larger edit size or a smaller batch size"
            )
        self._check_at()
        if self.front:
            check_front(self.suites)
            check_sweeps(self.front, self.front_values)
        training = self.then_finetune
        if training and (training.steps < 1 or not training.learning_rate > 0):
            raise BenchmarkError(
                "further fine-tuning needs at least one step and a learning rate above 0, "
                f"not {training.steps} steps at {training.learning_rate:g}"
            )
        for suite in suites:
            suite.check(self.facts)
        entries_of(self.entries)
        for task, file in self.abilities.items():
            read_items(task, file)

    def check_for(self, queries: ModelQueries) -> None:
        """Check what needs the model, before anything is edited.

        Raises:
            BenchmarkError: there are too few passages for what is measured on them.
            FactError: a text that the model is to read is longer than its context.
        """
        lm = queries.lm
        if not passage_rows(lm, self.text, self.passage_tokens):
            raise BenchmarkError(
                f"there is no text to measure perplexity on: {len(self.text)} passages, {self.passage_tokens} tokens asked for; "
                "give ordinary text with --passages, and --passage-tokens above 1"
            )
        if self.then_finetune:
            training_rows(lm, passages_beyond(lm, self.text, self.passage_tokens), self.then_finetune)
        lengths = {text: len(encode(lm.tokenizer, text)[0]) for text in self._texts(queries)}
        long = [text for text, tokens in lengths.items() if tokens > lm.max_length]
        if long:
            text = max(long, key=lambda text: lengths[text])
            raise FactError(
                f"{len(long)} texts that the model is to read are longer than the {lm.max_length} tokens of {lm.name}'s context, "
                f"the longest has {lengths[text]} ({text[:60]!r}...); shorten them or leave them out"
            )

    def _texts(self, queries: ModelQueries) -> Iterator[str]:
        """Every text that the model reads when it is measured, or a longer one."""
        suites = suites_of(self.suites)
        for fact in self.facts:
            yield fact.text
            yield from (neighbour.prompt for neighbour in fact.neighbours)
            for suite in suites:
                yield from suite.texts(queries, fact)
        for task, file in self.abilities.items():
            yield from task_texts(task, read_items(task, file))
