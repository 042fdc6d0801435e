"""The weights an editor writes: each is the original plus the sum of its updates, added once.

The sum is kept in float64 in the order the updates were made. So a bfloat16 weight is rounded once however many edits it carries, and a
patch applied to a fresh copy repeats the same additions. Filters may show another sum than the one that is kept (PRUNE), or drop a part
and have it added back by the next batch (RECT with feedback). Snapshots give back the exact bits. One holds a copy and a sum of every
layer (10 bytes a weight in bfloat16), so an editor keeps only its last and reaches earlier states by repeating what led to them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch

from bluedit.errors import EditError
from bluedit.methods.filters import Filter
from bluedit.model.anatomy import Projection
from bluedit.model.devices import wide_device, widened
from bluedit.model.fingerprint import exact_digest, tensor_digest
from bluedit.shapes import Float, Tensor
from bluedit.writing.batch import Batch

_HALF_WAY = b""  # in place of a digest


@dataclass(frozen=True, eq=False)
class _Layer:
    """One edited weight; tensors are replaced, never changed in place.

    Attributes:
        original: the weight before any edit, in the model's dtype.
        total: sum of the updates, float64.
        offset: what filters that only change what is shown add to it.
        dropped: what the filters took away and the next batch adds back, as a change to `total`.
        digest: of the weight as it was written last.
    """

    original: Tensor
    total: Tensor
    offset: Tensor | None = None
    dropped: Tensor | None = None
    digest: bytes = _HALF_WAY


@dataclass(frozen=True, eq=False)
class _Copy:
    """The exact bits of one layer's weight, and what an editor knows of it."""

    matrix: Tensor
    layer: _Layer | None


Snapshot = Mapping[int, _Copy]


def digests_of(snapshot: Snapshot) -> dict[int, bytes]:
    """A hash of all bytes of the weights in a snapshot that carry updates."""
    return {layer: exact_digest(copy.matrix) for layer, copy in snapshot.items() if copy.layer is not None}


@runtime_checkable
class Projections(Protocol):
    """Projections by layer: a model's, or single matrices read from a checkpoint."""

    def projection(self, layer: int) -> Projection:
        """The projection of a layer."""
        ...


