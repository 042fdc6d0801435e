"""Do two versions of bluedit compute the same numbers? Edits facts with several recipes, keeps every target, factor and report, and compares two such records.

    python benchmarks/same_bits.py record before/            # with one version (PYTHONPATH=src of its checkout)
    python benchmarks/same_bits.py record after/             # with the other, on the same machine with the same number of threads
    python benchmarks/same_bits.py compare before/ after/

Facts are written in two batches by one call, then one more fact by a second, so that memory and the chain of edits are part of the record.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

RECIPES = ("memit", "memit-seq-blue", "alphaedit-blue", "pmet-blue", "rect", "nse")
REPORTED = (
    "first_after",
    "p_new_before",
    "p_new_after",
    "p_old_after",
    "says_after",
    "paraphrases_after",
    "neighbours_kept",
)


def record(out: Path, recipes: list[str], count: int, model: str = "smollm2") -> None:
    """Edit with each recipe and write one file of tensors and one of reports a recipe."""
    from bluedit import Editor, world_facts

    facts = world_facts(count + 1, seed=3)
    out.mkdir(parents=True, exist_ok=True)
    for recipe in recipes:
        with tempfile.TemporaryDirectory() as targets:
            editor = Editor.load(model, targets=targets)
            started = time.perf_counter()
            first = editor.edit(facts[:count], recipe, batch_size=-(-count // 2), known="edit")
            seconds = time.perf_counter() - started
            assert first.report
            editor.edit(facts[count:], recipe, known="edit", report=False)
            tensors = {
                f"{i}.{j}.{part}": getattr(update, part).clone()  # rounds share their keys, which safetensors refuses
                for i, batch in enumerate(editor.patch.batches)
                for j, update in enumerate(batch.updates)
                for part in ("R", "A", "keys", "reach")
            }
            found = sorted(Path(targets).glob("*.safetensors"), key=lambda file: file.stat().st_mtime_ns)
            for i, file in enumerate(found):
                tensors |= {f"target.{i}.{name}": value for name, value in load_file(file).items() if name != "seconds"}
            for layer in editor.patch.layers:
                tensors[f"weight.{layer}"] = editor.lm.projection(layer).matrix().contiguous()
        save_file(tensors, out / f"{recipe}.safetensors")
        (out / f"{recipe}.json").write_text(
            json.dumps({"seconds": seconds, "report": first.report.as_dict()}, indent=1)
        )
        print(f"{recipe}: {len(tensors)} tensors, {seconds:.1f} s", flush=True)


def compare(one: Path, other: Path) -> int:
    """Print, for each recipe, what differs; returns how many recipes do."""
    differing = 0
    for file in sorted(one.glob("*.safetensors")):
        if not (other / file.name).is_file():
            print(f"{file.stem}: not in {other}")
            differing += 1
            continue
        before, after = load_file(file), load_file(other / file.name)
        faults = sorted(before.keys() ^ after.keys())
        for name in sorted(before.keys() & after.keys()):
            if before[name].shape != after[name].shape or not torch.equal(before[name], after[name]):
                same = before[name].shape == after[name].shape
                apart = (before[name].double() - after[name].double()).abs().max().item() if same else float("nan")
                faults.append(f"{name} by {apart:.2g}")
        reports = [json.loads((folder / f"{file.stem}.json").read_text()) for folder in (one, other)]
        for a, b in zip(*(r["report"]["facts"] for r in reports), strict=True):
            faults += [f"{a['prompt']}: {key} {a[key]} {b[key]}" for key in REPORTED if a[key] != b[key]]
        if reports[0]["report"]["perplexity_after"] != reports[1]["report"]["perplexity_after"]:
            faults.append("perplexity")
        ratio = reports[1]["seconds"] / reports[0]["seconds"]
        print(
            f"{file.stem}: {'same bits' if not faults else '; '.join(faults[:6])} ({len(before)} tensors; time x {ratio:.2f})"
        )
        differing += bool(faults)
    return differing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    recording = commands.add_parser("record", help="edit with this version and keep all numbers")
    recording.add_argument("out", type=Path)
    recording.add_argument("--recipes", nargs="+", default=list(RECIPES))
    recording.add_argument("--facts", type=int, default=20)
    recording.add_argument("--model", default="smollm2")
    comparing = commands.add_parser("compare", help="compare two records; exit code 1 when they differ")
    comparing.add_argument("one", type=Path)
    comparing.add_argument("other", type=Path)
    asked = parser.parse_args()
    if asked.command == "compare":
        raise SystemExit(min(1, compare(asked.one, asked.other)))
    record(asked.out, asked.recipes, asked.facts, asked.model)


if __name__ == "__main__":
    main()
