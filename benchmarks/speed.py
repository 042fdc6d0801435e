"""Seconds per edit of bluedit against the textbook implementation, in one run, each variant in a process of its own. Resumable.

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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from bluedit import Editor, Execution, Fact, Recipe, Trace, read_facts, world_facts
from bluedit.maths.moment import SecondMoment
from bluedit.maths.solve import solve
from bluedit.methods.objective import Objective
from bluedit.methods.preserve import Preserve
from bluedit.methods.update import ClosedForm
from bluedit.model.editable import EditableModel
from bluedit.model.sites import Site
from bluedit.model.state import frozen
from bluedit.statistics.store import MomentStore
from bluedit.text.contexts import sampled_prefixes
from bluedit.text.corpus import Corpus
from bluedit.text.rows import Row
from bluedit.writing.target import Targets
from bluedit.writing.trace import Write
from textbook import textbook_edit

PHASES = ("targets", "keys", "solve")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--facts", help="file of facts; default: the bundled world facts")
    parser.add_argument("--recipes", nargs="+", default=["alphaedit-blue", "alphaedit"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 10, 100])
    parser.add_argument(
        "--textbook-facts",
        type=int,
        default=12,
        help="facts that the textbook way edits (its cost per fact is constant)",
    )
    parser.add_argument("--precisions", nargs="+", default=["full", "bf16"], choices=["full", "bf16"])
    parser.add_argument("--skip", type=int, default=2000, help="facts to leave out at the beginning of the file")
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


class Watch(Trace):
    """Watches an edit: a source of targets that takes the time and counts the arithmetic, and a trace that keeps writes and targets.

    Attributes:
        seconds: spent on targets.
        gflop: arithmetic of the target optimisation (see `flops`).
        targets, writes: what was found and written.
    """

    def __init__(self) -> None:
        self.seconds, self.gflop = 0.0, 0.0
        self.targets: dict[int, Targets] = {}
        self.writes: list[Write] = []

    def get(
        self, lm: EditableModel, rows: Sequence[Row], site: Site, objective: Objective, optimise: Callable[[], Targets]
    ) -> Targets:
        started = time.perf_counter()
        found = optimise()
        self.seconds += time.perf_counter() - started
        self.gflop += flops(lm, rows, site, objective, found) / 1e9
        return found

    def on_target(self, site: Site, targets: Targets) -> None:
        self.targets[site.layer] = targets

    def on_write(self, write: Write) -> None:
        self.writes.append(write)


def flops(lm: EditableModel, rows: Sequence[Row], site: Site, objective: Objective, found: Targets) -> float:
    """Arithmetic of a target optimisation: forward and backward products of the maps above the edited layer with real tokens, and of the
    head with the positions whose logits are needed. Attention's own products, padding and what runs once are left out."""
    first = site.layer + (site.is_block_output and not objective.attention)
    per_token = sum(p.numel() for block in lm.anatomy.blocks[first:] for p in block.parameters() if p.ndim == 2)
    head = lm.model.get_output_embeddings()
    per_output = 0 if head is None else head.weight.numel()
    total = 0.0
    for row in rows:
        evaluations = int(found.steps[row.fact]) + 1
        total += 4 * evaluations * (row.suffix * per_token + max(1, len(row.targets)) * per_output)
    return total


@dataclass(frozen=True, eq=False)
class Prepared(Preserve):
    """A preservation whose operators were built before, as they serve every batch."""

    operators: Mapping[int, Any] = field(default_factory=dict)

    def operator(self, C: SecondMoment) -> Any:
        return self.operators[C.layer]


def closed_form(recipe: Recipe) -> ClosedForm:
    """The recipe's update; only closed forms are compared here."""
    if not isinstance(recipe.update, ClosedForm):
        raise SystemExit(f"{recipe.name} is not a closed form; choose another recipe")
    return recipe.update


