"""What a benchmark runs and measures, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bluedit.errors import BenchmarkError, RecipeError, did_you_mean
from bluedit.evaluate.ability import read_items
from bluedit.evaluate.answers import passage_rows, passages_beyond
from bluedit.evaluate.report import ordinary_passages
from bluedit.evaluate.suites import SUITES, check_old_targets
from bluedit.evaluate.training import Training, training_rows
from bluedit.facts.fact import Fact
from bluedit.lm.memory import EditableModel

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
        """Raises BenchmarkError, RecipeError or FactError when something asked for does not exist or cannot be measured."""
        if not self.facts:
            raise BenchmarkError("there are no facts to write; give a file with --facts or world:N")
        for name in self.suites:
            if name not in SUITES:
                raise BenchmarkError(f"unknown suite of metrics {name!r}; {did_you_mean(name, SUITES)}")
        if self.batch_size < 1 or self.every < 1:
            raise BenchmarkError("batch size and every must be at least 1")
        if self.then_finetune and (self.then_finetune.steps < 1 or not self.then_finetune.learning_rate > 0):
            raise BenchmarkError("further fine-tuning needs at least one step and a learning rate above 0")
        if "counterfact" in self.suites:
            check_old_targets(self.facts)
        for run in self.recipes:
            parse_run(run)
        for task, file in self.abilities.items():
            read_items(task, file)

    def check_text(self, lm: EditableModel) -> None:
        """Raises BenchmarkError when there are not passages enough for what is to be measured on them."""
        if not passage_rows(lm, self.text, self.passage_tokens):
            raise BenchmarkError(
                f"there is no text to measure perplexity on: {len(self.text)} passages, {self.passage_tokens} tokens asked for; "
                "give ordinary text with --passages, and --passage-tokens above 1"
            )
        if self.then_finetune:
            training_rows(lm, passages_beyond(lm, self.text, self.passage_tokens), self.then_finetune)


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
