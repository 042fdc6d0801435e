"""A finished edit, and the journal an editor keeps of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bluedit.editing.patch import Patch
from bluedit.evaluate.report import Report
from bluedit.evaluate.tables import as_text, edit_table
from bluedit.facts.fact import Fact
from bluedit.methods.recipe import Recipe
from bluedit.writing.weights import Snapshot


@dataclass(eq=False)
class Edit:
    """A finished edit of a live model. `undo` takes it back bit for bit, `save` keeps it as a patch."""

    facts: tuple[Fact, ...]
    recipe: Recipe
    patch: Patch
    report: Report | None
    _undo: Callable[[Edit], None] = field(repr=False)

    def undo(self) -> None:
        """Restore the weights as they were before this edit, bit for bit.

        Raises:
            EditError: already undone, later edits stand on it, or the weights were changed by somebody else.
        """
        self._undo(self)

    def save(self, folder: str | Path) -> Path:
        """Save the patch; see `Patch.save`."""
        return self.patch.save(folder)

    def summary(self) -> str:
        """A few lines of text: what the model now says, what it kept, how far ordinary text drifted."""
        if self.report is None:
            layers = ", ".join(map(str, self.recipe.written))
            return f"{len(self.facts)} facts written with {self.recipe.name} into layers {layers}; not measured (report=False)"
        return as_text([edit_table(self.report.as_dict())])


@dataclass(frozen=True, eq=False)
class JournalEntry:
    """Journal entry.

    Attributes:
        edit: the edit; None for a patch that was applied.
        patch: its batches.
        digests: of the layers it wrote, as they were before it, where they carried earlier updates.
        snapshot: those layers as they were before it; kept for the last entry only.
    """

    edit: Edit | None
    patch: Patch
    digests: Mapping[int, bytes]
    snapshot: Snapshot | None
