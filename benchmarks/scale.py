"""Time and memory of a batch as the number of earlier edits grows, on a real model.

    python benchmarks/scale.py --batches 50 --out runs/scale

Targets are random vectors in place of optimised ones (their cost does not depend on what came before); keys, solve, memory, writing and
the bookkeeping of the editor are real.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from bluedit import Editor, Fact
from bluedit.model.editable import EditableModel
from bluedit.model.sites import Site
from bluedit.text.rows import Row
from bluedit.writing.keys import read_values
from bluedit.writing.target import Targets

FIRST = "Anna Boris Carla David Elena Felix Greta Hugo Irene Jonas Karla Louis Maria Niels Olga Peter Quinn Rosa Simon Tilda Ulrich Vera Walter Xenia Yara Zeno Adele Bruno Clara Dario Edith Frank Gisela Hanna Igor Julia Klaus Laura Moritz Nadia Oscar Paula Ralf Sofia Theo Ursula Victor Wanda Yannick Zita".split()  # noqa: SIM905
LAST = [
    a + b
    for a, b in itertools.product(
        ["Adler", "Berg", "Conrad", "Dahl", "Engel", "Falk", "Grimm", "Holm", "Iversen", "Jansen"],
        ["en", "ov", "son", "stein", "ini", "ard", "ner", "ley", "man", "ski"],
    )
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--recipe", default="alphaedit-blue")
    parser.add_argument("--batches", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument(
        "--prefixes", type=int, help="prefixes of every fact; fewer make reading keys cheaper, whose cost does not grow"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/scale"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    editor = Editor.load(args.model, targets=RandomTargets())
    settings = {} if args.prefixes is None else {"contexts.count": args.prefixes}
    names = (f"{first} {last}" for last, first in itertools.product(LAST, FIRST))
    log = []
    for number in range(args.batches):
        facts = [
            Fact("The mother tongue of {} is", subject=name, target="English")
            for name in itertools.islice(names, args.batch_size)
        ]
        started = time.perf_counter()
        editor.edit(facts, args.recipe, settings=settings, known="edit", report=False)
        seconds = time.perf_counter() - started
        log.append(
            {
                "batch": number + 1,
                "s_per_edit": seconds / len(facts),
                "memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            }
        )
        print(json.dumps(log[-1]), flush=True)
    (args.out / "scale.json").write_text(json.dumps({"recipe": args.recipe, "log": log}, indent=1))


class RandomTargets:
    """A source of targets with random residuals of a typical length."""

    def get(self, lm: EditableModel, rows: Sequence[Row], site: Site, *_: object) -> Targets:
        count = 1 + max(row.fact for row in rows)
        start = read_values(lm, rows, site, count)
        noise = torch.randn(start.shape, generator=torch.Generator().manual_seed(0))
        z = start + 0.5 * start.norm(dim=0) * torch.nn.functional.normalize(noise, dim=0)
        zero = torch.zeros(count)
        return Targets(z, start, zero.long(), zero)


if __name__ == "__main__":
    main()