class EditedWeights:
    """Projections of one model with their originals. This mutates the model's weights in place.

    `opened` has digests of the parameters before any edit, for `check_untouched`. A weight that layers share has one name there.
    """

    def __init__(self, lm: Projections, opened: Mapping[str, bytes] | None = None) -> None:
        self.lm, self._opened = lm, opened or {}
        self._layers: dict[int, _Layer] = {}

    @torch.no_grad()
    def add(self, layer: int, R: Float[Tensor, "d_value n"], A: Float[Tensor, "n d_key"]) -> None:
        """Add R A to the layer's weight, and what filters dropped from the batch before if it is to come back.

        Raises:
            EditError: the result is not finite.
        """
        edited = self._touched(layer)
        total = edited.total if edited.dropped is None else edited.total - edited.dropped
        # contiguous, so that factors read from a file give the same bits
        change = widened(R).to(total.device).contiguous() @ widened(A).to(total.device).contiguous()
        self._write(layer, replace(edited, total=total + change, dropped=None))

    def dropped(self, layer: int) -> Float[Tensor, "d_value d_key"] | None:
        """What filters took away from the layer's last batch and the next write adds back: a change D of the weight, which that write undoes."""
        return self._layers[layer].dropped if layer in self._layers else None

    @contextmanager
    def filtered(self, layers: Sequence[int], filters: Sequence[Filter]) -> Iterator[None]:
        """What is added to these layers inside the `with` passes the filters at its end.

        Inside, the weights show the whole sum, also where earlier batches showed a filtered one.
        """
        for layer in layers:
            edited = self._layers.get(layer)
            if filters and edited is not None and edited.offset is not None:
                self._write(layer, replace(edited, offset=None))
        before = {layer: self._layers[layer].total if layer in self._layers else None for layer in layers}
        yield
        for layer in layers:
            if filters and layer in self._layers:
                self._filter(layer, before[layer], filters)

    @torch.no_grad()
    def _filter(self, layer: int, before: Tensor | None, filters: Sequence[Filter]) -> None:
        edited = self._layers[layer]
        W0 = widened(edited.original)
        start = torch.zeros_like(edited.total) if before is None else before
        total, dropped = edited.total, None
        for kept in (f for f in filters if not f.shown_only):
            new = kept.apply(W0, start, total)
            if kept.feedback:
                dropped = new - total if dropped is None else dropped + (new - total)
            total = new
        shown = total
        for cap in (f for f in filters if f.shown_only):
            shown = cap.apply(W0, start, shown)
        offset = None if shown is total else shown - total
        self._write(layer, replace(edited, total=total, offset=offset, dropped=dropped))

    def repeat(self, batch: Batch, layers: Collection[int] | None = None) -> None:
        """Make the updates of a finished batch again, at all its layers or only at some.

        Raises:
            EditError: the result is not finite.
        """
        updates = [update for update in batch.updates if layers is None or update.layer in layers]
        with self.filtered(sorted({update.layer for update in updates}), batch.filters):
            for update in updates:
                device = self.lm.projection(update.layer).parameter.device
                self.add(update.layer, update.R.to(device), update.A.to(device))

    def rebuild(self, layers: Collection[int], batches: Iterable[Batch], digests: Mapping[int, bytes]) -> None:
        """Set these layers to what `batches`, in this order, make of the original weights.

        Raises:
            EditError: the result does not match `digests`; the weights are as they were.
        """
        with self.transaction(layers):
            for layer in layers:
                self._forget(layer)
            for batch in batches:
                self.repeat(batch, layers)
            if digests_of(self.snapshot(layers)) != digests:
                raise EditError(
                    "this edit was not undone: writing the earlier edits again did not give the same bits (has the number of threads or the "
                    "device changed?). Editor.reset() takes back all edits; apply a saved patch after it to have that patch's weights"
                )

    def reset(self) -> None:
        """The original weights, bit for bit; also after a change that was interrupted half-way."""
        self._mark_half_way(self._layers)
        for layer in list(self._layers):
            self._forget(layer)

    @torch.no_grad()
    def _forget(self, layer: int) -> None:
        self._mark_half_way([layer])
        if layer in self._layers:
            self.lm.projection(layer).matrix().copy_(self._layers[layer].original)
            del self._layers[layer]  # last, so that an interruption is seen

    def _touched(self, layer: int) -> _Layer:
        if layer not in self._layers:
            matrix = self.lm.projection(layer).matrix()
            total = torch.zeros(matrix.shape, dtype=torch.float64, device=wide_device(matrix.device))
            self._layers[layer] = _Layer(matrix.clone(), total, digest=tensor_digest(matrix))
        return self._layers[layer]

    def _write(self, layer: int, edited: _Layer) -> None:
        """Make the layer's weight the original plus the sum that is shown."""
        matrix = self.lm.projection(layer).matrix()
        shown = edited.total if edited.offset is None else edited.total + edited.offset
        value = (widened(edited.original) + shown).to(matrix.dtype)
        if not torch.isfinite(value).all():
            raise EditError(
                f"the update of layer {layer} is not finite; check the model's weights and the recipe's numbers (objective.learning_rate, preserve.lambda)"
            )
        matrix.copy_(value)
        self._layers[layer] = replace(edited, digest=tensor_digest(matrix))

    def snapshot(self, layers: Iterable[int]) -> Snapshot:
        """Exact copies of these layers' weights and sums."""
        return {layer: _Copy(self.lm.projection(layer).matrix().clone(), self._layers.get(layer)) for layer in layers}

    @torch.no_grad()
    def restore(self, snapshot: Snapshot) -> None:
        """Put back the exact bits."""
        self._mark_half_way(snapshot)
        for layer, copy in snapshot.items():
            if copy.layer is not None:
                self._layers[layer] = replace(copy.layer, digest=_HALF_WAY)
            self.lm.projection(layer).matrix().copy_(copy.matrix)
            if copy.layer is None:
                self._layers.pop(layer, None)
            else:
                self._layers[layer] = copy.layer

    def _mark_half_way(self, layers: Iterable[int]) -> None:
        """Say that these weights are about to change; whoever finishes the change puts their digests back, last of all."""
        for layer in layers:
            if layer in self._layers:
                self._layers[layer] = replace(self._layers[layer], digest=_HALF_WAY)

    @contextmanager
    def transaction(self, layers: Iterable[int]) -> Iterator[Snapshot]:
        """All or nothing: whatever ends the `with` other than success (Ctrl-C included) leaves the weights bit for bit as they were."""
        snapshot = self.snapshot(layers)
        try:
            yield snapshot
        except BaseException:
            self.restore(snapshot)
            raise

    @contextmanager
    @torch.no_grad()
    def unedited(self) -> Iterator[None]:
        """The original weights inside the `with`, the edited ones after it."""
        edited = self.snapshot(self._layers)
        try:
            for layer, copy in edited.items():
                if copy.layer is not None:
                    self.lm.projection(layer).matrix().copy_(copy.layer.original)
            yield
        finally:
            self.restore(edited)

    def change(self, layer: int) -> Float[Tensor, "d_value d_key"]:
        """What a touched layer's weight shows beyond its original, before it is rounded to the weight's dtype; float64."""
        edited = self._layers[layer]
        return edited.total if edited.offset is None else edited.total + edited.offset

    def original(self, layer: int) -> Float[Tensor, "d_value d_key"]:
        """A layer's weight before any edit, float64."""
        edited = self._layers.get(layer)
        return widened(self.lm.projection(layer).matrix() if edited is None else edited.original)

    def change_norms(self) -> dict[int, float]:
        """|W - W0| / |W0| of each changed layer (Frobenius)."""
        return {layer: float((W - W0).norm() / W0.norm()) for layer, W, W0 in self._changed()}

    def norm_growth(self) -> dict[int, float]:
        """|W| / |W0| - 1 of each changed layer (Frobenius)."""
        return {layer: float(W.norm() / W0.norm()) - 1 for layer, W, W0 in self._changed()}

    def _changed(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        for layer in sorted(self._layers):
            yield layer, widened(self.lm.projection(layer).matrix()), self.original(layer)

    def unchanged(self, layers: Iterable[int]) -> list[int]:
        """Those of these layers that carry no update."""
        return [layer for layer in layers if layer not in self._layers]

    @property
    def edited(self) -> bool:
        """Whether any weight carries an update."""
        return bool(self._layers)

    @property
    def state(self) -> tuple[tuple[int, bytes], ...]:
        """The layers that carry updates and digests of their weights."""
        return tuple((layer, edited.digest) for layer, edited in sorted(self._layers.items()))

    def check_untouched(self, layers: Iterable[int] = (), *, half_way: bool = False) -> None:
        """Raises EditError when somebody else changed a weight after our last write, or one of `layers`, which are to be written, since the
        model was opened: undo, memory and the patch's base would be wrong.

        A change of ours that was interrupted half-way is refused too, unless `half_way`.
        """
        if not half_way and any(edited.digest == _HALF_WAY for edited in self._layers.values()):
            raise EditError(
                "an undo was interrupted half-way, so the weights are between two states; call Editor.reset() for the unedited weights"
            )
        for layer in {*self._layers, *layers}:
            projection, edited = self.lm.projection(layer), self._layers.get(layer)
            if edited is None:
                opened = self._opened.get(
                    f"{projection.name}.weight"
                )  # None: a weight that layers share has one name only
                same = opened in (None, tensor_digest(projection.parameter))
            else:
                same = edited.digest in (_HALF_WAY, tensor_digest(projection.matrix()))
            if not same:
                raise EditError(
                    f"{projection.name}.weight was changed outside this editor since {'its last edit' if edited else 'it was made'}; make a new Editor for the model as it is now"
                )
