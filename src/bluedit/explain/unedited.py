"""The model that a measurement is of: one without edits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bluedit.errors import ExplainError
from bluedit.model.editable import EditableModel
from bluedit.model.state import refuse_inference_mode

if TYPE_CHECKING:
    from bluedit.editing.editor import Editor


def unedited(model: Editor | EditableModel) -> EditableModel:
    """The model to analyse.

    Raises:
        ExplainError: it carries edits.
        EditError: `torch.inference_mode` is on.
    """
    refuse_inference_mode(model.model)
    if isinstance(model, EditableModel):
        return model
    if len(model.journal):
        raise ExplainError(
            f"the editor's model carries {len(model.journal)} edits, and the analysis is of the unedited model; call reset() first"
        )
    return model.lm
