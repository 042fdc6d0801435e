"""Signatures of patches, journals and exports with a key of your own, in the format of OpenSSF model signing. Nothing goes over the network."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

from bluedit.errors import ExportError
from bluedit.files import replacing
from bluedit.places import check_writable


def signature_of(path: Path) -> Path:
    """Where the signature of a folder or file is unless said otherwise: beside it."""
    path = path if path.name and path.name != ".." else path.resolve()
    return path.with_name(f"{path.name}.sig")


def sign(
    path: str | Path, key: str | Path, signature: str | Path | None = None, *, password: str | None = None
) -> Path:
    """Sign all files of a folder, or one file. Returns the file of the signature.

    Args:
        path: a patch, a workspace, a checkpoint, an adapter, a GGUF file, ...
        key: a private key on one of the curves P-256, P-384 and P-521, in PEM.
        signature: where to put the signature, outside of the folder; None means beside it, with the ending .sig.
        password: of the key, if it has one.

    Raises:
        ExportError: the package model-signing is not installed, a file cannot be read, or the key is of another kind.
    """
    place, file = _places(path, signature)
    if place.is_dir() and file.resolve().is_relative_to(place.resolve()):
        raise ExportError(
            f"{file} is inside of {place}, whose files it is to sign; choose another place for the signature"
        )
    _check_key(Path(key))
    signing = _package("signing")
    try:
        check_writable(file)
    except OSError as error:
        raise ExportError(
            f"no signature can be written to {file}: {error.strerror or error}; choose another place with signature= (--signature FILE)"
        ) from error
    try:
        config = signing.Config().use_elliptic_key_signer(private_key=key, password=password)
        with replacing(file) as temporary:
            config.sign(place, temporary)
    except Exception as error:  # cryptography, OpenSSF's package and the file system raise many kinds
        raise ExportError(f"cannot sign {place} with {key}: {_said(error)}") from error
    return file


def verify(path: str | Path, key: str | Path, signature: str | Path | None = None) -> None:
    """Check that a folder or file is, file by file and byte for byte, what was signed.

    Args:
        path: what was signed.
        key: the public key, in PEM.
        signature: its signature; None looks beside it.

    Raises:
        ExportError: it is not: a file was changed, added or removed, or the signature was made with another key. Also when something
            cannot be read, or the package model-signing is not installed.
    """
    place, file = _places(path, signature)
    if not file.is_file():
        raise ExportError(f"there is no signature {file}; name it with signature= (--signature FILE)")
    _check_key(Path(key))
    verifying = _package("verifying")
    try:
        verifying.Config().use_elliptic_key_verifier(public_key=key).verify(place, file)
    except Exception as error:  # as in `sign`
        raise ExportError(
            f"{place} is not what {file} was made for with this key: {_said(error)}. Get it again from somebody you trust"
        ) from error


def _package(part: str) -> Any:
    """A module of OpenSSF's package."""
    try:
        return importlib.import_module(f"model_signing.{part}")
    except ImportError as error:
        raise ExportError(
            f"signatures need the packages model-signing and pyopenssl ({error}); run: pip install 'bluedit[signing]'"
        ) from error


def _places(path: str | Path, signature: str | Path | None) -> tuple[Path, Path]:
    _package("signing")
    place = Path(path)
    if not place.exists():
        raise ExportError(f"there is no {place}")
    return place, Path(signature) if signature else signature_of(place)


def _check_key(key: Path) -> None:
    if not key.is_file():
        raise ExportError(f"there is no key {key}")


def _said(error: Exception) -> str:
    without_digests = re.sub(r": Expected 'Digest.*?'\)', Actual 'Digest.*?'\)'", "", str(error))
    text = " ".join(without_digests.split()).rstrip(".")[:300]
    return text or f"the signature does not fit ({type(error).__name__})"
