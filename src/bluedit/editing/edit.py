"""A finished edit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.text import Text

from bluedit.editing.guard import LeftOut
from bluedit.editing.guard_text import guard_sentences
from bluedit.editing.patch import Patch
from bluedit.evaluate.report import Report
from bluedit.evaluate.report_text import report_parts
from bluedit.evaluate.tables import as_text, edit_table
from bluedit.facts.fact import Fact
from bluedit.facts.phrasebook import made_questions
from bluedit.methods.recipe import Recipe

_NAMED = 3  # facts in a sentence


@dataclass(eq=False)
class Edit:
    """A finished edit of a live model. `undo` takes it back bit for bit, `save` keeps it as a patch.

    Attributes:
        facts: what was written.
        recipe: how, with all numbers.
        patch: its batches, on top of the model as it was before this edit.
        report: what changed; None if it was not measured.
        report_error: why there is no report, if measuring failed; the edit was made all the same.
        left_out: facts that were asked for and not written, each with the reason.
    """

    facts: tuple[Fact, ...]
    recipe: Recipe
    patch: Patch
    report: Report | None
    _undo: Callable[[Edit], object] = field(repr=False)
    report_error: str | None = None
    left_out: tuple[LeftOut, ...] = ()

    @property
    def guard(self) -> list[str]:
        """What a guard measured and decided, in sentences; empty without one."""
        return guard_sentences(self.patch.batches)

    @property
    def notes(self) -> list[str]:
        """What a guard decided, and which facts were taught in few or in made-up wordings for want of others, in sentences."""
        if not self.recipe.wordings.extends:
            return self.guard
        made = [questions[0] for fact in self.facts if (questions := made_questions(fact))]
        return [*self.guard, *_made(made), *_prompts_alone([fact.text for fact in self.facts if not fact.phrasings])]

    def undo(self) -> None:
        """Restore the weights as they were before this edit, bit for bit.

        Raises:
            EditError: already undone, later edits were made on top of it, or the weights were changed by somebody else.
        """
        self._undo(self)

    def undone_by(self, undo: Callable[[], object]) -> None:
        """Let `undo` take the edit back from now on; a workspace takes back its own entries."""
        self._undo = lambda _edit: undo()

    def save(self, folder: str | Path, *, force: bool = False) -> Path:
        """Save the patch; see `Patch.save`."""
        return self.patch.save(folder, force=force)

    def summary(self) -> str:
        """A few lines of text: what the model now says, what it kept, how far ordinary text drifted."""
        if self.report is not None:
            report = self.report.as_dict()
            return as_text([edit_table(report), *report_parts(report), *map(Text, self.notes)])
        written = self.recipe.written
        layers = f"layer{'s' if len(written) > 1 else ''} {', '.join(map(str, written))}"
        why = f"the report failed: {self.report_error}" if self.report_error else "not measured"
        what = "1 fact" if len(self.facts) == 1 else f"{len(self.facts)} facts"
        return f"{what} written with {self.recipe.name} into {layers}; {why}" + "".join(
            f"\n{line}" for line in self.notes
        )


def _prompts_alone(prompts: Sequence[str]) -> list[str]:
    if not prompts:
        return []
    what = "1 fact was taught on its" if len(prompts) == 1 else f"{len(prompts)} facts were taught on their"
    return [
        f"{what} prompt alone, because the phrase book has no other wording for it: {_named(prompts)}. Asked in another way it may not be said; "
        "give phrasings (--phrasing, or 'phrasings' in a file), a question among them."
    ]


def _made(questions: Sequence[str]) -> list[str]:
    if not questions:
        return []
    what = "1 fact was" if len(questions) == 1 else f"{len(questions)} facts were"
    return [
        f"{what} taught in questions made from the prompt, because the phrase book does not know the relation: {_named(questions)}. Asked in "
        "quite other words it may not be said; give those that people use (--phrasing, or 'phrasings' in a file)."
    ]


def _named(texts: Sequence[str]) -> str:
    return ", ".join(map(repr, texts[:_NAMED])) + (", ..." if len(texts) > _NAMED else "")
