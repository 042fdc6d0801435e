"""In which batches a fact was written, how facts are numbered, and with which recipe a batch was written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from bluedit.errors import PatchError, RecipeError
from bluedit.explain._edit_data import When
from bluedit.facts.fact import Fact
from bluedit.methods.recipe import Recipe
from bluedit.methods.update import ClosedForm
from bluedit.writing.batch import Batch, Origin


def same(one: Fact, other: Fact) -> bool:
    """Whether two facts are the same prompt with the same target."""
    return (one.text, one.target) == (other.text, other.target)


@dataclass(frozen=True, eq=False)
class History:
    """A fact among all batches.

    Attributes:
        batches: from the unedited model on.
        below: how many of them are not the patch's.
        fact: the fact.
        place: number of the last batch that wrote it, from 0.
    """

    batches: Sequence[Batch]
    below: int
    fact: Fact
    place: int

    @classmethod
    def of(cls, batches: Sequence[Batch], below: int, fact: Fact) -> History:
        """The history of a fact that some batch wrote."""
        place = max(i for i, batch in enumerate(batches) if any(same(fact, one) for one in batch.written))
        return cls(batches, below, fact, place)

    @property
    def batch(self) -> Batch:
        """The last batch that wrote the fact."""
        return self.batches[self.place]

    @property
    def index(self) -> int:
        """The fact's place among all that its batch wrote."""
        return next(i for i, one in enumerate(self.batch.written) if same(self.fact, one))

    @property
    def writings(self) -> tuple[int, ...]:
        """Numbers of the patch's batches that wrote it, from 1."""
        own = enumerate(self.batches[self.below :], 1)
        return tuple(number for number, batch in own if any(same(self.fact, one) for one in batch.written))

    def when(self, place: int) -> When:
        """When a batch was written, seen from the fact's."""
        if place == self.place:
            return When.SAME
        return When.EARLIER if place < self.place else When.LATER

    @property
    def filtered(self) -> bool:
        """Whether filters had a part in the weights, so that they are not the sum of the factors."""
        return any(batch.filters for batch in self.batches)

    @cached_property
    def numbers(self) -> dict[tuple[str, str], int]:
        """Number in the patch, from 1, of each (prompt, target); its latest if it occurs again."""
        facts = (fact for batch in self.batches[self.below :] for fact in batch.facts)
        return {(fact.text, fact.target): number for number, fact in enumerate(facts, 1)}


def recipe_of(origin: Origin) -> Recipe:
    """The recipe of a batch. If it has parts that are not known here, only those that decide how texts become columns; it then has no layers.

    Raises:
        PatchError: the batch's wordings or subjects are of a kind that is not known here.
    """
    named = Recipe(origin.recipe or "unknown")
    for slots in (None, ("wordings", "subjects")):
        values = {path: v for path, v in origin.settings.items() if slots is None or path.split(".")[0] in slots}
        try:
            return named.override(values, "the patch")
        except RecipeError as error:
            fault = error
    raise PatchError(
        f"the patch was written with parts that are not known here, so its facts cannot be laid out again: {fault}; "
        "import the module that defines them first"
    )


def slack_of(recipe: Recipe) -> float:
    """The slack of a recipe that `recipe_of` gave; 0, which promises least, where it is not known or the recorded A is not the solver's."""
    known = recipe.layers and isinstance(recipe.update, ClosedForm) and recipe.update.solved_as_recorded
    return recipe.update.slack if known else 0.0  # pyright: ignore[reportAttributeAccessIssue]
