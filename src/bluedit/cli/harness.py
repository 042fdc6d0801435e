"""`bluedit harness`: tasks of lm-evaluation-harness, without and with a patch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from bluedit.cli.common import (
    MODEL,
    RESULT,
    Device,
    Dtype,
    OtherWeights,
    PatchedModel,
    TrustRemoteCode,
    check_place,
    load_patched,
)
from bluedit.cli.output import bars, print_tables, say
from bluedit.errors import BenchmarkError


def harness(
    tasks: Annotated[list[str], typer.Argument(help="Tasks, groups or tags of lm-eval, or your own task files.")],
    include: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Folder with your own task files.")] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", help="Use at most N items of each task.", min=1)] = None,
    shots: Annotated[
        int | None,
        typer.Option(metavar="N", help="Examples before each question. Default: the task's own number.", min=0),
    ] = None,
    batch_size: Annotated[int, typer.Option(metavar="N", help="Texts per forward pass.", min=1)] = 8,
    model: PatchedModel = None,
    patch: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Also run the tasks with this patch.", rich_help_panel=MODEL),
    ] = None,
    dtype: Dtype = None,
    device: Device = "auto",
    trust_remote_code: TrustRemoteCode = False,
    force: OtherWeights = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="JSON file for lm-eval's results.", rich_help_panel=RESULT),
    ] = None,
    details: Annotated[
        bool, typer.Option("--details", help="Show the numbers of items and examples, too.", rich_help_panel=RESULT)
    ] = False,
) -> None:
    """Run tasks of lm-evaluation-harness without and with a patch."""
    from bluedit.benchmark.harness import evaluate_tasks, load_tasks
    from bluedit.cli.harness_table import harness_table
    from bluedit.editing.patch import Patch

    if out and out.is_dir():
        raise BenchmarkError(f"{out} is a folder; name a file for the results, e.g. {out / 'results.json'}")
    if out:
        check_place(out, BenchmarkError)
    loaded = Patch.load(patch) if patch else None
    chosen = load_tasks(tasks, include, progress=bars())
    editor = load_patched(loaded, model, dtype, device, trust_remote_code)
    if loaded:
        editor.apply(loaded, force=force)
    how = {"limit": limit, "shots": shots, "batch_size": batch_size, "progress": bars()}
    with editor.unedited():
        results = {"unedited": evaluate_tasks(editor, chosen, **how)}
    if loaded:
        results["edited"] = evaluate_tasks(editor, chosen, **how)
        results["edited"]["config"]["patch"] = str(patch)
    print_tables(harness_table(results["unedited"], results.get("edited"), details=details))
    if out:
        _write(out, results)
        say(f"Results written to {out}")


def _write(file: Path, results: dict[str, Any]) -> None:
    from bluedit.files import write_file

    try:
        write_file(file, (json.dumps(results, indent=1, ensure_ascii=False, default=str) + "\n").encode())
    except OSError as error:
        raise BenchmarkError(f"cannot write {file}: {error.strerror or error}; choose another place") from error
