"""The model of a workspace in memory: an editor that carries the entries that stand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bluedit.editing._history import Standing
from bluedit.editing.patch import Patch
from bluedit.errors import WorkspaceError
from bluedit.model.fingerprint import tensor_digest, text_fingerprint
from bluedit.writing.batch import Batch

if TYPE_CHECKING:
    from bluedit.editing.editor import Editor


class Carrier:
    """Brings an editor to what a workspace says. Each standing entry is one entry of the editor's journal.

    Args:
        editor: without edits.
        batches_of: reads an entry's batches.
    """

    def __init__(self, editor: Editor, batches_of: Callable[[Standing], tuple[Batch, ...]]) -> None:
        self.editor = editor
        self._batches_of = batches_of
        self._carried: list[Standing] = []

    def check(self) -> None:
        """Raises WorkspaceError if the editor was used by others."""
        if len(self.editor.journal) != len(self._carried):
            raise WorkspaceError(
                "the editor of this workspace was used directly, so the model differs from the workspace; undo what was done with the "
                "editor, or open the workspace again"
            )

    def recover(self, wanted: Sequence[Standing]) -> None:
        """Make the model carry exactly these entries after something went wrong."""
        if len(self.editor.journal) != len(self._carried):
            self.reset()
        self.carry(wanted)

    def carry(self, wanted: Sequence[Standing]) -> Editor:
        """Make the model carry exactly these entries, bit for bit.

        Raises:
            WorkspaceError: the editor was used by others.
            PatchError: a file of a batch is missing or damaged.
        """
        self.check()
        pairs = zip(self._carried, wanted, strict=False)
        common = next((i for i, (one, other) in enumerate(pairs) if one != other), min(len(self._carried), len(wanted)))
        surplus = len(self._carried) - common
        if surplus == 1:
            self.editor.undo()
            self._carried.pop()
        elif surplus:
            self.reset()
        for one in wanted[len(self._carried) :]:
            self.apply(one)
        return self.editor

    def reset(self) -> None:
        """Back to the unedited model."""
        self.editor.reset()
        self._carried.clear()

    def apply(self, one: Standing) -> None:
        """Write an entry on top of what is carried."""
        base = replace(self.editor.journal.base, fingerprint=self.editor.journal.state)
        self.editor.apply(Patch(base, self._batches_of(one)))
        self._carried.append(one)

    def keep(self, entry: int, batches: tuple[str, ...], facts: int, batch_size: int | None) -> Standing:
        """The record of what the editor did last, which is carried from now on."""
        one = Standing(entry, batches, facts, batch_size, self.editor.journal.state, self.weights())
        self._carried.append(one)
        return one

    def weights(self) -> str:
        """Fingerprint of the edited weights as they are."""
        layers = sorted({layer for batch in self.editor.journal.batches for layer in batch.layers})
        return text_fingerprint(
            [[layer, tensor_digest(self.editor.lm.projection(layer).matrix()).hex()] for layer in layers]
        )
