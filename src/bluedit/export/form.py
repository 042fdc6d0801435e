"""What every form of export has in common: its options, what it is given, and what it returns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from bluedit.export.base import BaseModel, Edits, FileProjections
from bluedit.export.changes import Change, changes
from bluedit.methods.part import Part


@dataclass(frozen=True, eq=False)
class Job:
    """What is exported.

    Attributes:
        edits, base: the batches, and the model that they go into.
        out: where the export will be; for command lines that are shown.
        facts: whether the facts may be named in it.
        base_model: hub id of the base model, for the card; empty if it has none.
    """

    edits: Edits
    base: BaseModel
    out: Path
    facts: bool = True
    base_model: str = ""

    @cached_property
    def projections(self) -> FileProjections:
        """The projections that the edits write."""
        return self.base.projections(self.edits)

    def changes(self) -> Iterator[Change]:
        """The change of every edited weight, one in memory at a time."""
        return changes(self.projections, self.edits.batches)


@dataclass(frozen=True)
class Exported:
    """A finished export.

    Attributes:
        path: the folder or file.
        notes: what the user should know, in sentences.
        use: command lines, or lines of a file, that load it; by program.
    """

    path: Path
    notes: tuple[str, ...] = ()
    use: dict[str, str] = field(default_factory=dict)


class Form(Part, slot="to"):
    """A form of export. A subclass with `kind="name"` is found by that name.

    Attributes:
        is_file: whether the export is one file; else it is a folder.
        needs_base: whether the base model is read; if not, it need not be there.
        needs: packages that must be installed, each with the command that installs it.
    """

    is_file: ClassVar[bool] = False
    needs_base: ClassVar[bool] = True
    needs: ClassVar[dict[str, str]] = {}

    @classmethod
    def prefix(cls) -> str:
        """Options of a form are named without it."""
        return ""

    def write(self, job: Job, place: Path) -> Exported:
        """Write the export into an empty folder, or to a file, that the caller then gives its name.

        Raises:
            BluEditError: it cannot be made.
            OSError: it cannot be written.
        """
        raise NotImplementedError
