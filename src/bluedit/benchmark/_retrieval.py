"""Facts kept beside the model: keys and residuals of a recipe, looked up while the model runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from bluedit.benchmark._written import WrittenRun
from bluedit.benchmark.record import BatchRecord, EntryLog
from bluedit.editing.patch import Patch
from bluedit.errors import BenchmarkError
from bluedit.model.hooks import Hook, hooked

if TYPE_CHECKING:
    from bluedit.benchmark.approach import Retrieval
    from bluedit.benchmark.running import Work
    from bluedit.facts.fact import Fact
    from bluedit.model.editable import EditableModel
    from bluedit.shapes import Float, Tensor
    from bluedit.writing.batch import Batch


@dataclass(frozen=True, eq=False)
class Stored:
    """The memory of one layer.

    Attributes:
        keys: of unit length, n x d_key.
        residuals: what is added to the projection's output, n x d_value.
    """

    keys: Float[Tensor, "n d_key"]
    residuals: Float[Tensor, "n d_value"]

    def recalled(self, inputs: Float[Tensor, "tokens d_key"], threshold: float) -> Float[Tensor, "tokens d_value"]:
        """For each token the residual of the nearest key by cosine, or 0 if that is below the threshold."""
        unit = torch.nn.functional.normalize(inputs.to(self.keys.dtype), dim=-1)
        best, place = (unit @ self.keys.T).max(dim=-1)
        return torch.where((best >= threshold)[:, None], self.residuals[place], 0.0)


def stored(batches: Sequence[Batch], lm: EditableModel) -> dict[int, Stored]:
    """What batches hold of each layer, the newest first: a batch's writes to one layer are added up, fact by fact.

    Raises:
        BenchmarkError: a batch was not solved for keys and residuals.
    """
    keys: dict[int, list[Tensor]] = {}
    residuals: dict[int, list[Tensor]] = {}
    for batch in reversed(batches):
        for layer in batch.layers:
            own = [update for update in batch.updates if update.layer == layer]
            if any(update.R.shape[1] != update.keys.shape[1] for update in own):
                raise BenchmarkError(
                    f"retrieval needs a residual for each key, and layer {layer} has others; choose a closed-form recipe"
                )
            keys.setdefault(layer, []).append(own[-1].keys.T)
            residuals.setdefault(layer, []).append(sum(update.R for update in own).T)  # pyright: ignore[reportAttributeAccessIssue]
    return {
        layer: Stored(
            torch.nn.functional.normalize(torch.cat(found).to(lm.device), dim=-1),
            torch.cat(residuals[layer]).to(lm.device),
        )
        for layer, found in keys.items()
    }


class RetrievalRun(WrittenRun):
    """Each batch is edited on the unedited weights, its keys and residuals are kept, and the weights are put back."""

    patch = "stored"

    def __init__(self, approach: Retrieval, work: Work) -> None:
        super().__init__(approach, work)
        self._patch = Patch(self.editor.patch.base)
        self._memory: dict[int, Stored] = {}
        self._on = True
        self._hooks = ExitStack()

    def restore(self, log: EntryLog, parts: Sequence[Sequence[Fact]]) -> None:
        del parts
        patch = self.saved(log)
        if patch:
            self._keep(patch)

    def write(self, parts: Sequence[Sequence[Fact]]) -> BatchRecord:
        with self.unedited():
            edit, seconds = self.edited(parts[-1])
            new = edit.patch.batches
            self.editor.reset()
        self._keep(Patch(self._patch.base, (*self._patch.batches, *new)))
        return BatchRecord(len(parts[-1]), len(new), seconds, (), {}, None)

    def save(self, number: int) -> None:
        del number
        self._patch.append_to(self.work.folder / self.patch)

    def _keep(self, patch: Patch) -> None:
        """Look facts up in these batches from now on."""
        self._hooks.close()
        self._patch, self._memory = patch, stored(patch.batches, self.lm)
        self._hooks.enter_context(hooked(self._hook(layer) for layer in self._memory))

    def _hook(self, layer: int) -> Hook:
        def add(_module: Any, args: Any, output: Tensor) -> Tensor | None:
            if not self._on:
                return None
            found = self._memory[layer].recalled(args[0].flatten(0, -2), self.approach.threshold)
            return output + found.to(output.dtype).view_as(output)

        return self.lm.projection(layer).module, "forward", add

    @contextmanager
    def unedited(self) -> Iterator[None]:
        on, self._on = self._on, False
        try:
            yield
        finally:
            self._on = on

    def close(self) -> None:
        self._hooks.close()
        super().close()
