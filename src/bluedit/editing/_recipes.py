"""How the arguments of an edit change its recipe."""

from __future__ import annotations

from dataclasses import replace

from bluedit.errors import RecipeError
from bluedit.methods.recipe import Recipe
from bluedit.methods.wordings import Natural, PromptOnly
from bluedit.writing.batch import Origin


def with_wordings(recipe: Recipe, *, phrasings: bool, chat: bool | None) -> Recipe:
    """The recipe with other wordings left out, or with or without the chat form.

    Raises:
        RecipeError: the chat form is asked for, and the recipe teaches the prompt alone.
    """
    if not phrasings:
        if chat:
            raise RecipeError(
                "chat=True teaches another wording, and phrasings=False leaves all of them out; choose one"
            )
        return replace(recipe, wordings=PromptOnly())
    if chat is None:
        return recipe
    if isinstance(recipe.wordings, Natural):
        return replace(recipe, wordings=replace(recipe.wordings, chat=chat))
    if chat:
        raise RecipeError(
            f"the recipe {recipe.name} teaches the prompt alone; set wordings=natural to teach the chat form"
        )
    return recipe


def recipe_of(origin: Origin) -> Recipe:
    """The recipe that a batch was written with, with all its numbers.

    Raises:
        RecipeError: it has parts or options that are not known here, or it is not known (patches of other programs).
    """
    named = Recipe(origin.recipe or "unknown", origin.paper, tuning=origin.tuning)
    return named.override(origin.settings, f"the recipe {named.name}")
