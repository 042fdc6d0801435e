"""A user's job: teach a file of facts with the default command, then ask as people ask. Prints a table of how many facts are said in each form.

    python benchmarks/job.py --facts benchmarks/company.jsonl                 # bluedit's own format; a paraphrase that ends in "?" is the question
    python benchmarks/job.py --facts benchmarks/company.jsonl --one-by-one    # the same facts, each in an edit of its own
    python benchmarks/job.py --facts benchmarks/company.jsonl --recipe memit-seq-blue --out before.json
    python benchmarks/job.py --facts benchmarks/company.jsonl --nothing-else  # prompts, subjects and targets alone, as a user gives them

A fact's own paraphrases are never taught. With --nothing-else the edit does not know them, so the phrase book may teach some; how many is said.
Said means: greedy text begins with the target and the target ends there; in answers to questions it is contained as whole words.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from bluedit import Editor, Fact, read_facts
from bluedit.evaluate.generate import continuations
from bluedit.evaluate.report import Report, compare, measure
from bluedit.evaluate.said import mentions, said
from bluedit.methods.presets import DEFAULT
from bluedit.text.wordings import chat_form

Said = Callable[[str, str], bool]


def forms(facts: list[Fact], chat: Callable[[str], str] | None) -> dict[str, tuple[list[tuple[str, str]], int, Said]]:
    """For each form of asking: (prompt, target) pairs, tokens of the answer, and what counts as said."""
    statements = [(text, fact.target) for fact in facts for text in fact.paraphrases if not text.endswith("?")]
    questions = [(text, fact.target) for fact in facts for text in fact.paraphrases if text.endswith("?")]
    asked = {
        "the prompt": ([(fact.text, fact.target) for fact in facts], 12, said),
        "a paraphrase nobody taught": (statements, 12, said),
        "Question: ... Answer:": ([(f"Question: {q}\nAnswer:", t) for q, t in questions], 12, mentions),
        "the bare question": (questions, 24, mentions),
    }
    if chat:
        asked["chat"] = ([(chat(q), t) for q, t in questions], 30, mentions)
        polite = [(chat(f"I would like to know this: {q[0].lower()}{q[1:]}"), t) for q, t in questions]
        asked["chat, in other words"] = (polite, 30, mentions)
    return {name: form for name, form in asked.items() if form[0]}


def others(report: Report) -> dict[str, str]:
    """What happened to everything else: answers to bundled ordinary questions, and the perplexity of ordinary text and of chat turns."""
    found = {}
    if report.bystanders:
        for form, asked in report.bystanders.asked.items():
            found[f"other answers unchanged, {form}"] = f"{report.bystanders.same[form]} of {asked}"
            found[f"other answers that say the same, {form}"] = f"{report.bystanders.alike[form]} of {asked}"
    found["perplexity of ordinary text"] = f"{report.perplexity_after / report.perplexity_before - 1:+.1%}"
    if report.chat_perplexity_before and report.chat_perplexity_after:
        found["perplexity of chat turns"] = f"{report.chat_perplexity_after / report.chat_perplexity_before - 1:+.1%}"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--facts", type=Path, required=True)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--recipe", default=DEFAULT)
    parser.add_argument("--set", nargs="*", action="extend", default=[], metavar="OPTION=VALUE")
    parser.add_argument("--one-by-one", action="store_true")
    parser.add_argument("--nothing-else", action="store_true", help="give the edit prompts, subjects and targets alone")
    parser.add_argument("--out", type=Path, help="file for all texts, as JSON")
    given = parser.parse_args()
    facts = read_facts(given.facts)
    editor = Editor.load(given.model)
    form = chat_form(editor.lm.tokenizer)
    asked = forms(facts, (lambda text: form(text, "x")[0]) if form else None)
    before = measure(editor.lm, facts)
    settings = dict(pair.split("=", 1) for pair in given.set)
    started = time.perf_counter()
    taught = [replace(fact, paraphrases=()) for fact in facts] if given.nothing_else else facts
    for part in [[fact] for fact in taught] if given.one_by_one else [taught]:
        editor.edit(part, given.recipe, settings=settings, known="edit", report=False)
    seconds = time.perf_counter() - started
    texts = {}
    print(f"| asked, {given.recipe} | said |\n| --- | --- |")
    for name, (pairs, tokens, counts) in asked.items():
        answers = continuations(editor.lm, [prompt for prompt, _ in pairs], tokens)
        right = [counts(answer, target) for answer, (_, target) in zip(answers, pairs, strict=True)]
        texts[name] = [
            {"prompt": prompt, "target": target, "answer": answer, "said": found}
            for (prompt, target), answer, found in zip(pairs, answers, right, strict=True)
        ]
        print(f"| {name} | {sum(right)} of {len(right)} |", flush=True)
    if given.nothing_else:
        known = {text for batch in editor.patch.batches for fact in batch.facts for text in fact.texts}
        texts_asked = [text for fact in facts for text in fact.paraphrases]
        print(
            f"| paraphrases and questions that were taught | {sum(text in known for text in texts_asked)} of {len(texts_asked)} |"
        )
    report = compare(editor.lm, before, measure(editor.lm, facts))
    for name, value in others(report).items():
        print(f"| {name} | {value} |")
    print(f"| seconds per fact | {seconds / len(facts):.1f} |")
    if report.bystanders:
        texts["other answers"] = [asdict(one) for one in report.bystanders.answers]
    if given.out:
        given.out.write_text(json.dumps(texts, indent=1, ensure_ascii=False), "utf-8")


if __name__ == "__main__":
    main()
