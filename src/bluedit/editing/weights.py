"""The weights an editor writes: each is the original plus the sum of its updates, added once.

PRUNE shows a capped form of that sum and keeps the sum itself, so that later batches build on what was really learned.

The sum is kept in float64 in the order the updates were made, so a bfloat16 weight is rounded once however many edits it carries, and
a patch applied to a fresh copy repeats the same additions. Snapshots give back the exact bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch

from bluedit.errors import EditError
from bluedit.lm.fingerprint import tensor_digest
from bluedit.lm.memory import EditableModel
from bluedit.method.filters import prune, rect
from bluedit.method.recipe import Filter
from bluedit.shapes import Float, Tensor


class _State(NamedTuple):
    matrix: Tensor
    total: Tensor | None
    cap: Tensor | None


Snapshot = dict[int, _State]


class EditedWeights:
    """Projections of one model with their originals. This mutates the model's weights in place."""

    def __init__(self, lm: EditableModel) -> None:
        self.lm = lm
        self._original: dict[int, Tensor] = {}
        self._total: dict[int, Tensor] = {}
        self._cap: dict[int, Tensor] = {}
        self._written: dict[int, bytes] = {}

    @torch.no_grad()
    def add(self, layer: int, R: Float[Tensor, "d_value n"], A: Float[Tensor, "n d_key"]) -> None:
        """Add R A to the layer's W.

        Raises:
            EditError: the result is not finite.
        """
        self._touch(layer)
        self._write(layer, self._total[layer] + R.double() @ A.double())

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

    def snapshot(self, layers: Sequence[int]) -> Snapshot:
        """Exact copies of these layers' weights and sums."""
        return {
            layer: _State(self.lm.projection(layer).matrix().clone(), self._total.get(layer), self._cap.get(layer))
            for layer in layers
        }

    @torch.no_grad()
    def restore(self, snapshot: Snapshot) -> None:
        """Put back the exact bits."""
        for layer, (matrix, total, cap) in snapshot.items():
            self.lm.projection(layer).matrix().copy_(matrix)
            self._cap.pop(layer, None)
            if cap is not None:
                self._cap[layer] = cap
            if total is None:
                for store in (self._total, self._original, self._written):
                    store.pop(layer, None)
            else:
                self._total[layer] = total
                self._written[layer] = tensor_digest(matrix)

    @contextmanager
    def transaction(self, layers: Sequence[int]) -> Iterator[Snapshot]:
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
        edited = self.snapshot(list(self._original))
        try:
            for layer, original in self._original.items():
                self.lm.projection(layer).matrix().copy_(original)
            yield
        finally:
            for layer, state in edited.items():
                self.lm.projection(layer).matrix().copy_(state.matrix)

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

    def check_untouched(self) -> None:
        """Raises EditError when somebody else changed a weight after our last write: undo and memory would be wrong."""
        for layer, digest in self._written.items():
            if tensor_digest(self.lm.projection(layer).matrix()) != digest:
                raise EditError(
                    f"{self.lm.projection(layer).name}.weight was changed outside this editor since its last edit; make a new Editor for the model as it is now"
                )
