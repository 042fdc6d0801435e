"""What a row of a benchmark does with the facts: write them with a recipe, or what people do instead of editing.

An approach is a frozen dataclass of options, registered by name. Importing this loads no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Self

from bluedit.errors import RecipeError
from bluedit.methods.part import Part, part
from bluedit.methods.paths import Adjustable
from bluedit.methods.wordings import PromptOnly, Wordings
from bluedit.options import Text, choice, flag, number, option, whole

if TYPE_CHECKING:
    from bluedit.benchmark.running import Running, Work
    from bluedit.editing.editor import Editor
    from bluedit.facts.fact import Fact
    from bluedit.methods.recipe import Recipe


class Approach(Part, Adjustable, slot="approach"):
    """What a row of a benchmark does with the facts.

    Attributes:
        runs: "module:class" of the `Running` that does it; loaded when a benchmark runs.
    """

    runs: ClassVar[str] = ""

    @classmethod
    def prefix(cls) -> str:
        return ""

    def prepared(self, editor: Editor, settings: Mapping[str, Any]) -> Self:
        """The approach with these settings, as the editor's model can run it.

        Raises:
            RecipeError: an unknown option, or a value out of range.
            BenchmarkError: something that it needs is not installed.
        """
        del editor
        return self.override(settings, source=self.kind)

    def parts(self, facts: Sequence[Fact], size: int) -> list[list[Fact]]:
        """The batches: what is taken in between two measurements."""
        return [list(facts[start : start + size]) for start in range(0, len(facts), size)]

    def start(self, work: Work) -> Running:
        """Begin on the unedited model."""
        module, _, name = self.runs.partition(":")
        return getattr(import_module(module), name)(self, work)


@dataclass(frozen=True)
class Unedited(Approach, kind="unedited"):
    """The model as it is."""

    runs: ClassVar[str] = "bluedit.benchmark.running:Running"

    def parts(self, facts: Sequence[Fact], size: int) -> list[list[Fact]]:  # noqa: ARG002
        return [list(facts)]


class Edits(Approach):
    """What needs a recipe.

    Attributes:
        recipe: as the model runs it; a field of the dataclasses.
    """

    recipe: Recipe | None

    def parts(self, facts: Sequence[Fact], size: int) -> list[list[Fact]]:
        assert self.recipe is not None
        return self.recipe.subjects.batches(facts, size)


@dataclass(frozen=True)
class Written(Edits):
    """A recipe writes the facts into the weights, batch after batch."""

    runs: ClassVar[str] = "bluedit.benchmark._written:WrittenRun"
    recipe: Recipe | None = None

    def prepared(self, editor: Editor, settings: Mapping[str, Any]) -> Written:
        assert self.recipe is not None
        return replace(self, recipe=editor.recipe(self.recipe, settings))

    def settings(self) -> dict[str, Any]:
        return self.recipe.settings() if self.recipe else {}


@dataclass(frozen=True)
class InContext(Approach, kind="in-context"):
    """Nothing is written: the fact's statement stands before each question about it.

    A question is about a fact if it names the fact's subject. With `beside`, the statement also stands before the fact's neighbours and
    probes, which do not name it: what a statement does where it does not belong.
    """

    runs: ClassVar[str] = "bluedit.benchmark._in_context:InContextRun"
    beside: bool = flag(False, "also put a fact's statement before its neighbours and probes")
    most: int = whole(20, "most statements before one question; the newest stay", low=1.0)


@dataclass(frozen=True)
class Retrieval(Edits, kind="retrieval"):
    """Nothing is written: at run time the residual of the nearest stored key is added where a key matches (NeuralDB).

    Keys and residuals are those of a recipe, batch by batch on the unedited weights. Further settings are the recipe's.
    """

    runs: ClassVar[str] = "bluedit.benchmark._retrieval:RetrievalRun"
    from_: str = option("memit-seq-blue", Text("recipe whose keys and residuals are stored"))
    threshold: float = number(0.65, "least cosine of a key with the nearest stored one", high=1.0, positive=True)
    recipe: Recipe | None = None

    def prepared(self, editor: Editor, settings: Mapping[str, Any]) -> Retrieval:
        own = {"from", "threshold"}
        chosen = self.override({path: value for path, value in settings.items() if path in own}, source=self.kind)
        rest = {path: value for path, value in settings.items() if path not in own}
        recipe = editor.recipe(chosen.from_, rest)
        if recipe.update.preserve is None:
            raise RecipeError(
                f"retrieval needs keys and residuals, and {recipe.name} has none: it trains the weight itself; "
                "choose a closed-form recipe (from=memit-seq-blue)"
            )
        return replace(chosen, recipe=recipe)

    def settings(self) -> dict[str, Any]:
        return super().settings() | (self.recipe.settings() if self.recipe else {})


@dataclass(frozen=True)
class Lora(Approach, kind="lora"):
    """LoRA fine-tuning on the facts with PEFT (arXiv 2106.09685); each batch trains on all facts so far."""

    runs: ClassVar[str] = "bluedit.benchmark._lora:LoraRun"
    r: int = whole(8, "rank of the adapters", low=1.0)
    alpha: float = number(16.0, "adapters are scaled by alpha / r", positive=True)
    modules: str = choice("all", "where adapters are", "all", "projections")
    steps: int = whole(50, "gradient steps of each batch", low=1.0)
    learning_rate: float = number(2e-4, "AdamW's step size", positive=True)
    minibatch: int = whole(8, "facts per step", low=1.0)
    earlier: bool = flag(True, "train on the facts of earlier batches, too")
    wordings: Wordings = part(PromptOnly(), Wordings)
    seed: int = whole(0, "random seed of the adapters and of the order of facts")

    def prepared(self, editor: Editor, settings: Mapping[str, Any]) -> Lora:
        from bluedit.benchmark._lora import check_peft

        check_peft()
        return super().prepared(editor, settings)


def approaches() -> dict[str, type[Approach]]:
    """Approaches other than recipes, by name."""
    return dict(Approach.choices)  # pyright: ignore[reportReturnType]
