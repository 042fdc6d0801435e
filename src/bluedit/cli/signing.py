"""The commands `sign` and `verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bluedit.cli.output import say

Signed = Annotated[Path, typer.Argument(help="A patch, a workspace, a checkpoint or another folder, or a file.")]
Signature = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The signature. Default: beside it, with the ending .sig.")
]


def sign(
    path: Signed,
    key: Annotated[Path, typer.Option(metavar="FILE", help="Private key in PEM, on the curve P-256, P-384 or P-521.")],
    signature: Signature = None,
) -> None:
    """Sign all files of a patch, a workspace or an export.

    The key is your own. The signature has the format of OpenSSF model signing. Nothing goes over the network.
    """
    from bluedit.export.signing import sign as sign_files

    say(f"Signature written to {sign_files(path, key, signature)}")


def verify(
    path: Signed,
    key: Annotated[Path, typer.Option(metavar="FILE", help="Public key in PEM of whoever signed it.")],
    signature: Signature = None,
) -> None:
    """Check that nothing changed in a patch, workspace or export."""
    from bluedit.export.signing import verify as verify_files

    verify_files(path, key, signature)
    say(f"{path} is what was signed")
