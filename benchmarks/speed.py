"""Seconds per edit of the fast path against the textbook way, in one run, each variant in a process of its own. Resumable.

    python benchmarks/speed.py --facts counterfact.jsonl --out runs/speed

Writes OUT/speed.json and OUT/speed.md with the machine's figures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

import bluedit.writing.loop as loop
from bluedit import Editor, read_facts, world_facts
from bluedit.forward._suffix import SuffixRunner, unchanged_blocks
from bluedit.model.state import frozen
from bluedit.text.contexts import make_prefixes
from textbook import textbook_edit

PHASES = {"targets": "optimise_targets", "keys": "observe_keys", "solve": "solve"}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--facts", help="file of facts; default: the bundled world facts")
    parser.add_argument("--recipes", nargs="+", default=["alphaedit-blue", "alphaedit"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 10, 100])
    parser.add_argument(
        "--textbook-facts", type=int, default=12, help="facts the textbook edits (its cost per fact is constant)"
    )
    parser.add_argument("--precisions", nargs="+", default=["full", "bf16"], choices=["full", "bf16"])
    parser.add_argument("--skip", type=int, default=2000, help="facts left out at the beginning")
    parser.add_argument("--out", type=Path, default=Path("runs/speed"))
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = arguments()
    if args.variant:
        print(json.dumps(measure(args, json.loads(args.variant))))
        return
    args.out.mkdir(parents=True, exist_ok=True)
    results = []
    for recipe in args.recipes:
        variants = [{"way": "textbook", "recipe": recipe, "precision": "full", "facts": args.textbook_facts}]
        variants += [
            {"way": "bluedit", "recipe": recipe, "precision": precision, "facts": count}
            for precision in args.precisions
            for count in args.batches
        ]
        results += [one(args, variant) for variant in variants]
        write(results, args.out)


def one(args: argparse.Namespace, variant: dict[str, Any]) -> dict[str, Any]:
    """A variant's result: as stored, or from a process of its own."""
    file = args.out / f"{'-'.join(str(v) for v in variant.values())}.json"
    if not file.is_file():
        command = [sys.executable, *sys.argv, "--variant", json.dumps(variant)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{variant} failed:\n{done.stderr[-2000:]}")
        file.write_text(done.stdout.splitlines()[-1])
    return json.loads(file.read_text())


def measure(args: argparse.Namespace, variant: dict[str, Any]) -> dict[str, Any]:
    """Time one variant; statistics, prefixes and the factor of the preservation matrix are made before, as they serve every batch."""
    count = variant["facts"]
    read = read_facts(args.facts, limit=count, skip=args.skip) if args.facts else world_facts(count)
    editor = Editor.load(args.model)
    recipe = editor.recipe(variant["recipe"], {"objective.precision": variant["precision"]})
    prefixes = make_prefixes(editor.lm, recipe.contexts.kind, recipe.contexts.count, recipe.contexts.seed)
    moments = editor._second_moments(recipe.written)
    for moment in moments.values():
        editor._preserved.at(recipe, moment, [])
    result: dict[str, Any] = dict(variant)
    if variant["way"] == "textbook":
        with frozen(editor.model):
            started = time.perf_counter()
            done = textbook_edit(editor.lm, read, recipe, prefixes, moments)
        result |= {"seconds": time.perf_counter() - started, "phases": done.seconds, "steps": done.steps}
        torch.save({"z": done.z, "dW": done.dW, "start": {}}, args.out / f"textbook-{variant['recipe']}.pt")
    else:
        with phases() as spent, counted(editor.lm) as done:
            started = time.perf_counter()
            edit = editor.edit(read, recipe, known="edit", report=False)
        result |= {"seconds": time.perf_counter() - started, "phases": spent, "gflop": done["gflop"]}
        result["gemm_peak"] = gemm_peak(torch.bfloat16 if variant["precision"] == "bf16" else torch.float32)
        edit.undo()
        result |= compare(args, editor, recipe, variant)
    result["memory_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return result


@contextmanager
def phases():
    """Seconds spent in each phase of the loop inside the `with`."""
    spent = dict.fromkeys(PHASES, 0.0)
    originals = {phase: getattr(loop, name) for phase, name in PHASES.items()}

    def timed(phase: str):
        def call(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return originals[phase](*args, **kwargs)
            finally:
                spent[phase] += time.perf_counter() - started

        return call

    for phase, name in PHASES.items():
        setattr(loop, name, timed(phase))
    try:
        yield spent
    finally:
        for phase, name in PHASES.items():
            setattr(loop, name, originals[phase])


@contextmanager
def counted(lm: Any):
    """The arithmetic of the searches for z* inside the `with`: forward and backward products of the maps above the edited layer with real
    tokens and of the head with the wanted positions. Attention's own products, padding and what is run once are left out."""
    done, original = {"gflop": 0.0}, SuffixRunner.logits

    def logits(self: SuffixRunner, delta: torch.Tensor) -> torch.Tensor:
        blocks = lm.anatomy.blocks[unchanged_blocks(self._passes[0].sites) :]
        per_token = sum(p.numel() for block in blocks for p in block.parameters() if p.ndim == 2)
        tokens = sum(row.suffix for row in self.rows)
        out = original(self, delta)
        done["gflop"] += 4e-9 * (tokens * per_token + len(out) * lm.anatomy.head.weight.numel())
        return out

    SuffixRunner.logits = logits
    try:
        yield done
    finally:
        SuffixRunner.logits = original


def compare(args: argparse.Namespace, editor: Editor, recipe: Any, variant: dict[str, Any]) -> dict[str, Any]:
    """The same facts as the textbook's: how far z* and dW are apart."""
    stored = args.out / f"textbook-{variant['recipe']}.pt"
    if not stored.is_file() or variant["facts"] != max(args.batches):
        return {}
    theirs = torch.load(stored, weights_only=True)
    count = args.textbook_facts
    read = read_facts(args.facts, limit=count, skip=args.skip) if args.facts else world_facts(count)
    seen: dict[int, Any] = {}
    original = loop.optimise_targets

    def spy(lm: Any, rows: Any, site: Any, *rest: Any) -> Any:
        seen[site.layer] = original(lm, rows, site, *rest)
        return seen[site.layer]

    loop.optimise_targets = spy
    edit = editor.edit(read, recipe, known="edit", report=False)
    loop.optimise_targets = original
    z = {
        layer: ((seen[layer].z - other).norm(dim=0) / (other - seen[layer].start).norm(dim=0)).max().item()
        for layer, other in theirs["z"].items()
    }
    mine = {u.layer: u.R.double() @ u.A.double() for u in edit.patch.batches[0].updates}
    dW = {layer: ((mine[layer] - other).norm() / other.norm()).item() for layer, other in theirs["dW"].items()}
    steps = {layer: int(found.steps.sum()) for layer, found in seen.items()}
    return {"z_apart": z, "dW_apart": dW, "steps": steps}


def gemm_peak(dtype: torch.dtype, size: int = 2048) -> float:
    """GFLOP/s of square matrix products."""
    a = torch.randn(size, size).to(dtype)
    a @ a
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < 1.0:
        a @ a
        count += 1
    return 2 * size**3 * count / (time.perf_counter() - started) / 1e9


def write(results: list[dict[str, Any]], out: Path) -> None:
    machine = {
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "gemm_fp32_gflops": round(gemm_peak(torch.float32)),
        "gemm_bf16_gflops": round(gemm_peak(torch.bfloat16)),
    }
    (out / "speed.json").write_text(json.dumps({"machine": machine, "results": results}, indent=1))
    lines = ["| recipe | way | precision | batch | s/edit | targets | keys | solve | times textbook | peak memory |"]
    lines.append("|" + "---|" * 10)
    yardstick = {r["recipe"]: r["seconds"] / r["facts"] for r in results if r["way"] == "textbook"}
    for r in results:
        each = r["seconds"] / r["facts"]
        parts = " | ".join(f"{r['phases'][phase] / r['facts']:.3f}" for phase in PHASES)
        lines.append(
            f"| {r['recipe']} | {r['way']} | {r['precision']} | {r['facts']} | {each:.2f} | {parts} "
            f"| {yardstick[r['recipe']] / each:.1f} | {r['memory_gib']:.1f} GiB |"
        )
    notes = [f"- {key}: {value}" for key, value in machine.items()]
    notes += [
        f"- {r['recipe']}, {r['precision']}: z* apart from the textbook's by at most {max(r['z_apart'].values()):.1e} of |delta|, dW by "
        f"{max(r['dW_apart'].values()):.1e}"
        for r in results
        if "z_apart" in r
    ]
    notes += [
        f"- {r['recipe']}, {r['precision']}, batch {r['facts']}: z* takes {r['gflop'] / r['facts']:.0f} GFLOP per edit, done at "
        f"{r['gflop'] / r['phases']['targets']:.0f} GFLOP/s of a peak of {r['gemm_peak']:.0f}"
        for r in results
        if "gflop" in r
    ]
    (out / "speed.md").write_text("\n".join([*lines, "", *notes]) + "\n")
    print("\n".join([*lines, "", *notes]), flush=True)


def processor() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.exists()
        else []
    )
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


if __name__ == "__main__":
    main()
