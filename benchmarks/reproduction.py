"""The paper's comparison: each method as published and with BLUE, on CounterFact and zsRE, in sequential batches.

    python benchmarks/reproduction.py --data FOLDER --out runs/reproduction [--only counterfact zsre few] [--recipes memit memit-blue ...]
    python benchmarks/reproduction.py --model gpt2-xl|gpt-j|llama-3-8b --facts 2000 --data FOLDER
    python benchmarks/reproduction.py --model llama-3-8b --facts 2000 --dry-run

FOLDER holds counterfact_easyedit.jsonl, zsre_mend.jsonl, wikipedia_passages.jsonl and capability_TASK.jsonl. Every part is a benchmark folder:
a run that was killed goes on after the last finished batch, and `bluedit report OUT/counterfact` makes a page of it. The parts share their targets.
`--light` runs only the part's first suite, half-way and at the end: half the time, for what the paper's table shows; `--abilities` adds
general ability to it. All recipes of a folder are measured in the same way: for other options choose another OUT.
With `--keep FOLDER` the rows of the recipes that were run replace theirs in FOLDER/reproduction-PART.csv and .md, so the table can be made
a few recipes at a time.

`--model` is smollm2 (the default), a name in models.toml, or what bluedit loads otherwise. A name in models.toml is downloaded from the hub,
has the numbers of public sources (docs/tuning.md), takes the paper's own files (multi_counterfact.json, zsre_mend_eval.json) where FOLDER
holds them, and runs the parts counterfact and zsre. `--dry-run` downloads and edits nothing: it prints how much time, memory and disk the run
needs on this machine, and what does not suffice. A run that will not fit is refused before anything is loaded (`--anyway` runs it).
"""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

import needs
from bluedit import Editor, read_facts
from bluedit.benchmark import UNEDITED, Benchmark, Entry, run_benchmark
from bluedit.evaluate.ability import TASKS
from bluedit.evaluate.data import Training
from bluedit.execution import Execution
from bluedit.files import cache_dir, write_file
from bluedit.markdown import table
from bluedit.methods.presets import preset
from bluedit.methods.recipe import Recipe
from bluedit.methods.tunings import tune
from bluedit.model.precision import fast_bfloat16
from bluedit.progress import as_progress
from bluedit.text.corpus import passages_of


@dataclass(frozen=True)
class Part:
    """One table: facts, how many of them, the methods, and the metrics. `published` is the file that the paper read."""

    file: str
    published: str
    limit: int
    hosts: tuple[str, ...]
    suites: tuple[str, ...]
    every: int
    others: tuple[str, ...] = ()

    def recipes(self) -> list[str]:
        """The unedited model, each method next to its BLUE form, and the methods that have none."""
        return [UNEDITED, *(name for host in self.hosts for name in (host, f"{host}-blue")), *self.others]

    def in_folder(self, folder: Path, published: bool) -> Path:
        """The file with the facts."""
        return folder / self.published if published and (folder / self.published).is_file() else folder / self.file


MAIN = ("alphaedit", "memit", "memit-seq", "rect", "prune", "pmet")
PARTS = {
    "counterfact": Part(
        "counterfact_easyedit.jsonl", "multi_counterfact.json", 1000, MAIN, ("counterfact", "generation", "locality"), 5
    ),
    "zsre": Part("zsre_mend.jsonl", "zsre_mend_eval.json", 300, MAIN, ("zsre", "generation", "locality"), 3),
    "few": Part(
        "counterfact_easyedit.jsonl",
        "multi_counterfact.json",
        300,
        ("rome", "emmet", "nse"),
        ("counterfact", "generation", "locality"),
        3,
        ("ft", "ft-local", "memit-seq-blue:schedule=single"),
    ),
}


PAPERS = ("counterfact", "zsre")
PAPER_MODELS = frozenset(needs.KNOWN) - {"smollm2"}


