"""The conditions under which a model is changed: one thread, evaluation mode, all or nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from transformers import PreTrainedModel

from bluedit.errors import EditError
from bluedit.model.state import exclusive, frozen, refuse_inference_mode

if TYPE_CHECKING:
    from bluedit.editing.edit import Edit
    from bluedit.editing.editor import Editor
    from bluedit.editing.journal import Journal
    from bluedit.writing.weights import EditedWeights, Snapshot
    from bluedit.writing.writer import FactWriter


@contextmanager
def alone(model: PreTrainedModel) -> Iterator[None]:
    """Inside the `with` no other thread edits the model, and it is in evaluation mode.

    Raises:
        EditError: another thread is editing it, or `torch.inference_mode` is on.
    """
    refuse_inference_mode(model)
    with exclusive(model), frozen(model):
        yield


@contextmanager
def transaction(
    journal: Journal, weights: EditedWeights, writer: FactWriter, layers: Collection[int]
) -> Iterator[Snapshot]:
    """Weights, journal and memory stay as they were unless the `with` succeeds; yields the layers as they were."""
    try:
        with journal.transaction(), weights.transaction(layers) as snapshot:
            yield snapshot
    except BaseException:
        writer.memory.clear()
        raise


def undo_edit(editor: Editor, edit: Edit) -> None:
    """Take back an edit if it is the last one."""
    place = editor.journal.place_of(edit)
    if place is None:
        raise EditError("this edit was already undone")
    later = len(editor.journal) - 1 - place
    if later:
        one = later == 1
        raise EditError(
            f"{later} later edit{' was' if one else 's were'} made on top of this one; undo {'it' if one else 'them, the last one'} first"
        )
    editor.undo()
