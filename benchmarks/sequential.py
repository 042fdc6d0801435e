"""Recipes side by side: facts written in sequential batches, scored with CounterFact's metrics. Resumable after each batch.

    python benchmarks/sequential.py --facts counterfact.jsonl --count 300 --batch-size 100 \
        --recipes memit memit-blue alphaedit alphaedit-blue --passages passages.jsonl --out runs/sequential

A run is written NAME or NAME:option=value,option=value (layers as 4+8). Results: OUT/results.csv and OUT/results.md.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bluedit import Editor, Fact, Patch, read_facts, world_facts
from bluedit.editing.batches import split_batches
from bluedit.evaluate.answers import perplexity
from bluedit.evaluate.counterfact import counterfact_scores
from bluedit.evaluate.report import ordinary_passages
from bluedit.files import write_file
from bluedit.progress import BarProgress

SHOWN = ("efficacy", "generalisation", "specificity", "strict", "strict_paraphrase")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--facts", help="file of facts; default: the bundled world facts")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--skip", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--recipes", nargs="+", default=["memit", "memit-blue", "alphaedit", "alphaedit-blue"])
    parser.add_argument("--corpus", default="self")
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--passages", help="JSONL with a 'text' field, or text; default: the bundled passages")
    parser.add_argument("--passage-tokens", type=int, default=8000)
    parser.add_argument("--targets", type=Path, help="folder of optimised targets shared by runs; default: OUT/targets")
    parser.add_argument("--out", type=Path, default=Path("runs/sequential"))
    return parser.parse_args()


def passages(path: str | None) -> list[str]:
    if path is None:
        return list(ordinary_passages())
    lines = Path(path).read_text("utf-8").splitlines()
    return [json.loads(line)["text"] if line.startswith("{") else line for line in lines if line.strip()]


def settings_of(run: str) -> tuple[str, dict[str, Any]]:
    name, _, rest = run.partition(":")
    pairs = (item.split("=", 1) for item in rest.split(",") if item)
    return name, {key: value.replace("+", ",") for key, value in pairs}


def measure(editor: Editor, facts: list[Fact], texts: list[str], tokens: int) -> dict[str, Any]:
    scores = asdict(counterfact_scores(editor.lm, facts))
    return {**scores, "perplexity": perplexity(editor.lm, texts, tokens)}


def run_one(run: str, facts: list[Fact], texts: list[str], args: argparse.Namespace) -> dict[str, Any]:
    """Edit batch after batch; after each, save the patch and score all facts so far; at the end the first batch again."""
    folder = args.out / run.replace(":", "_").replace(",", "_").replace("=", "-")
    done_file = folder / "result.json"
    if done_file.is_file():
        return json.loads(done_file.read_text())
    name, settings = settings_of(run)
    progress = sys.stderr.isatty() and BarProgress()
    targets = args.targets or args.out / "targets"
    editor = Editor.load(args.model, corpus=args.corpus, tokens=args.tokens, targets=targets, progress=progress)
    if name == "unedited":
        result: dict[str, Any] = {"run": run, "log": [], "all": measure(editor, facts, texts, args.passage_tokens)}
        write_file(done_file, json.dumps(result, indent=1).encode())
        return result
    editor.recipe(name, settings)
    log_file = folder / "log.json"
    log = json.loads(log_file.read_text()) if log_file.is_file() else []
    if log:
        saved = Patch.load(folder / "patch")  # may be one batch ahead of the log if the run was killed in between
        editor.apply(Patch(saved.batches[: sum(entry["batches"] for entry in log)], saved.info))
    batches = split_batches(facts, args.batch_size)
    for number, part in enumerate(batches[len(log) :], start=len(log) + 1):
        log.append(edit_batch(editor, part, name, settings))
        so_far = [fact for batch in batches[:number] for fact in batch]
        log[-1]["scores"] = measure(editor, so_far, texts, args.passage_tokens)
        editor.patch.save(folder / "patch")
        write_file(log_file, json.dumps(log).encode())
    result = {"run": run, "log": log, "first": asdict(counterfact_scores(editor.lm, batches[0]))}
    write_file(done_file, json.dumps(result, indent=1).encode())
    return result


def edit_batch(editor: Editor, facts: list[Fact], name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Seconds (those of targets found in the store included) and reach of one batch."""
    assert editor.targets
    started, spared = time.perf_counter(), editor.targets.spared
    edit = editor.edit(facts, name, settings=settings, known="edit", report=False)
    seconds = time.perf_counter() - started + editor.targets.spared - spared
    reach = [[u.layer, u.mean_reach] for batch in edit.patch.batches for u in batch.updates]
    return {"facts": len(facts), "batches": len(edit.patch.batches), "seconds": seconds, "reach": reach}


def table(results: list[dict[str, Any]]) -> list[dict[str, str]]:
    """For each recipe: the first batch alone, all facts after the last batch, the first batch after the last one."""
    rows = []
    for result in results:
        log = result["log"]
        if not log:
            rows.append(row(result["run"], "all facts", result["all"], "", ""))
            continue
        facts = sum(batch["facts"] for batch in log)
        speed = f"{sum(batch['seconds'] for batch in log) / facts:.2f}"
        if len(log) > 1:
            rows.append(row(result["run"], "first batch, at once", log[0]["scores"], "", reach(log[:1])))
        rows.append(row(result["run"], "all facts, at the end", log[-1]["scores"], speed, reach(log)))
        if len(log) > 1:
            rows.append(row(result["run"], "first batch, at the end", result["first"], "", ""))
    return rows


def row(run: str, what: str, scores: dict[str, float], speed: str, delivered: str) -> dict[str, str]:
    shown = {key: f"{scores[key]:.1f}" for key in SHOWN}
    text = f"{scores['perplexity']:.2f}" if "perplexity" in scores else ""
    return {
        "recipe": run,
        "scored": what,
        "facts": str(scores["facts"]),
        **shown,
        "perplexity": text,
        "s/edit": speed,
        "reach by layer": delivered,
    }


def reach(log: list[dict[str, Any]]) -> str:
    """Mean share of the wanted residual delivered, by layer; fine-tuning has none."""
    by_layer: dict[int, list[float]] = {}
    for batch in log:
        for layer, value in batch["reach"]:
            if value == value:
                by_layer.setdefault(layer, []).append(value)
    return " ".join(f"{layer}:{sum(v) / len(v):.2f}" for layer, v in sorted(by_layer.items()))


def write(rows: list[dict[str, str]], out: Path) -> None:
    with (out / "results.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    head = list(rows[0])
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row[key] for key in head) + " |" for row in rows]
    (out / "results.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines), flush=True)


def main() -> None:
    args = arguments()
    facts = read_facts(args.facts, limit=args.count, skip=args.skip) if args.facts else world_facts(args.count)
    texts = passages(args.passages)
    args.out.mkdir(parents=True, exist_ok=True)
    results = []
    for run in args.recipes:
        results.append(run_one(run, facts, texts, args))
        write(table(results), args.out)


if __name__ == "__main__":
    main()
