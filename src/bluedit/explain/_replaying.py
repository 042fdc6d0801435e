"""The batches that a patch stands on, and writing them again on an editor's model, which is left as it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bluedit.editing.checks import check_fits, check_made_for
from bluedit.editing.patch import Patch
from bluedit.model.state import exclusive, frozen, refuse_inference_mode
from bluedit.writing.batch import Batch
from bluedit.writing.weights import EditedWeights

if TYPE_CHECKING:
    from bluedit.editing.editor import Editor


def batches_of(editor: Editor, patch: Patch, others: Sequence[Patch] = (), *, force: bool = False) -> tuple[Batch, ...]:
    """All batches from the unedited model to the one with the patch: those that it stands on, then its own.

    It may stand on the unedited model, on edits that the editor carries, or on another patch.

    Args:
        editor: of the model.
        patch: the patch.
        others: patches that it may stand on.
        force: take a patch of other weights as if it stood on what the editor carries.

    Raises:
        PatchError: it was made for another model, or for other weights.
    """
    check_fits(editor.lm, patch)
    journal, wanted = editor.journal, patch.base.fingerprint
    if wanted == journal.base.fingerprint:
        return patch.batches
    below: tuple[Batch, ...] = ()
    for entry in journal.entries:
        below += entry.batches
        if entry.state == wanted:
            return (*below, *patch.batches)
    for i, other in enumerate(others):
        if other.state == wanted and other is not patch:
            return (*batches_of(editor, other, (*others[:i], *others[i + 1 :]), force=force), *patch.batches)
    if not force:
        check_made_for(editor.lm, patch, journal.base.fingerprint, journal.state)
    return (*below, *patch.batches)


@contextmanager
def replaying(editor: Editor) -> Iterator[EditedWeights]:
    """Unedited weights, to which batches can be added again inside the `with`.

    Afterwards the editor is what it was: its weights, its journal, and its last edit can be undone as before.

    Raises:
        EditError: another thread is editing the model, or `torch.inference_mode` is on.
    """
    refuse_inference_mode(editor.model)
    with exclusive(editor.model), frozen(editor.model), editor.unedited():
        weights = EditedWeights(editor.lm)
        try:
            yield weights
        finally:
            weights.reset()
