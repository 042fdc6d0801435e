"""The weights an editor writes: each is the original plus the sum of its updates, added once.

The sum is kept in float64 in the order the updates were made, so a bfloat16 weight is rounded once however many edits it carries, and
a patch applied to a fresh copy repeats the same additions. Snapshots give back the exact bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from bluedit.errors import EditError
from bluedit.lm.fingerprint import tensor_digest
from bluedit.lm.memory import EditableModel
from bluedit.shapes import Float, Tensor

Snapshot = dict[int, tuple[Tensor, Tensor | None]]


class EditedWeights:
    """Projections of one model with their originals. This mutates the model's weights in place."""

    def __init__(self, lm: EditableModel) -> None:
        self.lm = lm
        self._original: dict[int, Tensor] = {}
        self._total: dict[int, Tensor] = {}
        self._written: dict[int, bytes] = {}

    @torch.no_grad()
    def add(self, layer: int, R: Float[Tensor, "d_value n"], A: Float[Tensor, "n d_key"]) -> None:
        """Add R A to the layer's W.

        Raises:
            EditError: the result is not finite.
        """
        matrix = self.lm.projection(layer).matrix()
        if layer not in self._original:
            self._original[layer] = matrix.clone()
        total = self._total.get(layer)
        update = R.double() @ A.double()
        new_total = update if total is None else total + update
        value = (self._original[layer].double() + new_total).to(matrix.dtype)
        if not torch.isfinite(value).all():
            raise EditError(
                f"the update of layer {layer} is not finite; check the model's weights and the recipe's numbers (objective.learning_rate, preserve.lambda)"
            )
        matrix.copy_(value)
        self._total[layer] = new_total
        self._written[layer] = tensor_digest(matrix)

    def snapshot(self, layers: Sequence[int]) -> Snapshot:
        """Exact copies of these layers' weights and sums."""
        return {layer: (self.lm.projection(layer).matrix().clone(), self._total.get(layer)) for layer in layers}

    @torch.no_grad()
    def restore(self, snapshot: Snapshot) -> None:
        """Put back the exact bits."""
        for layer, (matrix, total) in snapshot.items():
            self.lm.projection(layer).matrix().copy_(matrix)
            if total is None:
                self._total.pop(layer, None)
                self._original.pop(layer, None)
                self._written.pop(layer, None)
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
            for layer, (matrix, _) in edited.items():
                self.lm.projection(layer).matrix().copy_(matrix)

    def check_untouched(self) -> None:
        """Raises EditError when somebody else changed a weight after our last write: undo and memory would be wrong."""
        for layer, digest in self._written.items():
            if tensor_digest(self.lm.projection(layer).matrix()) != digest:
                raise EditError(
                    f"{self.lm.projection(layer).name}.weight was changed outside this editor since its last edit; make a new Editor for the model as it is now"
                )
