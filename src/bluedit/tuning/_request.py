"""What is asked of `tune`: recipe, facts to search on and facts that the search never sees; checked before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING, Any

from bluedit.editing.known import unknown_facts
from bluedit.errors import ExplainError
from bluedit.evaluate.outcome import Yardstick
from bluedit.facts.conflicts import check_batch
from bluedit.facts.fact import Fact
from bluedit.facts.records import fact_record
from bluedit.facts.world import world_facts
from bluedit.methods.recipe import Recipe
from bluedit.methods.subjects import Split

if TYPE_CHECKING:
    from bluedit.editing.editor import Editor

LEAST = 4  # facts


@dataclass(frozen=True)
class Effort:
    """How much is tried.

    Attributes:
        minutes: for this call; the first trial and the comparison on unseen facts are always made.
        trials: at most, those of earlier calls in the same folder included; None means as many as there is time for.
        search: facts that trials are scored on.
        unseen: further facts, on which the result is compared with what the model had before.
        traced: known facts for causal tracing; 0 leaves it out.
        probed: layers that are probed, at most.
        seed: of the choice of facts, the noise and the search.

    Raises:
        ExplainError: a number that cannot be.
    """

    minutes: float = 15.0
    trials: int | None = None
    search: int = 16
    unseen: int = 24
    traced: int = 6
    probed: int = 6
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.minutes > 0:
            raise ExplainError(f"minutes is {self.minutes:g}; give the search some time, e.g. 15 (--minutes)")
        if self.trials is not None and self.trials < 1:
            raise ExplainError(f"trials is {self.trials}; it must be at least 1 (--trials)")
        for name, low in (("search", 2), ("unseen", 2), ("traced", 0), ("probed", 1)):
            if getattr(self, name) < low:
                raise ExplainError(f"{name} is {getattr(self, name)}; it must be at least {low} (--{name})")


@dataclass(frozen=True, eq=False)
class Request:
    """What is tuned, on what.

    Attributes:
        editor: of the unedited model.
        base: the recipe with the numbers that it has now, and layers.
        asked: the recipe before it got a model's numbers, which may exchange parts.
        search, unseen: facts that the model does not say, each about another subject.
    """

    editor: Editor
    base: Recipe
    asked: Recipe
    search: Sequence[Fact]
    unseen: Sequence[Fact]
    effort: Effort

    @cached_property
    def yardstick(self) -> Yardstick:
        """Measures the model after each trial. It is made when it is first asked for, while the model is unedited."""
        return Yardstick(self.editor.lm, self.editor.progress)

    @property
    def first(self) -> Sequence[Fact]:
        """A quarter of the search facts, on which trials that are worse than the best one end; none where that is less than four."""
        quarter = len(self.search) // 4
        return self.search[:quarter] if quarter >= LEAST else ()

    def described(self) -> dict[str, Any]:
        """All that trials depend on; not how many of them there are."""
        editor, effort = self.editor, self.effort
        return {
            "model": editor.lm.name,
            "weights": editor.journal.base.fingerprint,
            "recipe": self.base.name,
            "settings": self.base.settings(),
            "search_facts": [fact_record(fact) for fact in self.search],
            "unseen_facts": [fact_record(fact) for fact in self.unseen],
            "traced": effort.traced,
            "probed": effort.probed,
            "seed": effort.seed,
            "corpus": editor.moments.identity["corpus"],
            "tokens": editor.moments.budget,
        }


def split_facts(editor: Editor, facts: Sequence[Fact] | None, effort: Effort) -> tuple[list[Fact], list[Fact]]:
    """(facts to search on, unseen facts), from those that the model does not say yet.

    Fewer than were asked for are shared in the same proportion.

    Raises:
        ExplainError: there are too few.
    """
    wanted = effort.search + effort.unseen
    given = world_facts(2 * wanted, seed=effort.seed) if facts is None else list(facts)
    check_batch(given)
    fresh = unknown_facts(editor.lm, given, "skip", editor.progress)
    first, *_ = Split().batches(fresh, len(fresh))
    if facts is not None:
        Random(effort.seed).shuffle(first)
    if len(first) < LEAST:
        raise ExplainError(
            f"{len(first)} of the {len(given)} facts can be used, and tune needs at least {LEAST}: facts that the model does not say, each about another subject"
        )
    chosen = first[:wanted]
    cut = max(2, min(len(chosen) - 2, round(len(chosen) * effort.search / wanted)))
    return chosen[:cut], chosen[cut:]
