"""Every error bluedit raises on purpose. A message says what came, what was expected and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BluEditError(Exception):
    """Base of all bluedit errors. `exit_code` is what the command line returns for it."""

    exit_code = 1


class FactError(BluEditError):
    """A fact, or a file of facts, that cannot be used."""

    exit_code = 3


class ModelError(BluEditError):
    """A model that cannot be found, loaded or edited."""

    exit_code = 4


class RecipeError(BluEditError):
    """An unknown recipe, an unknown option, or a value out of range."""

    exit_code = 5


class StatisticsError(BluEditError):
    """Key statistics that are missing, insufficient or belong to something else; a corpus that cannot be read."""

    exit_code = 6


class PatchError(BluEditError):
    """A patch that cannot be read, written or applied to this model."""

    exit_code = 7


class EditError(BluEditError):
    """An edit that went wrong and was rolled back, or cannot be undone."""

    exit_code = 8


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """A sentence part with close matches of `word` and, failing that, the choices: for the end of a message."""
    known = sorted(choices)
    close = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(repr(c) for c in close) + "?"
    return "choose one of " + ", ".join(known)
