"""A patch: the batches that edits wrote, as factors, with everything needed to know where they belong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bluedit.decoding import decode
from bluedit.editing._folder import append_batches, check_place, load_batches, save_batches
from bluedit.errors import PatchError
from bluedit.facts.fact import Fact
from bluedit.model.fingerprint import chain, text_fingerprint
from bluedit.writing.batch import Batch, Origin

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Base:
    """The model that a patch was made for.

    Attributes:
        model, dtype: what the user called it, and the type of its weights.
        fingerprint: of its weights; for a patch that stands on earlier edits, of those weights and these edits (see `Patch.state`).
        leading_special_token: whether its tokenizer puts one before every text.
    """

    model: str = UNKNOWN
    fingerprint: str = ""
    dtype: str = UNKNOWN
    leading_special_token: bool = False

    @classmethod
    def read(cls, record: Any) -> Base:
        """From JSON. Raises ValueError if something in it cannot be used."""
        return decode(cls, record, "base")


@dataclass(frozen=True, eq=False)
class Patch:
    """Batches in order, and the model they were made for.

    Attributes:
        base: the model before them.
        batches: what is added to its weights.
    """

    base: Base = field(default_factory=Base)
    batches: tuple[Batch, ...] = ()

    @property
    def facts(self) -> tuple[Fact, ...]:
        """All facts, in the order they were written."""
        return tuple(fact for batch in self.batches for fact in batch.facts)

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers that it changes, ascending."""
        return tuple(sorted({layer for batch in self.batches for layer in batch.layers}))

    @property
    def origins(self) -> tuple[Origin, ...]:
        """Where the batches come from: one origin for each edit, with its report."""
        found = {}
        for batch in self.batches:
            found[text_fingerprint(batch.origin.settings, batch.origin.about)] = batch.origin
        return tuple(found.values())

    @property
    def stripped(self) -> int:
        """How many facts were taken out of it; see `bluedit.export.patch_copy`."""
        return sum(batch.stripped for batch in self.batches)

    @property
    def state(self) -> str:
        """Fingerprint of the model with the patch: each batch's digest chained to what it was written on."""
        return chained(self.base.fingerprint, self.batches)

    def save(self, folder: str | Path, *, force: bool = False) -> Path:
        """Write the patch into a new or empty folder, or in place of an older patch with `force`.

        An older patch survives until the new one is complete.

        Raises:
            PatchError: a patch is there and `force` is not given, the place is no folder for a patch, the disk is full or not writable.
        """
        save_batches(Path(folder), asdict(self.base), self.batches, force=force)
        return Path(folder)

    def append_to(self, folder: str | Path) -> Path:
        """Write the batches that the patch in `folder` lacks; the first ones it holds stay as they are. A new folder gets the whole patch.

        Raises:
            PatchError: the folder holds another patch or something else, the disk is full or not writable.
        """
        append_batches(Path(folder), asdict(self.base), self.batches)
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path) -> Patch:
        """Read a patch, or the standing entries of a workspace as one patch. No model is loaded.

        Raises:
            PatchError: missing, damaged, or written by a newer bluedit.
            WorkspaceError: the folder is a workspace whose journal is damaged.
        """
        base, batches = _read(Path(folder))
        try:
            return cls(Base.read(base), batches)
        except ValueError as error:
            raise PatchError(f"the patch {folder} is damaged ({error}); restore it from a copy") from error


__all__ = ["Base", "Patch", "chained", "check_place"]


def _read(folder: Path) -> tuple[dict[str, Any], tuple[Batch, ...]]:
    """(base, batches) of a patch or a workspace."""
    from bluedit.editing._store import Store, is_workspace  # here, to keep the chain of imports short

    if not is_workspace(folder):
        return load_batches(folder)
    store = Store(folder)
    return dict(store.about["base"]), store.standing_batches()


def chained(state: str, batches: Sequence[Batch]) -> str:
    """Fingerprint of a model in some state after these batches."""
    for batch in batches:
        state = chain(state, batch.digest)
    return state
