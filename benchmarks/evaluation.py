"""Seconds for CounterFact's metrics: efficacy, generalisation, specificity and their strict forms, on a loaded model.

python benchmarks/evaluation.py --facts counterfact_easyedit.jsonl [--limit 1000] [--model smollm2] [--suite counterfact]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from bluedit import Editor, read_facts
from bluedit.evaluate.metrics import means
from bluedit.evaluate.model_queries import ModelQueries
from bluedit.evaluate.suites import SUITES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--facts", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--suite", default="counterfact", choices=SUITES)
    args = parser.parse_args()
    lm, facts = Editor.load(args.model).lm, read_facts(args.facts, limit=args.limit)
    started = time.perf_counter()
    found = means(SUITES[args.suite].measure(ModelQueries(lm), facts))
    seconds = time.perf_counter() - started
    shown = ", ".join(f"{name} {100 * value:.1f}" for name, value in found.items())
    print(f"{len(facts)} records in {seconds:.1f} s with {torch.get_num_threads()} threads: {shown}")


if __name__ == "__main__":
    main()
