"""Many facts through one workspace, batch after batch: memory, bytes a fact, verify, and back to the unedited model.

    python benchmarks/workspace.py --facts counterfact_easyedit.jsonl --out runs/workspace --set objective.steps=2

The workspace is kept as OUT/workspace. Neither memory nor bytes depend on how many steps the targets take, so few steps make it cheap.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bluedit import Fact, Workspace, read_facts
from bluedit.model.fingerprint import weights_fingerprint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--facts", type=Path, required=True)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--recipe", default="memit-seq-blue")
    parser.add_argument("--set", nargs="*", action="extend", default=[], metavar="OPTION=VALUE")
    parser.add_argument("--tokens", type=int, help="of key statistics")
    parser.add_argument("--out", type=Path, default=Path("runs/workspace"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    facts = read_facts(args.facts, limit=args.count)
    batches = [facts[i : i + args.batch_size] for i in range(0, len(facts), args.batch_size)]
    settings = dict(pair.split("=", 1) for pair in args.set)
    folder = args.out / "workspace"
    options = {"known": "edit", "report": False, "settings": settings}
    rows = written(Workspace.create(folder, args.model, tokens=args.tokens), batches, args.recipe, options)
    result = {"facts": len(facts), "log": rows, "bytes": sizes(folder), **checked(folder)}
    (args.out / "workspace.json").write_text(json.dumps(result, indent=1))
    print(table(result), flush=True)


def written(
    workspace: Workspace, batches: list[list[Fact]], recipe: str, options: dict[str, Any]
) -> list[dict[str, float]]:
    """Write each batch as an entry; what the process holds after it."""
    rows, total = [], 0
    for batch in batches:
        started = time.perf_counter()
        workspace.edit(batch, recipe, **options)
        seconds, total = time.perf_counter() - started, total + len(batch)
        rows.append({"facts": total, "seconds": seconds, "tensors": tensors(), "held": held(), "most": most()})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def checked(folder: Path) -> dict[str, Any]:
    """Open the workspace again, verify it, undo all of it one by one, and bring all back."""
    workspace = Workspace.open(folder)
    opened = timed(lambda: workspace.editor)
    edited = weights_fingerprint(workspace.editor.model)
    problems: list[str] = []
    verified = timed(lambda: problems.extend(one.what for one in workspace.verify()))
    entries, after = len(workspace.log()), len(workspace.events)

    def undo() -> None:
        for _ in range(entries):
            workspace.undo()

    undone = timed(undo)
    unedited = weights_fingerprint(workspace.editor.model) == workspace.base.fingerprint
    standing = len(workspace.patch.facts)
    workspace.checkout(after)
    return {
        "entries": entries,
        "seconds": {"open": opened, "verify": verified, "undo": undone},
        "problems": problems,
        "original_after_undo": unedited and not standing,
        "same_after_checkout": weights_fingerprint(workspace.editor.model) == edited,
        "most": most(),
    }


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def sizes(folder: Path) -> dict[str, int]:
    """Bytes on disk by kind of file."""
    found: dict[str, int] = {}
    for file in folder.rglob("*"):
        if file.is_file():
            found[file.suffix] = found.get(file.suffix, 0) + file.stat().st_size
    return found


def tensors() -> float:
    """MB of all tensors that hold memory; those of torch's own kinds, such as compiled models leave behind, do not."""
    gc.collect()
    kinds = (torch.Tensor, torch.nn.Parameter)
    found = [one.untyped_storage() for one in gc.get_objects() if type(one) in kinds]
    return sum({one.data_ptr(): one.nbytes() for one in found}.values()) / 1e6


def held() -> float:
    """MB that the process holds now, without what it has freed already; of systems without /proc the most it ever held."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # glibc keeps freed memory
    status = Path("/proc/self/status")
    if not status.is_file():
        return most()
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024 / 1e6


def most() -> float:
    """MB that the process held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def table(result: dict[str, Any]) -> str:
    """The log and the checks as Markdown."""
    lines = [
        "| facts | s for the batch | tensors, MB | process, MB | most so far, MB |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['facts']:,} | {row['seconds']:.1f} | {row['tensors']:.0f} | {row['held']:.0f} | {row['most']:.0f} |"
        for row in result["log"]
    ]
    total, seconds = sum(result["bytes"].values()), result["seconds"]
    lines += [
        "",
        f"{total:,} bytes on disk, {total / result['facts']:,.0f} a fact ({result['bytes']})",
        f"opened again with all {result['entries']} entries in {seconds['open']:.0f} s; at most {result['most']:.0f} MB",
        f"verify, {seconds['verify']:.0f} s: {'; '.join(result['problems']) or 'all is as it was written'}",
        f"undone one by one, {seconds['undo']:.0f} s: the original weights: {result['original_after_undo']}",
        f"back to the last event: the same weights as before: {result['same_after_checkout']}",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
