"""What a benchmark runs and measures, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bluedit.errors import BenchmarkError, FactError, RecipeError
from bluedit.evaluate.ability import read_items, task_texts
from bluedit.evaluate.model_queries import ModelQueries
from bluedit.evaluate.passages import ordinary_passages, passage_rows, passages_beyond
from bluedit.evaluate.suites import suites_of
from bluedit.evaluate.training import Training, training_rows
from bluedit.facts.fact import Fact
from bluedit.model.editable import EditableModel
from bluedit.text.prompts import encode

UNEDITED = "unedited"


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
        source: what the facts are called on the page, e.g. their file's name.
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
    source: str = ""
    then_finetune: Training | None = None

    @property
    def text(self) -> Sequence[str]:
        """The ordinary passages."""
        return ordinary_passages() if self.passages is None else self.passages

    def check(self) -> None:
        """Raises BenchmarkError, RecipeError or FactError when something asked for does not exist or cannot be measured."""
        if not self.facts:
            raise BenchmarkError("there are no facts to write; give a file with --facts or world:N")
        suites = suites_of(self.suites)
        if self.batch_size < 1 or self.every < 1:
            raise BenchmarkError("batch size and every must be at least 1")
        if self.then_finetune and (self.then_finetune.steps < 1 or not self.then_finetune.learning_rate > 0):
            raise BenchmarkError("further fine-tuning needs at least one step and a learning rate above 0")
        for suite in suites:
            suite.check(self.facts)
        for run in self.recipes:
            parse_run(run)
        for task, file in self.abilities.items():
            read_items(task, file)

    def check_for(self, lm: EditableModel) -> None:
        """What only the model can tell, before anything is edited.

        Raises:
            BenchmarkError: there are not passages enough for what is to be measured on them.
            FactError: something is to be asked that is longer than the model can read.
        """
        if not passage_rows(lm, self.text, self.passage_tokens):
            raise BenchmarkError(
                f"there is no text to measure perplexity on: {len(self.text)} passages, {self.passage_tokens} tokens asked for; "
                "give ordinary text with --passages, and --passage-tokens above 1"
            )
        if self.then_finetune:
            training_rows(lm, passages_beyond(lm, self.text, self.passage_tokens), self.then_finetune)
        long = {text: n for text in self._asked(lm) if (n := len(encode(lm.tokenizer, text)[0])) > lm.max_length}
        if long:
            text, tokens = max(long.items(), key=lambda pair: pair[1])
            raise FactError(
                f"{len(long)} texts that would be asked are longer than the {lm.max_length} tokens {lm.name} can read, the longest has {tokens} "
                f"({text[:60]!r}...); shorten them or leave them out"
            )

    def _asked(self, lm: EditableModel) -> Iterator[str]:
        """Every text, or a longer one, that the model is given when it is measured."""
        queries = ModelQueries(lm)
        for fact in self.facts:
            yield fact.text
            yield from (n.prompt for n in fact.neighbours)
            for suite in suites_of(self.suites):
                yield from suite.texts(queries, fact)
        for task, file in self.abilities.items():
            yield from task_texts(task, read_items(task, file))


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
        settings[key] = value
    return name, settings
