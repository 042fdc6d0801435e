"""Memory: the preservation operators of the edited layers, with the keys of all earlier batches in them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bluedit.execution import Execution
from bluedit.maths.moment import SecondMoment
from bluedit.maths.preserve import GrowingOperator
from bluedit.methods.preserve import Control, Preserve
from bluedit.methods.recipe import Recipe
from bluedit.methods.subjects import Subjects
from bluedit.model.devices import solve_device
from bluedit.model.editable import EditableModel
from bluedit.shapes import Float, Tensor
from bluedit.writing.batch import Batch, Origin
from bluedit.writing.keys import BatchRows, batch_rows, read_keys
from bluedit.writing.weights import EditedWeights

Content = list[tuple[int, tuple[int, ...] | None]]  # (batch, its columns that are remembered; None for all)


@dataclass(eq=False)
class _Remembering:
    """An operator.

    Attributes:
        content: which batches and columns are in it.
        read: whether keys of some were read from the model, because these batches did not write at the layer.
        weight: multiple of the preservation's lambda.
    """

    operator: GrowingOperator
    content: Content = field(default_factory=list)
    read: bool = False
    weight: float = 1.0


class Memory:
    """Preservation operators by layer, kept from batch to batch and extended with the keys that came since.

    Only those of the latest preservation are kept, since each holds a d_key x d_key factor. Whoever takes a batch back clears them.
    """

    def __init__(self, lm: EditableModel, execution: Execution | None = None) -> None:
        self._lm = lm
        self._device = solve_device(lm.device, execution.statistics_device if execution else "")
        self._kept: dict[int, _Remembering] = {}
        self._preserve: Preserve | None = None

    def missing(self, preserve: Preserve, layers: Sequence[int]) -> list[int]:
        """Layers whose operator has to be built from their second moments."""
        if self._preserve != preserve:
            self.clear()
            self._preserve = preserve
        return [layer for layer in layers if layer not in self._kept]

    def build(self, moments: Mapping[int, SecondMoment]) -> None:
        """Build operators of the preservation that `missing` was asked for."""
        assert self._preserve
        for layer, C in moments.items():
            self._kept[layer] = _Remembering(self._preserve.operator(C))

    def operators(
        self,
        layers: Sequence[int],
        earlier: Sequence[Batch],
        subjects: Subjects | None = None,
        rewritten: Iterable[Hashable] = (),
    ) -> dict[int, GrowingOperator]:
        """G of these layers, with the keys of earlier batches in it.

        Batches that were stripped of their keys are not remembered. Nor is the key of a fact that is written again, now or by a later
        batch: held to its old value, it would get less and less of each new one.

        Args:
            layers: the layers.
            earlier: all batches that the model carries, in order.
            subjects: says which facts take the place of which in memory; None remembers no keys at all.
            rewritten: what the facts that are about to be written are remembered as, see `Subjects.remembered_as`.
        """
        content = self._content(earlier, subjects, set(rewritten)) if subjects else []
        return {layer: self._with(layer, content, earlier) for layer in layers}

    def control(self, layers: Sequence[int], weights: EditedWeights) -> dict[int, Control]:
        """What to record of a batch that was just written at these layers, if the preservation follows drift."""
        assert self._preserve
        found: dict[int, Control] = {}
        for layer in layers:
            kept = self._kept[layer]
            drift = self._preserve.drift(kept.operator, weights.change(layer))
            if drift is not None:
                found[layer] = Control(kept.weight, drift)
        return found

    def _with(self, layer: int, content: Content, earlier: Sequence[Batch]) -> GrowingOperator:
        kept = self._adapted(layer, earlier)
        done = len(kept.content)
        # keys that were read from the model have changed if a layer below was written since
        outdated = kept.read and any(below < layer for i, _ in content[done:] for below in earlier[i].layers)
        if outdated or kept.content != content[:done]:
            kept, done = self._forgotten(layer), 0
        for i, columns in content[done:]:
            keys = self._keys_of(earlier[i], layer)
            if columns is None or columns:
                kept.operator.remember(keys if columns is None else keys[:, list(columns)])
            kept.read |= layer not in earlier[i].layers
        kept.content = content
        return kept.operator

    def _adapted(self, layer: int, earlier: Sequence[Batch]) -> _Remembering:
        """What is kept of a layer, or an operator without memory where the preservation now wants another."""
        assert self._preserve
        kept = self._kept[layer]
        records = [batch.origin.control[layer] for batch in earlier if layer in batch.origin.control]
        operator, weight = self._preserve.adapted(kept.operator, records)
        if operator is not kept.operator:
            kept = self._kept[layer] = _Remembering(operator, weight=weight)
        return kept

    def _content(self, earlier: Sequence[Batch], subjects: Subjects, rewritten: set[Hashable]) -> Content:
        content: Content = []
        for i in reversed([i for i, batch in enumerate(earlier) if not batch.stripped]):
            units = [subjects.remembered_as(fact) for fact in earlier[i].written]
            columns = None
            if not rewritten.isdisjoint(units):
                owners = self._rows_of(earlier[i]).owners
                columns = tuple(
                    column for column, own in enumerate(owners) if rewritten.isdisjoint(units[j] for j in own)
                )
            content.append((i, columns))
            rewritten.update(units)
        return content[::-1]

    def _keys_of(self, batch: Batch, layer: int) -> Float[Tensor, "d_key n"]:
        """The keys of an earlier batch at a layer: as recorded, or read now if that batch did not write there."""
        for update in batch.updates:
            if update.layer == layer:
                return update.keys.to(self._device)
        batch_of = self._rows_of(batch)
        return read_keys(self._lm, batch_of.rows, (layer,), batch_of.n)[layer].to(self._device)

    def _rows_of(self, batch: Batch) -> BatchRows:
        return batch_rows(self._lm.tokenizer, batch.written, batch.origin.prefixes, _recipe_of(batch.origin))

    def ranks(self) -> dict[int, int]:
        """Dimensions of key space that updates may use, by layer."""
        return {layer: kept.operator.rank for layer, kept in self._kept.items()}

    def forget(self) -> None:
        """Forget the keys of all batches, which are others now, and keep the operators of ordinary text."""
        for layer in self._kept:
            self._forgotten(layer)

    def _forgotten(self, layer: int) -> _Remembering:
        kept = self._kept[layer]
        self._kept[layer] = _Remembering(kept.operator.fresh(), weight=kept.weight)
        return self._kept[layer]

    def clear(self) -> None:
        """Forget all operators, e.g. because their keys are no longer those of the model."""
        self._kept.clear()
        self._preserve = None


def _recipe_of(origin: Origin) -> Recipe:
    """The parts of a batch's recipe that decide on its rows."""
    slots = ("wordings", "subjects")
    return Recipe(origin.recipe or "unknown").override(
        {path: value for path, value in origin.settings.items() if path.split(".")[0] in slots}, "the earlier batch"
    )
