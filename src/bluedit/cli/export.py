"""The commands `export` and `diff`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from bluedit.cli.common import MODEL, RESULT, TrustRemoteCode
from bluedit.cli.output import print_tables, progress, say
from bluedit.errors import ExportError

ADAPTER, FILES = "Adapters and GGUF", "Checkpoints"


def export(
    patch: Annotated[Path, typer.Argument(help="Folder of a patch or of a workspace.")],
    out: Annotated[Path, typer.Argument(help="New folder, or new file for gguf and gguf-lora.")],
    to: Annotated[
        str,
        typer.Option(
            metavar="checkpoint|lora|gguf|gguf-lora|patch",
            help="An edited checkpoint, a LoRA adapter (PEFT, vLLM), an edited GGUF file, a LoRA adapter as GGUF (llama.cpp, Ollama), or a "
            "copy of the patch.",
            rich_help_panel=RESULT,
        ),
    ],
    strip: Annotated[
        bool,
        typer.Option(
            "--strip",
            help="Leave out facts and keys. Cards then give only the number of facts, and later edits cannot preserve the facts of a stripped patch.",
            rich_help_panel=RESULT,
        ),
    ] = False,
    push: Annotated[
        str | None,
        typer.Option(
            metavar="REPO", help="Also upload it to this repository of the Hugging Face hub.", rich_help_panel=RESULT
        ),
    ] = None,
    public: Annotated[
        bool,
        typer.Option(
            "--public", help="Make that repository public if it is new. Default: private.", rich_help_panel=RESULT
        ),
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="The base model: smollm2 (built in), a Hugging Face folder, a .gguf file, or a hub id. Default: the name in the patch.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    base_model: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Hub id of the base model, for the card. Default: found from its name.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Export even if the patch was made for other weights than these.", rich_help_panel=MODEL
        ),
    ] = False,
    dtype: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE",
            help="Number type of the written tensors. Adapters: float32 (default), bfloat16 or float16. gguf: F16 (default), BF16, Q8_0 or F32.",
            rich_help_panel=ADAPTER,
        ),
    ] = None,
    rank: Annotated[
        int | None,
        typer.Option(metavar="N", help="Largest rank of an adapter. Default: 512.", rich_help_panel=ADAPTER),
    ] = None,
    check: Annotated[
        bool | None,
        typer.Option(
            help="Compare an adapter's logits with the edited model's, which loads the model. Default: yes.",
            rich_help_panel=ADAPTER,
        ),
    ] = None,
    gguf: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="A GGUF file of the base model, if --model is not one.", rich_help_panel=ADAPTER
        ),
    ] = None,
    copy: Annotated[
        bool | None,
        typer.Option("--copy", help="Copy unchanged weight files instead of hard-linking them.", rich_help_panel=FILES),
    ] = None,
) -> None:
    """Write a patch in a form that other programs load.

    Of a workspace, all standing entries are written.
    """
    from bluedit.editing.patch import Patch
    from bluedit.export.export import export_patch
    from bluedit.export.export import push as upload

    if public and not push:
        raise ExportError("--public is about an uploaded repository; name it with --push REPO, or leave --public out")
    given: dict[str, Any] = {"dtype": dtype, "rank": rank, "check": check, "gguf": gguf, "copy": copy}
    done = export_patch(
        Patch.load(patch),
        to,
        out,
        model=model,
        strip=strip,
        base_model=base_model,
        trust_remote_code=trust_remote_code,
        force=force,
        **{name: value for name, value in given.items() if value is not None},
    )
    say(f"Written to {done.path}")
    for note in done.notes:
        say(note)
    for program, line in done.use.items():
        say(f"{program}:\n  " + line.replace("\n", "\n  "))
    if push:
        say(f"Uploaded to {upload(done.path, push, public=public)}")


def diff(
    first: Annotated[str, typer.Argument(help="A model: smollm2, a Hugging Face folder, a .gguf file, or a hub id.")],
    second: Annotated[str, typer.Argument(help="Another one of the same architecture.")],
) -> None:
    """Show which weights of two models differ, and by how much.

    Also shows the rank of the difference. The models need not have been edited with bluedit. Exits with 1 if they differ.
    """
    from bluedit.cli.export_tables import diff_tables
    from bluedit.editing.workspace import is_workspace
    from bluedit.export.diff import diff as compare

    for name in (first, second):
        if is_workspace(name):
            quoted = shlex.quote(name)
            raise ExportError(
                f"{name} is a workspace, and diff compares models. Compare two states of the workspace with: bluedit -C {quoted} diff A [B]. "
                f"Or make its model with: bluedit export {quoted} --to checkpoint FOLDER; then compare FOLDER"
            )
    found = compare(first, second, progress=progress())
    print_tables(*diff_tables(found))
    if not found.equal:
        raise typer.Exit(1)
