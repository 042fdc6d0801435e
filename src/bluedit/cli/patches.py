"""The commands that use patches: `show` and `apply`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from bluedit.cli.common import RESULT, Device, Dtype, OtherWeights, PatchedModel, TrustRemoteCode, count, load_patched
from bluedit.cli.output import print_tables, say
from bluedit.cli.workspace import workspace_of
from bluedit.errors import PatchError


def show(
    context: typer.Context,
    patch: Annotated[
        str | None,
        typer.Argument(help="Folder of a patch or of a workspace. With -C DIR: number of an entry of that workspace."),
    ] = None,
    details: Annotated[
        bool, typer.Option("--details", help="Show all that is known about each edit, weight and fact.")
    ] = False,
) -> None:
    """Show what a patch changes, and which model it is for.

    Of a workspace it shows all standing entries. bluedit -C DIR show N shows one entry.
    """
    from bluedit.cli.patch_tables import patch_tables
    from bluedit.editing.patch import Patch

    workspace = workspace_of(context)
    if workspace is None and patch is None:
        raise PatchError("say which patch: bluedit show FOLDER; or which workspace: bluedit -C DIR show")
    shown = workspace.entry_patch(patch) if workspace else Patch.load(patch or "")
    print_tables(*patch_tables(shown, details=details))
    if not details:
        where = ["-C", str(workspace.folder)] if workspace else []
        say(f"\nMore: {shlex.join(['bluedit', *where, 'show', *([patch] if patch else []), '--details'])}")


def apply(
    patch: Annotated[Path, typer.Argument(help="Folder of a patch or of a workspace.")],
    save: Annotated[
        Path, typer.Option(metavar="FOLDER", help="New folder for the edited model.", rich_help_panel=RESULT)
    ],
    model: PatchedModel = None,
    dtype: Dtype = None,
    device: Device = "auto",
    trust_remote_code: TrustRemoteCode = False,
    force: OtherWeights = False,
) -> None:
    """Save a copy of the model with a patch written into it.

    The copy is an ordinary Hugging Face checkpoint.
    """
    from bluedit.editing.patch import Patch
    from bluedit.export.card import fact_count
    from bluedit.export.checkpoint import check_free

    check_free(save)
    loaded = Patch.load(patch)
    editor = load_patched(loaded, model, dtype, device, trust_remote_code)
    editor.apply(loaded, force=force)
    editor.save_model(save)
    say(f"{count(fact_count(loaded), 'fact')} written. The edited model is in {save}")
