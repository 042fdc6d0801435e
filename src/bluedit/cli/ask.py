"""The commands that open a model without changing it: `ask` and `fetch`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bluedit.cli.common import (
    MODEL,
    Device,
    Dtype,
    OtherWeights,
    PatchedModel,
    TrustRemoteCode,
    load_model,
    load_patched,
)
from bluedit.cli.output import print_tables, say
from bluedit.cli.workspace import workspace_of
from bluedit.errors import FactError


def ask(
    context: typer.Context,
    prompts: Annotated[list[str], typer.Argument(help="Texts that the model continues.")],
    tokens: Annotated[int, typer.Option(metavar="N", help="Length of the continuation in tokens.", min=1)] = 20,
    chat: Annotated[
        bool, typer.Option("--chat", help="Send each prompt as a user message in the model's chat template.")
    ] = False,
    model: PatchedModel = None,
    patch: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Also show the continuations with this patch.", rich_help_panel=MODEL),
    ] = None,
    dtype: Dtype = None,
    device: Device = "auto",
    trust_remote_code: TrustRemoteCode = False,
    force: OtherWeights = False,
) -> None:
    """Show how a model continues prompts, without and with a patch.

    Decoding is greedy: each token is the most probable one. Below each continuation are the most probable first tokens. In a workspace
    (bluedit -C DIR ask) it shows the model without and with the standing entries.
    """
    from bluedit.cli.tables import ask_table
    from bluedit.editing.patch import Patch
    from bluedit.evaluate.generate import ask as ask_model

    if any(not prompt.strip() for prompt in prompts):
        raise FactError("a prompt is empty; write the text that the model is to continue")
    decided = ("model", "dtype", "patch", "force")
    workspace = workspace_of(context, decided, device=device, trust_remote_code=trust_remote_code)
    if workspace:
        editor = workspace.editor
        with editor.unedited():
            before = ask_model(editor.lm, prompts, tokens, chat=chat)
        after = ask_model(editor.lm, prompts, tokens, chat=chat) if len(editor.journal) else None
        print_tables(ask_table(before, after))
        return
    loaded = Patch.load(patch) if patch else None
    editor = load_patched(loaded, model, dtype, device, trust_remote_code)
    before, after = ask_model(editor.lm, prompts, tokens, chat=chat), None
    if loaded:
        editor.apply(loaded, force=force)
        after = ask_model(editor.lm, prompts, tokens, chat=chat)
    print_tables(ask_table(before, after))


def fetch(
    model: Annotated[
        str, typer.Argument(help="smollm2, a Hugging Face folder, a .gguf file, or a hub id.")
    ] = "smollm2",
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Load a model and show what bluedit will edit in it.

    This also downloads and converts the model where necessary, so that other commands start faster.
    """
    from bluedit.methods.tunings import tuning_for

    lm = load_model(model, None, "auto", trust_remote_code)
    tuning = tuning_for(lm.model.config.get_text_config(), lm.d_key)
    say(f"{model}: {type(lm.model).__name__}, {lm.anatomy.n_layers} layers, d_key {lm.d_key}, {lm.dtype}")
    say(f"layers that will be edited: {', '.join(map(str, tuning.set['layers']))}")
    say(f"tuning: {tuning.name} ({tuning.source})")
