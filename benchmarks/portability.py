"""What follows from facts, with the facts alone taught and with their companions (`bluedit facts expand`): how many are said of each rule.

    python benchmarks/portability.py --facts benchmarks/portability.jsonl                # the facts alone
    python benchmarks/portability.py --facts benchmarks/portability.jsonl --companions   # with what follows from them by rule

A companion is asked at its prompt, and by a question that is not taught, in chat if the model has a chat template. Said means: greedy text
begins with the target and the target ends there; in the answer to a question it is contained as whole words.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

from bluedit import Editor, Fact, read_facts
from bluedit.evaluate.generate import continuations
from bluedit.evaluate.report import compare, measure
from bluedit.evaluate.said import mentions, said
from bluedit.facts import companions_of
from bluedit.facts.phrasebook import general_wordings_of, wordings_of
from bluedit.methods.presets import DEFAULT
from bluedit.text.wordings import chat_form

RULES = "inverse", "alias", "consequence"


def with_question(fact: Fact) -> Fact:
    """The fact with a question that is asked and not taught, if one can be made."""
    about = {"subject": fact.subject, "target": fact.target}
    found = wordings_of(fact.prompt, **about) or general_wordings_of(fact.prompt, **about)
    questions = found.questions if found else fact.phrasings
    asked = questions[-1:]
    return replace(
        fact,
        paraphrases=[text.replace("{}", fact.subject) for text in asked],
        phrasings=[text for text in fact.phrasings if text not in asked],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--facts", type=Path, required=True)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--recipe", default=DEFAULT)
    parser.add_argument("--set", nargs="*", action="extend", default=[], metavar="OPTION=VALUE")
    parser.add_argument("--companions", action="store_true", help="teach them, too")
    given = parser.parse_args()
    facts = [with_question(fact) for fact in read_facts(given.facts)]
    following = [(with_question(one.fact), one.rule) for one in companions_of(facts, RULES).companions]
    asked = [*((fact, "the facts themselves") for fact in facts), *following]
    editor = Editor.load(given.model)
    form = chat_form(editor.lm.tokenizer) or (lambda question, _: (f"Question: {question}\nAnswer:", ""))
    before = measure(editor.lm, facts)
    started = time.perf_counter()
    taught = [*facts, *(fact for fact, _ in following)] if given.companions else facts
    settings = dict(pair.split("=", 1) for pair in given.set)
    editor.edit(taught, given.recipe, settings=settings, known="edit", report=False)
    seconds = time.perf_counter() - started
    total, at_prompt, questions, answered = Counter(), Counter(), Counter(), Counter()
    texts = continuations(editor.lm, [fact.text for fact, _ in asked], 12)
    for (fact, rule), text in zip(asked, texts, strict=True):
        total[rule] += 1
        at_prompt[rule] += said(text, fact.target)
    turns = [(fact, rule, question) for fact, rule in asked for question in fact.paraphrases]
    texts = continuations(editor.lm, [form(question, "x")[0] for _, _, question in turns], 30)
    for (fact, rule, _), text in zip(turns, texts, strict=True):
        questions[rule] += 1
        answered[rule] += mentions(text, fact.target)
    print("| asked | at the prompt | a question in other words |\n| --- | --- | --- |")
    for rule, count in total.items():
        print(f"| {rule} | {at_prompt[rule]} of {count} | {answered[rule]} of {questions[rule]} |", flush=True)
    report = compare(editor.lm, before, measure(editor.lm, facts))
    if report.bystanders:
        alike, others = (sum(of.values()) for of in (report.bystanders.alike, report.bystanders.asked))
        print(f"\nother answers that say the same: {alike} of {others}")
    print(f"perplexity of ordinary text: {report.perplexity_after / report.perplexity_before - 1:+.1%}")
    print(f"facts taught: {len(taught)}; seconds for each of the {len(facts)} facts: {seconds / len(facts):.1f}")


if __name__ == "__main__":
    main()