def main() -> None:
    args = arguments()
    check(args)
    if args.dry_run:
        return
    lm = Editor.load(hub_name(args.model), dtype=args.dtype, device=args.device).lm
    for name in args.only:
        part = PARTS[name]
        file = part.in_folder(args.data, args.model in PAPER_MODELS)
        facts = read_facts(file, limit=args.limit or part.limit)
        if args.limit and len(facts) < args.limit:
            print(f"{name}: {args.limit} facts are asked for, and {file} holds {len(facts)}; these are run", flush=True)
        benchmark = Benchmark(
            facts,
            entries=args.recipes or part.recipes(),
            every=10**6 if args.light else part.every,
            suites=part.suites[:1] if args.light else part.suites,
            passages=passages_of(args.data / "wikipedia_passages.jsonl"),
            abilities={task: args.data / f"capability_{task}.jsonl" for task in TASKS} if able(args) else {},
            targets=args.out / "targets",
            source=file.name,
            then_finetune=Training(args.then_finetune) if args.then_finetune else None,
        )
        execution = Execution(statistics_device=args.statistics_device)
        run_benchmark(lm, benchmark, args.out / name, as_progress(True), execution=execution)
        print((args.out / name / "results.md").read_text("utf-8"), flush=True)
        if args.keep:
            keep(args.out / name / "results.csv", args.keep / f"reproduction-{name}.csv", part.recipes())


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the facts and texts")
    parser.add_argument("--out", type=Path, help="default: runs/reproduction, or runs/MODEL for a model of models.toml")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--only", nargs="+", choices=PARTS)
    parser.add_argument("--recipes", nargs="+", help="only these, in this order")
    parser.add_argument("--facts", "--limit", dest="limit", type=int, help="how many, in place of the part's number")
    parser.add_argument("--light", action="store_true", help="only the first suite, half-way and at the end")
    parser.add_argument("--abilities", action="store_true", help="general ability with --light too")
    parser.add_argument("--then-finetune", type=int, default=0, help="steps of further training at the end")
    parser.add_argument("--keep", type=Path, help="folder of the tables to which these rows are added")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="of the weights; default: the checkpoint's")
    parser.add_argument("--statistics-device", default="", help="where key statistics are kept and solved, e.g. cpu")
    parser.add_argument("--dry-run", action="store_true", help="print time, memory and disk that are needed, and end")
    parser.add_argument(
        "--anyway", action="store_true", help="run although memory or disk do not suffice by the estimate"
    )
    args = parser.parse_args()
    paper = args.model in PAPER_MODELS
    args.only = args.only or list(PAPERS if paper else PARTS)
    args.out = args.out or Path("runs") / (args.model if paper else "reproduction")
    if not args.data and not args.dry_run:
        parser.error(
            "--data FOLDER is missing: the folder that holds the facts (docs/reproduction.md says which files)"
        )
    return args


def able(args: argparse.Namespace) -> bool:
    """Whether general ability is measured."""
    return args.abilities or not args.light


def hub_name(model: str) -> str:
    """What to load: the place on the hub of a model that is known here, anything else as it is."""
    return needs.KNOWN[model].get("hub", model) if model in needs.KNOWN else model


