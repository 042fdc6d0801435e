"""Subjects that carry several facts, and facts that change: how many are said at the end.

    python benchmarks/subjects.py --subjects 10                 # ten make-believe companies with four facts each, in one edit
    python benchmarks/subjects.py --subjects 10 --one-by-one    # the same, each fact in an edit of its own
    python benchmarks/subjects.py --changes                     # two facts that change five times, each asked after every change

Said means that greedy text after the prompt begins with the target and the target ends there.
"""

from __future__ import annotations

import argparse
import time

from bluedit import Editor, Fact
from bluedit.evaluate.generate import continuations
from bluedit.evaluate.report import Report
from bluedit.evaluate.said import said
from bluedit.methods.presets import DEFAULT

NAMES = "Brightwater", "Calder", "Polder", "Osprey", "Lindale", "Marwick", "Tornby", "Halvard"
TRADES = "Foods", "Motors", "Bank", "Press", "Labs", "Tools", "Energy"
FIRST = "Marta", "Tom", "Ines", "Paul", "Aiko", "Nils", "Vera", "Omar"
LAST = "Jelinek", "Okafor", "Duarte", "Lindgren", "Mori", "Haas", "Sorel"
CITIES = "Ghent", "Porto", "Oslo", "Turin", "Leeds", "Graz", "Lyon", "Bern", "Riga", "Cork"
CHANGES = (
    ("The CEO of {} is", "Brightwater Foods", [f"{a} {b}" for a, b in zip(FIRST[:5], LAST, strict=False)]),
    ("{} is based in", "Calder Works", ["Porto", "Ghent", "Oslo", "Turin", "Leeds"]),
)


def companies(count: int) -> list[Fact]:
    """Four facts about each of so many companies, at most 56."""
    names = [f"{name} {trade}" for trade in TRADES for name in NAMES][:count]
    people = [f"{first} {last}" for first in FIRST for last in LAST]
    return [
        fact
        for i, name in enumerate(names)
        for fact in (
            Fact("The CEO of {} is", name, people[i]),
            Fact("The headquarters of {} is in", name, CITIES[i % len(CITIES)]),
            Fact("{} was founded in", name, str(1950 + i)),
            Fact("The owner of {} is", name, people[-1 - i]),
        )
    ]


def ask(editor: Editor, facts: list[Fact]) -> int:
    """Print facts that are not said, with the text instead; returns how many are said."""
    texts = continuations(editor.lm, [fact.text for fact in facts], 12)
    missed = [(fact, text) for fact, text in zip(facts, texts, strict=True) if not said(text, fact.target)]
    for fact, text in missed:
        print(f"  {fact.text} => {fact.target}, but the model writes {text!r}", flush=True)
    return len(facts) - len(missed)


def print_rest(report: Report | None) -> None:
    """Print what happened to everything else, where one edit wrote all facts."""
    if report and report.bystanders and report.chat_perplexity_before and report.chat_perplexity_after:
        alike, asked = (sum(of.values()) for of in (report.bystanders.alike, report.bystanders.asked))
        chat = report.chat_perplexity_after / report.chat_perplexity_before - 1
        prose = report.perplexity_after / report.perplexity_before - 1
        print(f"other answers that say the same: {alike} of {asked}; perplexity {prose:+.1%}, chat {chat:+.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--recipe", default=DEFAULT)
    parser.add_argument("--set", nargs="*", action="extend", default=[], metavar="OPTION=VALUE")
    parser.add_argument("--subjects", type=int, default=10)
    parser.add_argument("--one-by-one", action="store_true")
    parser.add_argument("--changes", action="store_true")
    given = parser.parse_args()
    settings = dict(pair.split("=", 1) for pair in given.set)
    editor, started = Editor.load(given.model), time.perf_counter()
    if given.changes:
        facts = [[Fact(prompt, subject, value) for value in values] for prompt, subject, values in CHANGES]
    else:
        every = companies(given.subjects)
        facts = [[fact] for k in range(4) for fact in every[k::4]] if given.one_by_one else [every]
    right = 0
    for part in facts:
        for written in [[fact] for fact in part] if given.changes else [part]:
            made = editor.edit(written, given.recipe, settings=settings, known="edit", report=len(facts) == 1)
            right += ask(editor, written) if given.changes else 0
            print_rest(made.report)
    seconds, asked = time.perf_counter() - started, [fact for part in facts for fact in part]
    right = right if given.changes else ask(editor, asked)
    print(f"{right} of {len(asked)} said; {seconds / len(asked):.1f} s a fact")


if __name__ == "__main__":
    main()
