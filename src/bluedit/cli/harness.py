"""`bluedit harness`: tasks of lm-evaluation-harness, without and with a patch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bluedit.cli.common import Device, Dtype, Force, Model, bars
from bluedit.errors import BenchmarkError


def harness(
    tasks: Annotated[list[str], typer.Argument(help="Tasks, groups or tags of lm-eval, or your own task files.")],
    model: Model = "smollm2",
    patch: Annotated[Path | None, typer.Option(help="Also run the tasks on the model with this patch.")] = None,
    include: Annotated[Path | None, typer.Option(help="Folder with your own task files.")] = None,
    limit: Annotated[int | None, typer.Option(help="Most items of each task.", min=1)] = None,
    shots: Annotated[
        int | None, typer.Option(help="Examples before each question. Default: the task's own number.", min=0)
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Texts per forward pass.", min=1)] = 8,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="JSON file for lm-eval's results.")] = None,
    force: Force = False,
    dtype: Dtype = None,
    device: Device = "auto",
) -> None:
    """Run tasks of EleutherAI's lm-evaluation-harness on a model, without and with a patch."""
    from bluedit.benchmark.harness import evaluate_tasks, load_tasks
    from bluedit.cli.harness_table import harness_table
    from bluedit.editing.editor import Editor
    from bluedit.editing.patch import Patch
    from bluedit.files import write_file

    if out and out.is_dir():
        raise BenchmarkError(f"{out} is a folder; name a file for the results, e.g. {out / 'results.json'}")
    loaded = Patch.load(patch) if patch else None
    asked = load_tasks(tasks, include, progress=bars())
    editor = Editor.load(model, dtype=dtype, device=device, progress=bars())
    if loaded:
        editor.apply(loaded, force=force)
    how = {"limit": limit, "shots": shots, "batch_size": batch_size, "progress": bars()}
    with editor.unedited():
        results = {"unedited": evaluate_tasks(editor, asked, **how)}
    if loaded:
        results["edited"] = evaluate_tasks(editor, asked, **how)
        results["edited"]["config"]["patch"] = str(patch)
    console = Console()
    console.print(harness_table(results["unedited"], results.get("edited")))
    if out:
        try:
            write_file(out, (json.dumps(results, indent=1, ensure_ascii=False, default=str) + "\n").encode())
        except OSError as error:
            raise BenchmarkError(f"cannot write {out}: {error.strerror or error}; choose another place") from error
        console.print(f"Results written to {out}")
