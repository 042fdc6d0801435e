"""The weights an editor writes: each is the original plus the sum of its updates, added once.

PRUNE shows a capped form of that sum and keeps the sum itself, so that later batches build on what was really learned.

The sum is kept in float64 in the order the updates were made, so a bfloat16 weight is rounded once however many edits it carries, and
a patch applied to a fresh copy repeats the same additions. Snapshots give back the exact bits; since one holds a copy and a sum of every
layer (10 bytes a weight in bfloat16), an editor keeps only its last, and comes to earlier states by repeating what led to them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from bluedit.errors import EditError
from bluedit.maths.filters import prune, rect
from bluedit.model.editable import EditableModel
from bluedit.model.fingerprint import exact_digest, tensor_digest
from bluedit.methods.recipe import Filter
from bluedit.shapes import Float, Tensor
from bluedit.writing.batch import Batch


class _State(NamedTuple):
    matrix: Tensor
    original: Tensor | None
    total: Tensor | None
    cap: Tensor | None
    written: bytes | None  # digest of the matrix, if it carries updates


Snapshot = dict[int, _State]
_HALF_WAY = b""  # in place of a digest


def digests_of(snapshot: Snapshot) -> dict[int, bytes]:
    """A hash over all bytes of the weights of those layers that carry updates."""
    return {layer: exact_digest(state.matrix) for layer, state in snapshot.items() if state.total is not None}


class EditedWeights:
    """Projections of one model with their originals. This mutates the model's weights in place."""

    def __init__(self, lm: EditableModel) -> None:
        self.lm = lm
        self._original: dict[int, Tensor] = {}
        self._total: dict[int, Tensor] = {}
        self._cap: dict[int, Tensor] = {}
        self._written: dict[int, bytes] = {}
        self._stores: tuple[dict[int, Any], ...] = (self._original, self._total, self._cap, self._written)

    @torch.no_grad()
    def add(self, layer: int, R: Float[Tensor, "d_value n"], A: Float[Tensor, "n d_key"]) -> None:
        """Add R A to the layer's W.

        Raises:
            EditError: the result is not finite.
        """
        self._touch(layer)
        # contiguous, so that factors read from a file give the same bits
        self._write(layer, self._total[layer] + R.double().contiguous() @ A.double().contiguous())

    def repeat(self, batch: Batch, layers: Collection[int] | None = None) -> None:
        """Make a finished batch's updates again, at all its layers or only at some.

        Raises:
            EditError: the result is not finite.
        """
        updates = [update for update in batch.updates if layers is None or update.layer in layers]
        with self.filtered(sorted({update.layer for update in updates}), batch.filter):
            for update in updates:
                self.add(update.layer, update.R.to(self.lm.device), update.A.to(self.lm.device))

    def rebuild(self, layers: Collection[int], batches: Iterable[Batch], digests: Mapping[int, bytes]) -> None:
        """Make these layers what `batches`, in this order, make of the original weights.

        Raises:
            EditError: that is not what `digests` were taken of; the weights are as they were.
        """
        with self.transaction(layers):
            for layer in layers:
                self._forget(layer)
            for batch in batches:
                self.repeat(batch, layers)
            if digests_of(self.snapshot(layers)) != digests:
                raise EditError(
                    "repeating the earlier edits did not give the same bits (was the number of threads or the device changed?), so this one "
                    "stays; Editor.reset() takes back all edits, and applying a saved patch then gives its weights"
                )

    def reset(self) -> None:
        """The original weights, bit for bit; also after a change that was interrupted half-way."""
        self._doubt(self._original)
        for layer in list(self._written):
            self._forget(layer)

    @torch.no_grad()
    def _forget(self, layer: int) -> None:
        self._doubt([layer])
        if layer in self._original:
            self.lm.projection(layer).matrix().copy_(self._original[layer])
        for store in self._stores:  # the digests last
            store.pop(layer, None)

    @contextmanager
    def filtered(self, layers: Sequence[int], filter: Filter) -> Iterator[None]:
        """What the `with` adds to these layers passes the filter at its end: RECT on the change it made, PRUNE on the whole sum,
        whose cap is lifted inside."""
        if filter.kind == "prune":
            for layer in layers:
                if self._cap.pop(layer, None) is not None:
                    self._write(layer, self._total[layer])
        before = {layer: self._total.get(layer) for layer in layers}
        yield
        for layer in layers:
            if filter.kind != "none" and layer in self._total:
                self._filter(layer, before[layer], filter)

    @torch.no_grad()
    def _filter(self, layer: int, before: Tensor | None, filter: Filter) -> None:
        original, total = self._original[layer].double(), self._total[layer]
        if filter.kind == "prune":
            self._cap[layer] = prune(original, total, filter.base) - total
            self._write(layer, total)
        else:
            start = torch.zeros_like(total) if before is None else before
            self._write(layer, start + rect(original + start, total - start, filter.keep))

    def _touch(self, layer: int) -> None:
        if layer not in self._original:
            matrix = self.lm.projection(layer).matrix()
            self._original[layer] = matrix.clone()
            self._total[layer] = torch.zeros_like(matrix, dtype=torch.float64, memory_format=torch.contiguous_format)

    def _write(self, layer: int, total: Tensor) -> None:
        """Make the layer's weight the original plus `total` and its cap."""
        matrix = self.lm.projection(layer).matrix()
        whole = total + self._cap[layer] if layer in self._cap else total
        value = (self._original[layer].double() + whole).to(matrix.dtype)
        if not torch.isfinite(value).all():
            raise EditError(
                f"the update of layer {layer} is not finite; check the model's weights and the recipe's numbers (objective.learning_rate, preserve.lambda)"
            )
        matrix.copy_(value)
        self._total[layer] = total
        self._written[layer] = tensor_digest(matrix)

    def snapshot(self, layers: Iterable[int]) -> Snapshot:
        """Exact copies of these layers' weights and sums."""
        return {
            layer: _State(self.lm.projection(layer).matrix().clone(), *(store.get(layer) for store in self._stores))
            for layer in layers
        }

    @torch.no_grad()
    def restore(self, snapshot: Snapshot) -> None:
        """Put back the exact bits."""
        self._doubt(snapshot)
        for layer, (matrix, *kept) in snapshot.items():
            self.lm.projection(layer).matrix().copy_(matrix)
            for store, value in zip(self._stores, kept, strict=True):
                if value is None:
                    store.pop(layer, None)
                else:
                    store[layer] = value

    def _doubt(self, layers: Iterable[int]) -> None:
        """Mark layers whose weights are about to change; whoever finishes the change puts their digests back, last of all."""
        for layer in layers:
            self._written[layer] = _HALF_WAY

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
        edited = self.snapshot(self._original)
        try:
            for layer, original in self._original.items():
                self.lm.projection(layer).matrix().copy_(original)
            yield
        finally:
            self.restore(edited)

    def change_norms(self) -> dict[int, float]:
        """|W - W0| / |W0| of each changed layer (Frobenius)."""
        return {
            layer: float(
                (self.lm.projection(layer).matrix().double() - original.double()).norm() / original.double().norm()
            )
            for layer, original in sorted(self._original.items())
        }

    @property
    def edited(self) -> bool:
        """Whether any weight carries an update."""
        return bool(self._total)

    def check_untouched(self, *, half_way: bool = False) -> None:
        """Raises EditError when somebody else changed a weight after our last write: undo and memory would be wrong.

        A change of ours that was interrupted half-way is refused too, unless `half_way`.
        """
        if _HALF_WAY in self._written.values() and not half_way:
            raise EditError(
                "taking back an edit was interrupted half-way, so the weights are between two states; Editor.reset() gives the unedited ones"
            )
        for layer, digest in self._written.items():
            if digest != _HALF_WAY and tensor_digest(self.lm.projection(layer).matrix()) != digest:
                raise EditError(
                    f"{self.lm.projection(layer).name}.weight was changed outside this editor since its last edit; make a new Editor for the model as it is now"
                )
