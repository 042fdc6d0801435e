"""Writing the batches of an edit, under a guard if there is one."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING

from bluedit.editing._guarded import Guarded
from bluedit.editing._verdict import Checks
from bluedit.editing.guard import Guarding
from bluedit.facts.fact import Fact
from bluedit.methods.recipe import Recipe
from bluedit.text.joining import with_spacing

if TYPE_CHECKING:
    from bluedit.editing.editor import Editor
    from bluedit.writing.batch import Batch
    from bluedit.writing.weights import Snapshot


def judge_of(editor: Editor, asked: Guarding) -> Guarded | None:
    """What decides on the batches of an edit; None keeps all."""
    if asked.guard is None and not asked.skip_failed:
        return None
    checks = None
    if asked.guard:
        protect = with_spacing(editor.lm, list(asked.protect))
        checks = Checks(asked.guard.rules, protect, editor._baseline, editor._weights, editor.progress)
    return Guarded(asked, checks)


def write_batches(
    editor: Editor,
    facts: Sequence[Fact],
    recipe: Recipe,
    batch_size: int | None,
    judge: Guarded | None,
    snapshot: Snapshot,
) -> list[Batch]:
    """The batches of the edit; the caller holds the transaction that `snapshot` is of."""
    writer, earlier = editor._writer, editor.journal.batches
    most_loss = judge.most_loss if judge else inf

    def write(chosen: Sequence[Fact]) -> list[Batch]:
        return writer.write(chosen, recipe, batch_size, earlier, judge, most_loss=most_loss)

    def reset(batches: Sequence[Batch]) -> None:
        editor._weights.restore(snapshot)
        writer.memory.clear()
        for batch in reversed(batches):
            editor._details.on_taken_back(batch)

    return judge.write(write, facts, reset, late=bool(recipe.reteach)) if judge else write(facts)
