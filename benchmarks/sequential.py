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
    """Edit batch after batch, saving the patch after each, then score all facts and the first batch."""
    folder = args.out / run.replace(":", "_").replace(",", "_").replace("=", "-")
    done_file = folder / "result.json"
    if done_file.is_file():
        return json.loads(done_file.read_text())
    name, settings = settings_of(run)
    editor = Editor.load(
        args.model, corpus=args.corpus, tokens=args.tokens, progress=sys.stderr.isatty() and BarProgress()
    )
    if name == "unedited":
        result: dict[str, Any] = {"run": run, "all": measure(editor, facts, texts, args.passage_tokens)}
    else:
        editor.recipe(name, settings)
        log_file = folder / "log.json"
        log = json.loads(log_file.read_text()) if log_file.is_file() else []
        if log:
            saved = Patch.load(folder / "patch")  # may be one batch ahead of the log if the run was killed in between
            editor.apply(Patch(saved.batches[: len(log)], saved.info))
        batches = split_batches(facts, args.batch_size)
        for part in batches[len(log) :]:
            started = time.perf_counter()
            edit = editor.edit(part, name, settings=settings, known="edit", report=False)
            reach = [[u.layer, float(u.mean_reach)] for batch in edit.patch.batches for u in batch.updates]
            log.append({"facts": len(part), "seconds": time.perf_counter() - started, "reach": reach})
            if len(log) == 1:
                log[0]["scores"] = measure(editor, batches[0], texts, args.passage_tokens)
            editor.patch.save(folder / "patch")
            write_file(log_file, json.dumps(log).encode())
        result = {"run": run, "log": log, "all": measure(editor, facts, texts, args.passage_tokens)}
        if len(batches) > 1:
            result["first"] = asdict(counterfact_scores(editor.lm, batches[0]))
    write_file(done_file, json.dumps(result, indent=1).encode())
    return result


def table(results: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Three rows a recipe: the first batch alone, all facts after the last batch, the first batch after the last one."""
    rows = []
    for result in results:
        log = result.get("log", [])
        facts = sum(batch["facts"] for batch in log)
        speed = f"{sum(batch['seconds'] for batch in log) / facts:.2f}" if facts else ""
        if len(log) > 1:
            rows.append(row(result["run"], "first batch, at once", log[0]["scores"], "", reach(log[:1])))
        rows.append(
            row(result["run"], "all facts, at the end" if log else "all facts", result["all"], speed, reach(log))
        )
        if "first" in result:
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
    by_layer: dict[int, list[float]] = {}
    for batch in log:
        for layer, value in batch["reach"]:
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
