"""The conditions under which a model is changed: one thread, evaluation mode, all or nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from transformers import PreTrainedModel

from bluedit.model.state import exclusive, frozen, refuse_inference_mode

if TYPE_CHECKING:
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
