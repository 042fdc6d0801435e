"""Memory: the preservation operators of the edited layers, with the keys of all earlier batches in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from bluedit.execution import Execution
from bluedit.maths.moment import SecondMoment
from bluedit.maths.preserve import GrowingOperator
from bluedit.methods.preserve import Preserve
from bluedit.methods.subjects import Split, Subjects
from bluedit.model.editable import EditableModel
from bluedit.shapes import Float, Tensor
from bluedit.writing.batch import Batch
from bluedit.writing.keys import batch_rows, read_keys


@dataclass(eq=False)
class _Remembering:
    """An operator.

    Attributes:
        batches: how many of the earlier batches are in it.
        read: whether keys of some were read from the model, because these batches did not write at the layer.
    """

    operator: GrowingOperator
    batches: int = 0
    read: bool = False


class Memory:
    """Preservation operators by layer, kept from batch to batch and extended with the keys that came since.

    Only those of the latest preservation are kept, since each holds a d_key x d_key factor. Whoever takes a batch back clears them.
    """

    def __init__(self, lm: EditableModel, execution: Execution | None = None) -> None:
        self._lm = lm
        self._device = (execution and execution.statistics_device) or lm.device
        self._kept: dict[int, _Remembering] = {}
        self._preserve: tuple[Preserve, bool] | None = None

    def missing(
        self, preserve: Preserve, layers: Sequence[int], earlier: Sequence[Batch], *, remember: bool
    ) -> list[int]:
        """Layers whose operator has to be built from their second moments.

        That includes those with keys that were read from the model before a layer below them was written: such keys have changed.
        """
        if self._preserve != (preserve, remember):
            self.clear()
            self._preserve = (preserve, remember)
        return [layer for layer in layers if layer not in self._kept or self._outdated(layer, earlier)]

    def _outdated(self, layer: int, earlier: Sequence[Batch]) -> bool:
        kept = self._kept[layer]
        return kept.read and any(below < layer for batch in earlier[kept.batches :] for below in batch.layers)

    def build(self, moments: Mapping[int, SecondMoment]) -> None:
        """Build operators of the preservation that `missing` was asked for."""
        assert self._preserve
        for layer, C in moments.items():
            self._kept[layer] = _Remembering(self._preserve[0].operator(C))

    def operators(self, layers: Sequence[int], earlier: Sequence[Batch]) -> dict[int, GrowingOperator]:
        """G of these layers, with the keys of all earlier batches if the preservation remembers."""
        assert self._preserve
        for layer in layers if self._preserve[1] else ():
            kept = self._kept[layer]
            for batch in earlier[kept.batches :]:
                kept.operator.remember(self._keys_of(batch, layer))
                kept.read |= layer not in batch.layers
            kept.batches = len(earlier)
        return {layer: self._kept[layer].operator for layer in layers}

    def _keys_of(self, batch: Batch, layer: int) -> Float[Tensor, "d_key n"]:
        """The keys of an earlier batch at a layer: as recorded, or read now if that batch did not write there."""
        for update in batch.updates:
            if update.layer == layer:
                return update.keys.to(self._device)
        kind = batch.origin.settings.get("subjects", Split.kind)
        subjects = cast(Subjects, Subjects.of_kind(kind)())
        columns = subjects.columns(batch.facts)
        batch_of = batch_rows(self._lm.tokenizer, batch.facts, batch.origin.prefixes, columns)
        return read_keys(self._lm, batch_of.rows, (layer,), batch_of.n)[layer].to(self._device)

    def ranks(self) -> dict[int, int]:
        """Dimensions of key space that updates may use, by layer."""
        return {layer: kept.operator.rank for layer, kept in self._kept.items()}

    def clear(self) -> None:
        """Forget all operators, e.g. because their keys are no longer those of the model."""
        self._kept.clear()
        self._preserve = None
