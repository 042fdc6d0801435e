"""A patch: what an edit changes, as factors, with everything needed to know where it belongs.

On disk it is a folder of `manifest.json` and one safetensors file whose name the manifest holds. Saving writes the tensors under a
new name first and then replaces the manifest in one rename: at any moment the folder holds one whole patch, the old or the new one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

from bluedit.errors import BluEditError, PatchError
from bluedit.facts.fact import Fact
from bluedit.facts.records import fact_record, read_record
from bluedit.files import write_file
from bluedit.methods.recipe import Filter
from bluedit.shapes import Tensor
from bluedit.writing.batch import Batch, Update

FORMAT = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True, eq=False)
class Patch:
    """Batches in order, and where they come from.

    Attributes:
        batches: what is added to the weights.
        info: model name, fingerprints of the unedited model, recipe, settings, prefixes, statistics, versions, seeds, report.
    """

    batches: tuple[Batch, ...]
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def facts(self) -> tuple[Fact, ...]:
        return tuple(fact for batch in self.batches for fact in batch.facts)

    @property
    def layers(self) -> tuple[int, ...]:
        return tuple(sorted({update.layer for batch in self.batches for update in batch.updates}))

    def save(self, folder: str | Path) -> Path:
        """Write the patch; an older patch there survives until the new one is complete.

        Raises:
            PatchError: the place is no folder for a patch, the disk is full or not writable.
        """
        folder = Path(folder)
        check_place(folder)
        data = save(self._tensors())
        name = _factors_name(data)
        manifest = {"format": FORMAT, "factors": name, **self.info, "batches": [_batch_entry(b) for b in self.batches]}
        created, known = not folder.exists(), (folder / name).exists()
        try:
            write_file(folder / name, data)
            write_file(folder / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False).encode())
        except OSError as error:
            if not known:
                with suppress(OSError):
                    (folder / name).unlink(missing_ok=True)
            if created and folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
            state = "nothing was written" if created else "the patch that was there is unchanged"
            raise PatchError(
                f"cannot save the patch to {folder}: {error.strerror or error}; {state}. Free disk space or choose another place"
            ) from error
        for stale in folder.glob("factors-*.safetensors"):
            if stale.name != name:
                stale.unlink(missing_ok=True)
        return folder

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {}
        for i, batch in enumerate(self.batches):
            for j, update in enumerate(batch.updates):
                for part in ("R", "A", "keys", "reach"):
                    tensors[f"{i}.{j}.{part}"] = getattr(update, part).detach().cpu().contiguous().clone()
        return tensors

    @classmethod
    def load(cls, folder: str | Path) -> Patch:
        """Read a patch.

        Raises:
            PatchError: missing, damaged, or written by a newer bluedit.
        """
        folder = Path(folder)
        manifest = _read_manifest(folder)
        try:
            data = (folder / manifest["factors"]).read_bytes()
            if manifest["factors"] != _factors_name(data):
                raise ValueError(f"{manifest['factors']} is not what was written")
            tensors = load(data)
            batches = tuple(_read_batch(i, entry, tensors) for i, entry in enumerate(manifest["batches"]))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, BluEditError) as error:
            raise PatchError(
                f"the patch {folder} is damaged ({type(error).__name__}: {error}); make it again or restore it from a copy"
            ) from error
        info = {k: v for k, v in manifest.items() if k not in ("format", "factors", "batches")}
        return cls(batches, info)


def _factors_name(data: bytes) -> str:
    """The tensors' file is named after its content, so that damage shows."""
    return f"factors-{hashlib.blake2b(data, digest_size=8).hexdigest()}.safetensors"


def check_place(folder: Path) -> None:
    """Raises PatchError when a patch cannot go there; called before long work starts, too."""
    if folder.exists() and not folder.is_dir():
        raise PatchError(f"{folder} is a file; a patch is a folder, choose another name")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).is_file() and not _only_leftovers(folder):
        raise PatchError(
            f"the folder {folder} holds other things than a patch; choose a new or empty folder, or an older patch to replace"
        )
    parent = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not os.access(parent, os.W_OK):
        raise PatchError(f"no permission to write in {parent}; choose another place for the patch")


def _only_leftovers(folder: Path) -> bool:
    """Whether a killed save left nothing but its own unfinished files."""
    return all(f.name.startswith((".", "factors-")) for f in folder.iterdir())


def _read_manifest(folder: Path) -> dict[str, Any]:
    file = folder / MANIFEST
    if not file.is_file():
        what = "there is no such folder" if not folder.exists() else f"it holds no {MANIFEST}"
        raise PatchError(f"{folder} is not a patch: {what}; 'bluedit edit ... --out {folder}' makes one")
    try:
        manifest = json.loads(file.read_text("utf-8"))
        version = manifest["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PatchError(f"the patch {folder} is damaged: {MANIFEST} is unreadable ({error})") from error
    if version != FORMAT:
        raise PatchError(
            f"the patch {folder} has format {version}, this bluedit reads format {FORMAT}; use the bluedit version that wrote it"
        )
    return manifest


def _batch_entry(batch: Batch) -> dict[str, Any]:
    updates = [
        {"layer": u.layer, "norm": u.norm, "mean_reach": u.mean_reach if len(u.reach) else None} for u in batch.updates
    ]
    return {"facts": [fact_record(fact) for fact in batch.facts], "updates": updates, "filter": asdict(batch.filter)}


def _read_batch(index: int, entry: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Batch:
    facts = tuple(read_record(dict(fact)) for fact in entry["facts"])
    updates = tuple(_read_update(f"{index}.{j}", row["layer"], tensors) for j, row in enumerate(entry["updates"]))
    return Batch(facts, updates, Filter(**entry.get("filter", {})))


def _read_update(name: str, layer: int, tensors: Mapping[str, Tensor]) -> Update:
    R, A, keys, reach = (tensors[f"{name}.{part}"] for part in ("R", "A", "keys", "reach"))
    if R.dim() != 2 or A.dim() != 2 or R.shape[1] != A.shape[0]:
        raise ValueError(f"factors {name} have shapes {tuple(R.shape)} and {tuple(A.shape)}")
    return Update(int(layer), R, A, keys, reach)
