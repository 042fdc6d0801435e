"""A patch on disk, format 2.

The folder holds `manifest.json` and two files for each batch: its facts and origin as JSON, its factors as safetensors, both named after a
hash of their content. The manifest lists the batches and carries a digest of itself. Files of a batch are written before the manifest
that names them, which is replaced in one rename: at any moment the folder holds one whole patch, the old or the new one. Adding a batch
writes that batch and the manifest, nothing else.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

from bluedit.decoding import parse_json
from bluedit.editing._batch_record import batch_record, batch_tensors, read_batch, read_first_format
from bluedit.errors import MALFORMED, BluEditError, PatchError
from bluedit.files import (
    DIGEST,
    as_json,
    json_digest,
    locked,
    physical_memory,
    read_regular,
    write_file,
)
from bluedit.interrupts import uninterrupted
from bluedit.places import check_writable
from bluedit.writing.batch import Batch

FORMAT = 2
MANIFEST = "manifest.json"
_PATIENCE_S = 60.0  # how long to wait for another process that saves
_NAME = re.compile(r"\d{4,8}-[0-9a-f]{16}")
_FIRST_NAME = re.compile(r"factors-([0-9a-f]{16})\.safetensors")  # in format 1
BATCH_FILE = re.compile(r"(\d{4,8}-[0-9a-f]{16}\.(json|safetensors)|factors-[0-9a-f]{16}\.safetensors)")


def save_batches(folder: Path, base: Mapping[str, Any], batches: Sequence[Batch], *, force: bool) -> None:
    """Write a patch; see `Patch.save`."""
    check_place(folder, force=force)
    created = not folder.exists()
    with _alone(folder):
        check_place(folder, force=force)
        _write(folder, base, batches, [], "nothing was written" if created else "the patch that was there is unchanged")


def append_batches(folder: Path, base: Mapping[str, Any], batches: Sequence[Batch]) -> None:
    """Write those of `batches` that the patch in `folder` does not hold yet, and keep the first ones as they are.

    Raises:
        PatchError: the folder holds another patch or something else, the disk is full or not writable; the patch there is unchanged.
    """
    if not (folder / MANIFEST).is_file():
        save_batches(folder, base, batches, force=False)
        return
    with _alone(folder):
        _append(folder, base, batches)


def _append(folder: Path, base: Mapping[str, Any], batches: Sequence[Batch]) -> None:
    manifest = _read_manifest(folder)
    names = list(manifest.get("batches", ()))
    continued = manifest["format"] == FORMAT and manifest["base"] == dict(base) and len(names) <= len(batches)
    if continued and names:
        with readable(folder):
            continued = load_batch(folder, names[-1]).digest == batches[len(names) - 1].digest
    if not continued:
        raise PatchError(f"{folder} holds another patch; choose another folder")
    _write(folder, base, batches, names, "the patch that was there is unchanged")


def _write(
    folder: Path, base: Mapping[str, Any], batches: Sequence[Batch], names: Sequence[str], otherwise: str
) -> None:
    """Write the batches that have no name yet and the manifest, then delete what no manifest names any more.

    Raises:
        PatchError: the disk is full or not writable; `otherwise` says how things stand then.
    """
    written: list[Path] = []
    try:
        names = [*names, *(write_batch(folder, i, batches[i], written) for i in range(len(names), len(batches)))]
        with uninterrupted():
            _write_manifest(folder, base, names)
            written.clear()
            keep = {f"{name}{suffix}" for name in names for suffix in (".json", ".safetensors")}
            with suppress(OSError):
                remove(file for file in folder.iterdir() if BATCH_FILE.fullmatch(file.name) and file.name not in keep)
    except OSError as error:
        raise _cannot_save(folder, error, otherwise) from error
    finally:
        remove(written)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keeps other processes from saving a patch here meanwhile. A folder that was made for it and stays empty is removed again."""
    created = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder, _PATIENCE_S):
            yield
    except TimeoutError:
        raise PatchError(
            f"another process has been saving a patch to {folder} for {_PATIENCE_S:.0f} s; let it finish, or choose another folder"
        ) from None
    except OSError as error:
        raise _cannot_save(folder, error, "nothing was written") from error
    finally:
        if created:
            with suppress(OSError):
                folder.rmdir()  # only if it is empty


def load_batches(folder: Path) -> tuple[dict[str, Any], tuple[Batch, ...]]:
    """(base, batches) of a patch; see `Patch.load`. A patch that is saved anew while it is read is read again."""
    while True:
        manifest = _read_manifest(folder)
        try:
            return _read_all(folder, manifest)
        except PatchError:
            if _read_manifest(folder) == manifest:
                raise


def _read_all(folder: Path, manifest: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[Batch, ...]]:
    with readable(folder):
        if manifest["format"] == FORMAT:
            names = list(manifest["batches"])
            if len({str(name) for name in names}) < len(names):
                raise ValueError(f"{MANIFEST} names a batch more than once")
            return dict(manifest["base"]), tuple(load_batch(folder, name) for name in names)
        name = _FIRST_NAME.fullmatch(manifest["factors"])
        if not name:
            raise ValueError(f"{manifest['factors']!r} is not the name of a file of factors")
        data = read_regular(folder / name[0], physical_memory())
        if hash_of(data) != name[1]:
            raise ValueError(f"{name[0]} was changed after it was written")
        return read_first_format(manifest, load(data))


@contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Turns every error while a patch is read into a PatchError."""
    try:
        yield
    except PatchError as error:
        raise PatchError(f"the patch {folder} cannot be read here: {error}") from error
    except (OSError, SafetensorError, BluEditError, *MALFORMED) as error:
        raise PatchError(
            f"the patch {folder} is damaged ({type(error).__name__}: {error}); make it again or restore it from a copy"
        ) from error


def check_place(folder: Path, *, force: bool = False) -> None:
    """Raises PatchError when a patch cannot be saved there; also called before a long computation starts."""
    try:
        check_writable(folder)
        if folder.exists() and not folder.is_dir():
            raise PatchError(f"{folder} is a file; a patch is a folder, choose another name")
        names = [file.name for file in folder.iterdir()] if folder.is_dir() else []
    except OSError as error:
        raise PatchError(
            f"no patch can be saved to {folder}: {error.strerror or error}; choose another place"
        ) from error
    if MANIFEST in names and _is_patch(folder, names):
        if not force:
            raise PatchError(
                f"{folder} holds a patch already; choose another folder, or replace it with force=True (--force)"
            )
    elif not all(name.startswith(".") or BATCH_FILE.fullmatch(name) for name in names):
        raise PatchError(
            f"the folder {folder} contains files that are not part of a patch; choose a new or empty folder"
        )


def _is_patch(folder: Path, names: Sequence[str]) -> bool:
    """Whether a manifest is a patch's, whole or damaged, and not that of another program."""
    if any(BATCH_FILE.fullmatch(name) for name in names):
        return True
    try:
        manifest = parse_json(read_regular(folder / MANIFEST))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(manifest, dict) and {"format", "batches"} <= manifest.keys()


def read_origin(folder: Path, name: str) -> Batch:
    """A batch without its factors: its facts, its origin and what a guard decided. Raises PatchError if it is missing or damaged."""
    with readable(folder):
        record = parse_json(_files_of(folder, name)[0])
        return read_batch({**record, "updates": [], "filters": []}, {})


def write_batch(folder: Path, index: int, batch: Batch, written: list[Path]) -> str:
    """Write the two files of a batch, unless they exist and are undamaged. Returns their name."""
    record = as_json(batch_record(batch))
    factors = save(batch_tensors(batch))
    name = f"{index:04d}-{hash_of(record, factors)}"
    for suffix, data in ((".safetensors", factors), (".json", record)):
        file = folder / f"{name}{suffix}"
        if not file.exists():
            written.append(file)
        elif file.read_bytes() == data:
            continue
        write_file(file, data)
    return name


def load_batch(folder: Path, name: str) -> Batch:
    """Read the two files of a batch. Raises ValueError, OSError and others if they are missing or damaged; see `readable`."""
    if not isinstance(name, str):
        raise ValueError(f"{name!r} is not the name of a batch")
    record, factors = _files_of(folder, name)
    return read_batch(parse_json(record), load(factors))


def _files_of(folder: Path, name: str) -> tuple[bytes, bytes]:
    """The record and the factors of a batch. Raises ValueError if they are not what was written."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of a batch")
    record = read_regular(folder / f"{name}.json")
    factors = read_regular(folder / f"{name}.safetensors", physical_memory())
    if hash_of(record, factors) != name.partition("-")[2]:
        raise ValueError(f"batch {name} was changed after it was written")
    return record, factors


def _write_manifest(folder: Path, base: Mapping[str, Any], names: Sequence[str]) -> None:
    manifest: dict[str, Any] = {"format": FORMAT, "base": dict(base), "batches": list(names)}
    manifest[DIGEST] = json_digest(manifest)
    write_file(folder / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False).encode())


def _read_manifest(folder: Path) -> dict[str, Any]:
    file = folder / MANIFEST
    if not file.is_file():
        what = "there is no such folder" if not folder.exists() else f"it holds no {MANIFEST}"
        raise PatchError(
            f"{folder} is not a patch: {what}; make one with: bluedit edit ... --out {shlex.quote(str(folder))}"
        )
    try:
        manifest = dict(parse_json(read_regular(file)))
        version, digest = manifest["format"], json_digest(manifest)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise PatchError(f"the patch {folder} is damaged: {MANIFEST} is unreadable ({error})") from error
    if version not in (1, FORMAT):
        raise PatchError(
            f"the patch {folder} has format {version}, this bluedit reads formats 1 and {FORMAT}; use the bluedit version that wrote it"
        )
    if version == FORMAT and manifest.get(DIGEST) != digest:
        raise PatchError(
            f"the patch {folder} is damaged: {MANIFEST} was changed after it was written; restore it from a copy"
        )
    return manifest


def hash_of(*data: bytes) -> str:
    """Hash of bytes, 16 hexadecimal digits."""
    return hashlib.blake2b(b"".join(data), digest_size=8).hexdigest()


def remove(files: Iterable[Path]) -> None:
    """Delete files; those that are gone or cannot be deleted are left."""
    for file in list(files):
        with suppress(OSError):
            file.unlink(missing_ok=True)


def _cannot_save(folder: Path, error: OSError, state: str) -> PatchError:
    return PatchError(
        f"cannot save the patch to {folder}: {error.strerror or error}; {state}. Free disk space or choose another place"
    )
