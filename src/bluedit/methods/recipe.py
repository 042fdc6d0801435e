"""A method as data: parts and their options."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from bluedit.maths.schedule import Step
from bluedit.methods.contexts import Contexts, Neutral
from bluedit.methods.objective import Objective
from bluedit.methods.part import part
from bluedit.methods.paths import Adjustable
from bluedit.methods.schedules import Boundary, Own, Schedule, Spread
from bluedit.methods.subjects import Split, Subjects
from bluedit.methods.update import ClosedForm, Update
from bluedit.methods.wordings import PromptOnly, Wordings
from bluedit.options import Option, flag, option, whole


@dataclass(frozen=True)
class Layers(Option):
    """Ascending layer numbers, as a list or as text such as "[4,5,6]" or "4+8"."""

    def read(self, path: str, value: Any) -> tuple[int, ...]:
        if value == ():
            return ()
        if isinstance(value, str):
            parts: list[Any] = re.split("[,+]", value.strip("[] "))  # a comma ends an option in NAME:option=value,...
        else:
            parts = list(value) if isinstance(value, (list, tuple)) else [value]
        parts = [part for part in parts if str(part).strip()]
        try:
            layers = tuple(int(part) for part in parts)
            if any(float(part) != layer for part, layer in zip(parts, layers, strict=True)):
                raise ValueError
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"{path} must be whole numbers such as [4,5,6,7,8], not {value!r}") from None
        if not layers or list(layers) != sorted(set(layers)):
            raise ValueError(f"{path} must be one or more ascending layer numbers without repetition, not {value!r}")
        return layers


@dataclass(frozen=True)
class Recipe(Adjustable):
    """One method, ready to run once it has layers.

    Attributes:
        name, paper: which one, and the link to its paper.
        about: one line for tables.
        use: when to choose it, one sentence.
        schedule: which layers are written, and for which target.
        objective: how targets are optimised.
        update: how weights change: `ClosedForm(preserve, filters, rounds)` or `FineTune(...)`.
        contexts: the sentences put before prompts.
        wordings: the texts that teach a fact.
        subjects: what happens to facts about one subject.
        memory: whether keys of earlier batches are preserved.
        sequential: one fact after another (ROME) rather than a batch.
        reteach: rounds in which facts that are not said are written again.
        layers: the critical layers, ascending; empty until a tuning fills them.
        tuning: name of the tuning its numbers come from, if any.

    Raises:
        RecipeError: a value that is not acceptable.
    """

    name: str
    paper: str = ""
    about: str = ""
    use: str = ""
    schedule: Schedule = part(Spread(), Schedule)
    objective: Objective = part(Objective(), Objective)
    update: Update = part(ClosedForm(), Update)
    contexts: Contexts = part(Neutral(), Contexts)
    wordings: Wordings = part(PromptOnly(), Wordings)
    subjects: Subjects = part(Split(), Subjects)
    memory: bool = flag(False, "preserve the keys of earlier batches")
    sequential: bool = flag(False, "write one fact after another")
    reteach: int = whole(0, "rounds in which facts that are not said after the last batch are written again", high=20.0)
    layers: tuple[int, ...] = option((), Layers("critical layers, ascending, e.g. [4,5,6,7,8]"))
    tuning: str = ""

    def steps(self) -> tuple[Step, ...]:
        """The schedule over this recipe's layers."""
        return self.schedule.steps(self.layers)

    @property
    def written(self) -> tuple[int, ...]:
        """Layers whose weight changes."""
        return tuple(sorted({step.layer for step in self.steps()}))


def blue(recipe: Recipe) -> Recipe:
    """The same method with BLUE's schedule: only the boundary layers, each with its own target (arXiv 2502.03748)."""
    return replace(
        recipe, name=f"{recipe.name}-blue", schedule=Boundary(), about=f"{recipe.about}; boundary layers only"
    )


def joint(recipe: Recipe, use: str) -> Recipe:
    """The same method with a target for every critical layer, all of them optimised in one pass."""
    return replace(
        recipe,
        name=f"{recipe.name}-joint",
        use=use,
        schedule=Own(),
        objective=replace(recipe.objective, together=True),
        about=f"{recipe.about}; all layers, own targets, optimised together",
    )
