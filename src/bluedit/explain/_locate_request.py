"""What is asked of `locate`: model, facts to trace, facts to write, layers; checked before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from bluedit.editing.known import unknown_facts, with_spacing
from bluedit.errors import ExplainError
from bluedit.explain._locate_tokens import Prompt, known_prompts
from bluedit.facts.conflicts import check_batch
from bluedit.facts.fact import Fact
from bluedit.facts.records import fact_record
from bluedit.facts.world import world_facts
from bluedit.methods.presets import preset
from bluedit.methods.recipe import Recipe
from bluedit.methods.subjects import Split
from bluedit.methods.update import ClosedForm
from bluedit.methods.wordings import PromptOnly

if TYPE_CHECKING:
    from bluedit.editing.editor import Editor
    from bluedit.explain._locate_probe import Watch

_WINDOW = 5  # the window of MLPs and attention is a fifth of the depth, as ROME's 10 of 48


@dataclass(frozen=True)
class Tracing:
    """How known facts are traced.

    Attributes:
        count: facts that are traced; 0 leaves tracing out.
        noise: its standard deviation, in units of that of the numbers in the subjects' embeddings.
        samples: of the noise, for each fact.
        window: how many neighbouring MLP or attention layers are restored at once; 0 means a fifth of all layers.
        seed: of the noise, and of the choice of bundled facts.

    Raises:
        ExplainError: a number that cannot be.
    """

    count: int = 50
    noise: float = 3.0
    samples: int = 5
    window: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low in (("count", 0), ("samples", 1), ("window", 0)):
            if getattr(self, name) < low:
                raise ExplainError(f"{name} is {getattr(self, name)}; it must be at least {low} (--{name})")
        if not self.noise > 0:
            raise ExplainError(f"noise is {self.noise:g}; it must be positive, e.g. 3 (--noise)")


@dataclass(frozen=True, eq=False)
class Request:
    """What is measured."""

    editor: Editor
    watch: Watch
    host: Recipe
    prompts: Sequence[Prompt]
    tracing: Tracing
    probed: Sequence[Fact]
    layers: Sequence[int]

    @property
    def window(self) -> int:
        """How many neighbouring MLP or attention layers are restored at once."""
        return self.tracing.window or max(1, round(self.editor.lm.anatomy.n_layers / _WINDOW))

    def described(self) -> dict[str, Any]:
        """All that the results depend on."""
        editor = self.editor
        return {
            "model": editor.lm.name,
            "weights": editor.journal.base.fingerprint,
            "facts": [[prompt.fact.text, prompt.truth] for prompt in self.prompts],
            "tracing": asdict(self.tracing) | {"window": self.window},
            "probed_facts": [fact_record(fact) for fact in self.probed],
            "layers": list(self.layers) if self.probed else [],
            "recipe": self.host.name,
            "settings": self.host.settings(),
            "corpus": editor.moments.identity["corpus"],
            "tokens": editor.moments.budget,
        }


def check_counts(tracing: Tracing, probe_count: int, every: int) -> None:
    """Raises ExplainError for numbers that cannot be."""
    if not tracing.count and not probe_count:
        raise ExplainError("there are no facts to trace and none to probe; set --count or --probe-count above 0")
    if every < 1 or probe_count < 0:
        raise ExplainError(
            f"every is {every} and probe_count {probe_count}; they must be at least 1 and 0 (--every, --probe-count)"
        )


def prompts_of(editor: Editor, facts: Sequence[Fact] | None, tracing: Tracing) -> list[Prompt]:
    if not tracing.count:
        return []
    given = world_facts(seed=tracing.seed) if facts is None else with_spacing(editor.lm, list(facts))
    return known_prompts(editor.lm, given, tracing.count, editor.progress)


def probed_of(editor: Editor, facts: Sequence[Fact] | None, count: int, seed: int) -> list[Fact]:
    """New facts, each about another subject."""
    if not count:
        return []
    given = world_facts(2 * count, seed=seed) if facts is None else list(facts)
    check_batch(given)
    fresh = unknown_facts(editor.lm, given, "skip", editor.progress)
    first, *_ = Split().batches(fresh, len(fresh))
    return first[:count]


def host_of(editor: Editor, recipe: str | Recipe, settings: Mapping[str, Any] | None) -> Recipe:
    """The recipe of the probe: one layer at a time, the prompt alone, one batch."""
    base = editor.recipe(preset(recipe) if isinstance(recipe, str) else recipe, settings)
    if not isinstance(base.update, ClosedForm) or base.sequential:
        raise ExplainError(
            f"the recipe {base.name} does not write batches in closed form; choose one such as memit-blue or alphaedit-blue"
        )
    objective = replace(base.objective, norm_anchor=False, together=False)
    return replace(base, wordings=PromptOnly(), subjects=Split(), reteach=0, memory=False, objective=objective)
