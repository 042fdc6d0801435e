"""Patches without their facts and keys, and the form of export that writes a copy of a patch."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

from bluedit.errors import ExportError, PatchError
from bluedit.export.base import Edits
from bluedit.export.card import fact_count
from bluedit.export.form import Exported, Form, Job
from bluedit.writing.batch import STRIPPED, Batch

P = TypeVar("P", bound=Edits)


def stripped(patch: P) -> P:
    """The patch without facts, keys, prefixes and reports. It changes weights bit for bit as before.

    What no longer works: later edits do not protect its facts, `explain` and `find_conflicts` know nothing of them, and it says nothing
    about what it is for. The factors stay, and whoever has the base model can learn from them what was edited (docs/privacy.md).
    """
    return replace(cast(Any, patch), batches=tuple(map(_stripped, patch.batches)))


def _stripped(batch: Batch) -> Batch:
    origin = batch.origin
    about = {key: value for key, value in origin.about.items() if key != "seconds"}
    about[STRIPPED] = batch.stripped or len(batch.facts)
    return replace(
        batch,
        facts=(),
        held=(),
        guard=None,
        updates=tuple(replace(update, keys=update.keys[:, :0].contiguous()) for update in batch.updates),
        origin=replace(origin, prefixes=(), norms={}, report=None, about=about),
    )


@dataclass(frozen=True)
class PatchCopy(Form, kind="patch"):
    """A copy of the patch; with `strip`, one without facts and keys."""

    needs_base: ClassVar[bool] = False

    def write(self, job: Job, place: Path) -> Exported:
        patch: Any = job.edits
        if not hasattr(patch, "save"):
            raise ExportError(f"the form patch takes a Patch, not {type(patch).__name__}")
        try:
            (patch if job.facts else stripped(patch)).save(place)
        except PatchError as error:
            raise error.__cause__ if isinstance(error.__cause__, OSError) else error  # noqa: B904 (the caller names the place)
        use = {
            "bluedit": shlex.join(["bluedit", "apply", str(job.out), "--model", patch.base.model, "--save", "FOLDER"])
        }
        if job.facts:
            return Exported(job.out, (), use)
        number = fact_count(patch)
        what = "1 fact and its key" if number == 1 else f"{number} facts and their keys"
        note = (
            f"{what} are left out. It changes the model as before, but later edits on top of it do not protect "
            "what is left out, and explanations and reports of them are gone. Keep the whole patch if you will edit on."
        )
        return Exported(
            job.out,
            (note, "The factors still tell what was edited to whoever has the base model: docs/privacy.md."),
            use,
        )


__all__ = ["PatchCopy", "stripped"]