def prepared(recipe: Recipe, moments: Mapping[int, SecondMoment]) -> Recipe:
    """The recipe with operators that are ready."""
    preserve = Prepared({layer: closed_form(recipe).preserve.operator(C) for layer, C in moments.items()})
    return replace(recipe, update=replace(closed_form(recipe), preserve=preserve))


def chosen_facts(args: argparse.Namespace, count: int) -> list[Fact]:
    return read_facts(args.facts, limit=count, skip=args.skip) if args.facts else world_facts(count)


def measure(args: argparse.Namespace, variant: dict[str, Any]) -> dict[str, Any]:
    """Time one variant. Statistics, prefixes and the factor of the preservation matrix are made before, as they serve every batch."""
    facts, watch = chosen_facts(args, variant["facts"]), Watch()
    editor = Editor.load(args.model, execution=Execution(precision=variant["precision"]), targets=watch, trace=watch)
    recipe = editor.recipe(variant["recipe"])
    store = MomentStore(editor.lm, editor.journal.base.fingerprint, Corpus("self"))
    moments = store.get(recipe.written)
    result: dict[str, Any] = dict(variant)
    if variant["way"] == "textbook":  # one of two ways to compute the same, not a kind of part
        prefixes = recipe.contexts.prefixes(lambda count, seed: sampled_prefixes(editor.lm, count, seed))
        with frozen(editor.model):
            started = time.perf_counter()
            done = textbook_edit(editor.lm, facts, recipe, prefixes, moments)
        result |= {"seconds": time.perf_counter() - started, "phases": done.seconds, "steps": done.steps}
        torch.save({"z": done.z, "dW": done.dW, "start": {}}, args.out / f"textbook-{variant['recipe']}.pt")
    else:
        result |= timed_edit(editor, watch, facts, recipe, moments)
        result["gemm_peak"] = gemm_peak(torch.bfloat16 if variant["precision"] == "bf16" else torch.float32)
        result |= compare(args, editor, watch, recipe, variant)
    result["memory_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return result


def timed_edit(
    editor: Editor, watch: Watch, facts: Sequence[Fact], recipe: Recipe, moments: Mapping[int, SecondMoment]
) -> dict[str, Any]:
    """One edit, undone again. "solve" is measured once more on the same keys; "keys" is all the rest: keys, values, writing."""
    ready = prepared(recipe, moments)
    editor.edit(
        facts[:1], prepared(recipe, moments), known="edit", report=False
    ).undo()  # statistics are read, kernels are warm
    watch.seconds, watch.gflop = 0.0, 0.0
    watch.writes.clear()
    started = time.perf_counter()
    edit = editor.edit(facts, ready, known="edit", report=False)
    seconds = time.perf_counter() - started
    edit.undo()
    again = closed_form(prepared(recipe, moments))
    started = time.perf_counter()
    for write in watch.writes:
        solve(write.keys, again.preserve.operator(moments[write.step.layer]), again.slack)
    solving = time.perf_counter() - started
    spent = {"targets": watch.seconds, "keys": seconds - watch.seconds - solving, "solve": solving}
    return {"seconds": seconds, "phases": spent, "gflop": watch.gflop}


def compare(
    args: argparse.Namespace, editor: Editor, watch: Watch, recipe: Recipe, variant: dict[str, Any]
) -> dict[str, Any]:
    """The same facts as the textbook's: how far z* and dW are apart."""
    stored = args.out / f"textbook-{variant['recipe']}.pt"
    if not stored.is_file() or variant["facts"] != max(args.batches):
        return {}
    theirs = torch.load(stored, weights_only=True)
    edit = editor.edit(chosen_facts(args, args.textbook_facts), recipe, known="edit", report=False)
    seen = watch.targets
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
        f"- {r['recipe']}, {r['precision']}, batch {r['facts']}: z* takes {r['gflop'] / r['facts']:.0f} GFLOP per edit, at "
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
