"""All errors that bluedit raises on purpose. A message says what was given, what was expected and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any


class BluEditError(Exception):
    """Base of all bluedit errors. `exit_code` is what the command line returns for it."""

    exit_code = 1


# what a model's forward pass raises when it is run in a way that its family was not written for
FAMILY_ERRORS = (TypeError, AttributeError, RuntimeError, ValueError, IndexError, KeyError, NotImplementedError)

# what using a record may raise whose JSON is sound and whose content is not what bluedit writes
MALFORMED = (KeyError, IndexError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)


_NO_MEMORY = ("allocate memory", "could not create a primitive")  # torch's words for a processor, and oneDNN's


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: Python's, an accelerator's, or the processor's, for which torch has a plain RuntimeError."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY))
    )


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


class BenchmarkError(BluEditError):
    """A benchmark that cannot be run as asked, or a folder that holds something else."""

    exit_code = 9


class ExplainError(BluEditError):
    """An analysis that cannot be run as asked, a folder that holds something else, or figures that cannot be drawn."""

    exit_code = 11


class ExportError(BluEditError):
    """An export that cannot be made as asked, or checkpoints that cannot be compared."""

    exit_code = 12


class WorkspaceError(BluEditError):
    """A workspace that cannot be made, read or written, is in use by another process, or has no such entry or name."""

    exit_code = 14


_SKIP = ", or leave out such facts with skip_failed=True (--skip-failed)"


class FailedFactsError(EditError):
    """Facts that cannot be written: their numbers are not finite, their keys depend on others, or their targets did not converge.

    Attributes:
        columns: columns of the batch that failed; the others can be written without them.
        failed: the facts they stand for, once these are known.
        reasons: why each of the facts failed, in their order.
    """

    def __init__(
        self,
        what: str,
        advice: str,
        columns: Iterable[int] = (),
        failed: Iterable[Any] = (),
        reasons: Iterable[str] = (),
    ) -> None:
        self.what, self.advice = what, advice
        self.columns, self.failed = tuple(columns), tuple(failed)
        own = tuple(reasons)
        self.reasons = own or (what,) * len(self.failed or self.columns)
        super().__init__(f"{what}{_named(self.failed, ' (')}; {advice}{_SKIP if self.failed else ''}")

    def about(self, facts_of: Callable[[Iterable[int]], Sequence[Any]]) -> FailedFactsError:
        """The same error, once the facts of columns are known. A fact of several columns has the reason of the first."""
        found: dict[int, tuple[Any, str]] = {}
        for column, reason in zip(self.columns, self.reasons, strict=True):
            for fact in facts_of([column]):
                found.setdefault(id(fact), (fact, reason))
        failed, reasons = zip(*found.values(), strict=True) if found else ((), ())
        return FailedFactsError(self.what, self.advice, self.columns, failed, reasons)


class SingularError(FailedFactsError):
    """Keys that cannot all get their values: the system of a batch is singular, or nearly so.

    Attributes:
        facts: columns whose keys are (nearly) parallel; empty when that is not the reason.
    """

    def __init__(
        self,
        size: int,
        facts: Iterable[int] = (),
        columns: Iterable[int] = (),
        parallel: Sequence[Any] = (),
        failed: Sequence[Any] = (),
    ) -> None:
        self.size, self.facts = size, tuple(facts)
        who = _named(parallel, " (nearly parallel: ")
        super().__init__(
            f"the {size} x {size} system of this batch is singular: some keys are not finite, (nearly) equal to each "
            f"other{who}, or outside the subspace that may change",
            "edit those facts in separate batches, use a recipe with slack 1, or set a ridge such as update.slack=1e-3"
            + (_SKIP if failed else ""),
        )
        self.columns, self.failed = tuple(columns), tuple(failed)
        self.reasons = (self.what,) * len(self.failed or self.columns)

    def among(self, columns: Sequence[int]) -> SingularError:
        """The same error of a system that had only some columns of the batch."""
        return SingularError(self.size, [columns[i] for i in self.facts], [columns[i] for i in self.columns])

    def about(self, facts_of: Callable[[Iterable[int]], Sequence[Any]]) -> SingularError:
        return SingularError(self.size, self.facts, self.columns, facts_of(self.facts), facts_of(self.columns))


class GuardError(EditError):
    """An edit that breaks the rules of its guard. Nothing was changed.

    Attributes:
        record: what was measured and decided, for JSON.
    """

    exit_code = 15

    def __init__(self, message: str, record: Mapping[str, Any]) -> None:
        self.record = record
        super().__init__(message)


def _named(facts: Sequence[Any], opening: str) -> str:
    """Facts in parentheses; nothing if there are none."""
    names = [f"{fact.text!r} => {fact.target!r}" for fact in facts[:6]]
    return f"{opening}{'; '.join(names)}{'; ...' if len(facts) > 6 else ''})" if facts else ""


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """A sentence part with close matches of `word` and, failing that, the choices: for the end of a message."""
    known = sorted(choices)
    close = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(repr(c) for c in close) + "?"
    return "choose one of " + ", ".join(known)
