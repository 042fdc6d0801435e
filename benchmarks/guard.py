"""What ordinary edits cost by the rules of a guard, and what softening does: the numbers of docs/guard.md.

    python benchmarks/guard.py --out guard.json --edit company=benchmarks/company.jsonl:0:5 --edit counterfact=FILE:1000:20
    python benchmarks/guard.py --out guard.json --edit weak=benchmarks/company.jsonl:0:5:natural-joint:preserve.lambda=1

Shares above 1 write more than the edit found. Targets are kept in the folder OUT.targets, for edits that differ in how they write them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bluedit import Editor, Fact, Patch, Trace, read_facts
from bluedit.editing.guard import Guard
from bluedit.evaluate.answers import score
from bluedit.methods.presets import DEFAULT
from bluedit.model.sites import Site
from bluedit.writing.batch import Batch
from bluedit.writing.target import Targets

NO_LIMITS = Guard("efficacy=0", "perplexity=1e9", "kl=1e9", "norm=1e9", "protected=1")
PROTECTED = [
    Fact("The capital of {} is", subject=country, target=capital)
    for country, capital in (("Japan", "Tokyo"), ("Italy", "Rome"), ("Spain", "Madrid"), ("Germany", "Berlin"))
]


class Losses(Trace):
    """The loss of each column's last target."""

    def __init__(self) -> None:
        self.now: list[float] = []
        self.batches: list[list[float]] = []

    def on_target(self, site: Site, targets: Targets) -> None:
        del site
        self.now = targets.loss.tolist()

    def on_batch(self, batch: Batch) -> None:
        del batch
        self.batches.append(self.now)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--edit", action="append", default=[], help="NAME=FILE:SKIP:COUNT[:RECIPE[:OPTION=VALUE,...]]")
    parser.add_argument("--shares", type=float, nargs="*", default=[0.25, 0.5, 0.7, 0.85, 1.0])
    parser.add_argument("--tokens", type=int, help="of key statistics")
    options = parser.parse_args()
    trace = Losses()
    targets = options.out.with_suffix(".targets")
    editor = Editor.load(options.model, trace=trace, tokens=options.tokens, targets=targets)
    rows = []
    for asked in options.edit:
        name, _, place = asked.partition("=")
        file, skip, count, *how = place.split(":", 4)
        facts = read_facts(file, skip=int(skip), limit=int(count))
        rows.append(measured(editor, trace, name, facts, *how, shares=options.shares))
        options.out.write_text(json.dumps(rows, indent=1))
        print(json.dumps(rows[-1]), flush=True)


def measured(
    editor: Editor,
    trace: Losses,
    name: str,
    facts: Sequence[Fact],
    recipe: str = DEFAULT,
    options: str = "",
    *,
    shares: Sequence[float],
) -> dict[str, object]:
    """One edit: figures of the whole change and of shares of it; the losses of targets whose facts are said, and of the others."""
    trace.batches.clear()
    started = time.perf_counter()
    settings = dict(option.split("=", 1) for option in options.split(",") if option)
    guard: dict[str, Any] = {"guard": NO_LIMITS, "protect": PROTECTED, "on_violation": "warn"}
    edit = editor.edit(facts, recipe, settings=settings, known="edit", report=False, **guard)
    seconds = time.perf_counter() - started
    # private: the guard's own measure of the unedited model, so that nothing is measured twice
    unsaid = {fact.text for fact in editor._baseline.unsaid(edit.facts)}
    losses = []
    for columns, batch in zip(trace.batches, edit.patch.batches, strict=True):
        if len(columns) == len(batch.written):  # one column a fact
            losses += [
                (round(loss, 3), fact.text not in unsaid) for loss, fact in zip(columns, batch.facts, strict=False)
            ]
    edit.undo()
    return {
        "name": name,
        "recipe": recipe,
        "settings": settings,
        "facts": len(facts),
        "seconds": round(seconds, 1),
        "shares": [{"share": share, **figures(editor, edit.patch, facts, share)} for share in shares],
        "losses": losses,
    }


def figures(editor: Editor, patch: Patch, facts: Sequence[Fact], share: float) -> dict[str, float]:
    """The rules' figures with a share of a patch's change; filters would change the share."""
    scaled = [
        replace(batch, updates=tuple(replace(update, R=update.R * share) for update in batch.updates))
        for batch in patch.batches
    ]
    editor.apply(Patch(patch.base, tuple(scaled)), force=True)
    baseline = editor._baseline  # private, as above
    paraphrases = [(text, fact.target) for fact in facts for text in fact.paraphrases]
    said = [answer.said for answer in score(editor.lm, paraphrases)]
    found = {
        "said": 1 - len(baseline.unsaid(facts)) / len(facts),
        "paraphrases": sum(said) / max(1, len(said)),
        "perplexity": baseline.perplexity_rise(),
        "kl": baseline.passage_kl(),
        "norm": max(editor._weights.norm_growth().values()),  # private: what the rule `norm` reads
        "protected": max(baseline.changes(PROTECTED)),
    }
    editor.undo()
    return {key: round(value, 5) for key, value in found.items()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