def check(args: argparse.Namespace) -> None:
    """Print what a dry run prints, and end with a sentence when memory or disk will not suffice."""
    config = needs.config_of(args.model)
    if config is None:
        if args.dry_run:
            raise SystemExit(
                f"a dry run needs shapes: give --model a folder with config.json, or one of {', '.join(needs.KNOWN)}"
            )
        return
    device = torch.device(args.device if args.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu")
    stated = needs.KNOWN.get(args.model, {}).get("dtype") or str(getattr(config, "dtype", None) or "float32")
    dtype = getattr(torch, args.dtype or stated.removeprefix("torch."))
    shape = needs.shape_of(config, dtype)
    plans = {name: plan_of(args, name, config, shape.d_key) for name in args.only}
    every = needs.Plan([r for plan in plans.values() for r in plan.recipes], max(p.facts for p in plans.values()))
    copies = dtype == torch.float32 and fast_bfloat16(device)
    hub = "hub" in needs.KNOWN.get(args.model, {})
    fetched = shape.parameters * torch.finfo(getattr(torch, stated.removeprefix("torch."))).bits // 8 if hub else 0
    sizes = needs.sizes_of(shape, every, copies, fetched)
    room = needs.Room.here(device, cache_dir(), args.out)
    if args.dry_run:
        say_needs(args, shape, plans, sizes, room, device)
    beside = not args.statistics_device or torch.device(args.statistics_device).type == device.type
    short = needs.shortages(sizes, room, device.type, beside=beside, cache=cache_dir(), out=args.out)
    if short and not args.anyway:
        lines = "\n".join(f"- {line}" for line in short)
        raise SystemExit(
            f"this machine does not suffice:\n{lines}\n--anyway runs nevertheless, e.g. if weights and statistics are on the disk already"
        )


def plan_of(args: argparse.Namespace, name: str, config: object, d_key: int) -> needs.Plan:
    part = PARTS[name]
    recipes = [tuned(entry, config, d_key) for entry in args.recipes or part.recipes() if entry != UNEDITED]
    file = part.in_folder(args.data, args.model in PAPER_MODELS).name if args.data else part.published
    prompts = {"multi_counterfact.json": 13}.get(file, 3) if args.model in PAPER_MODELS else 3
    return needs.Plan(recipes, args.limit or part.limit, prompts=prompts, abilities=able(args))


def tuned(entry: str, config: object, d_key: int) -> Recipe:
    """The recipe of a row, as the model would run it."""
    row = Entry.of(entry)
    recipe = preset(row.recipe) if isinstance(row.recipe, str) else row.recipe
    assert recipe
    return tune(recipe, config, d_key, dict(row.settings))


def say_needs(
    args: argparse.Namespace,
    shape: needs.Shape,
    plans: dict[str, needs.Plan],
    sizes: needs.Sizes,
    room: needs.Room,
    device: torch.device,
) -> None:
    """Print time, memory and disk."""
    rates, say = needs.probe(device, shape.dtype), needs.span
    print(
        f"{args.model}: {shape.parameters / 1e9:.2f} billion parameters in {str(shape.dtype).removeprefix('torch.')}, d_key {shape.d_key}"
    )
    print(
        f"measured on this machine ({device.type}, {torch.get_num_threads()} threads): products {rates.targets / 1e9:.0f} GFLOP/s for targets, "
        f"{rates.forward / 1e9:.0f} in the model's dtype, {rates.exact / 1e9:.0f} in float64; eigenvalues {rates.eigen / 1e9:.1f}"
    )
    total = needs.statistics_seconds(shape, rates, needs.Plan([r for p in plans.values() for r in p.recipes], 1))
    print(f"\nkey statistics, once: {say(total)}")
    for name, plan in plans.items():
        rows, before = [[UNEDITED, "", "", "", "", say(needs.measuring(shape, rates, plan)), ""]], total
        total += needs.measuring(shape, rates, plan)
        for recipe in plan.recipes:
            spent = needs.seconds_of(recipe, shape, rates, plan)
            total += sum(spent.values())
            rows.append(
                [recipe.name, "+".join(map(str, recipe.written)), *map(say, spent.values()), say(sum(spent.values()))]
            )
        print(f"\n{name}, {plan.facts} facts in batches of {plan.batch}: {say(total - before)}\n")
        print(table(["recipe", "layers written", "targets", "keys", "solve", "measure", "in all"], rows))
    where = args.statistics_device or device.type
    have = [
        needs.gb(free) if free is not None else "unknown" for free in (room.device, room.memory, room.cache, room.out)
    ]
    print(
        f"in all: {say(total)}\n\n"
        f"memory: {needs.gb(sizes.model)} for the model on {device.type} ({have[0]} free), {needs.gb(sizes.statistics)} for key statistics on {where} "
        f"(main memory: {have[1]} free)\n"
        f"disk: {needs.gb(sizes.cache)} in {cache_dir()}, of which {needs.gb(sizes.fetched)} are weights to download ({have[2]} free); "
        f"{needs.gb(sizes.out)} in {args.out} ({have[3]} free)\n\n{HONESTY}"
    )


HONESTY = """Counted from the shapes: operations and sizes. Measured: the rates above. Assumed, from runs on SmolLM2: the text of a fact, the share of
the rate that a pass reaches, and that every target takes all its steps (fewer in practice). Generation and locality (without --light),
loading and downloading are not in the time. Expect the time to be off by a factor of two; sizes are upper bounds."""


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
