"""The paper's comparison on SmolLM2-135M: each method as published and with BLUE, on CounterFact and zsRE, in sequential batches.

    python benchmarks/reproduction.py --data FOLDER --out runs/reproduction [--only counterfact zsre few] [--recipes memit memit-blue ...]

FOLDER holds counterfact_easyedit.jsonl, zsre_mend.jsonl, wikipedia_passages.jsonl and capability_TASK.jsonl. Every part is a benchmark folder:
a run that was killed goes on after the last finished batch, and `bluedit report OUT/counterfact` makes a page of it. The parts share their targets.
`--light` runs only the part's first suite, half-way and at the end: half the time, for what the paper's table shows; `--abilities` adds
general ability to it. All recipes of a folder are measured in the same way: for other options choose another OUT.
With `--keep FOLDER` the rows of the recipes that were run replace theirs in FOLDER/reproduction-PART.csv and .md, so the table can be made
a few recipes at a time.
"""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bluedit import Editor, read_facts
from bluedit.benchmark import UNEDITED, Benchmark, run_benchmark
from bluedit.evaluate.ability import TASKS
from bluedit.evaluate.data import Training
from bluedit.files import write_file
from bluedit.markdown import table
from bluedit.progress import as_progress
from bluedit.text.corpus import passages_of


@dataclass(frozen=True)
class Part:
    """One table: facts, how many of them, the methods, and the metrics."""

    file: str
    limit: int
    hosts: tuple[str, ...]
    suites: tuple[str, ...]
    every: int
    others: tuple[str, ...] = ()

    def recipes(self) -> list[str]:
        """The unedited model, each method next to its BLUE form, and the methods that have none."""
        return [UNEDITED, *(name for host in self.hosts for name in (host, f"{host}-blue")), *self.others]


MAIN = ("alphaedit", "memit", "memit-seq", "rect", "prune", "pmet")
PARTS = {
    "counterfact": Part("counterfact_easyedit.jsonl", 1000, MAIN, ("counterfact", "generation", "locality"), 5),
    "zsre": Part("zsre_mend.jsonl", 300, MAIN, ("zsre", "generation", "locality"), 3),
    "few": Part(
        "counterfact_easyedit.jsonl",
        300,
        ("rome", "emmet", "nse"),
        ("counterfact", "generation", "locality"),
        3,
        ("ft", "ft-local", "memit-seq-blue:schedule=single"),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/reproduction"))
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--recipes", nargs="+", help="only these, in this order")
    parser.add_argument("--limit", type=int, help="fewer facts than the part has")
    parser.add_argument("--light", action="store_true", help="only the first suite, half-way and at the end")
    parser.add_argument("--abilities", action="store_true", help="general ability with --light too")
    parser.add_argument("--then-finetune", type=int, default=0, help="steps of further training at the end")
    parser.add_argument("--keep", type=Path, help="folder of the tables to which these rows are added")
    args = parser.parse_args()
    lm = Editor.load(args.model).lm
    for name in args.only:
        part = PARTS[name]
        benchmark = Benchmark(
            read_facts(args.data / part.file, limit=args.limit or part.limit),
            entries=args.recipes or part.recipes(),
            every=10**6 if args.light else part.every,
            suites=part.suites[:1] if args.light else part.suites,
            passages=passages_of(args.data / "wikipedia_passages.jsonl"),
            abilities={}
            if args.light and not args.abilities
            else {task: args.data / f"capability_{task}.jsonl" for task in TASKS},
            targets=args.out / "targets",
            source=part.file,
            then_finetune=Training(args.then_finetune) if args.then_finetune else None,
        )
        run_benchmark(lm, benchmark, args.out / name, as_progress(True))
        print((args.out / name / "results.md").read_text("utf-8"), flush=True)
        if args.keep:
            keep(args.out / name / "results.csv", args.keep / f"reproduction-{name}.csv", part.recipes())


def keep(run: Path, table_file: Path, order: Sequence[str] = ()) -> None:
    """Put a run's rows into a table, as CSV and Markdown, in place of those of the same recipes and in the order of the part's."""
    new = list(csv.DictReader(run.read_text("utf-8").splitlines()))
    old = list(csv.DictReader(table_file.read_text("utf-8").splitlines())) if table_file.is_file() else []
    again = {recipe_of(row) for row in new}
    rows = [row for row in old if recipe_of(row) not in again] + new
    place = {name: i for i, name in enumerate(order)}
    rows.sort(key=lambda row: place.get(recipe_of(row), len(place)))
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [[row.get(column) or "" for column in columns] for row in rows]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *lines])
    write_file(table_file, text.getvalue().encode())
    write_file(table_file.with_suffix(".md"), table(columns, lines).encode())


def recipe_of(row: dict[str, str]) -> str:
    """The recipe that a row of results.csv is about."""
    return row["recipe"].split(", ")[0]


if __name__ == "__main__":
    main()
