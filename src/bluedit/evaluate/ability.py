"""General ability of an edited model: six few-shot tasks, scored by the likelihoods of the label words.

The tasks are those that MEMIT's successors report (SST-2, MRPC, CoLA, RTE and NLI from GLUE, arXiv 1804.07461; MMLU, arXiv 2009.03300).
The prompts are worded by this project, so compare results within bluedit and not with published ones. Label numbers are GLUE's: in RTE
0 is entailment, in MRPC 1 is equivalent, in CoLA 1 is acceptable, in SST-2 1 is positive.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bluedit.errors import MALFORMED, FactError, did_you_mean
from bluedit.evaluate.data import Ability
from bluedit.files import read_bounded

if TYPE_CHECKING:
    from pathlib import Path

    from bluedit.evaluate.queries import Queries

SHOTS = 4
_SHOWN = 20  # faults in one error


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        ask: turns a record into a prompt that ends where the label word begins.
        words: the label words, by label; for MMLU the letters of the choices.
        label: gives a record's label as an index into `words`.
    """

    ask: Callable[[Mapping[str, Any]], str]
    words: tuple[str, ...]
    label: Callable[[Mapping[str, Any]], int]


def _number(record: Mapping[str, Any]) -> int:
    return int(record["label"])


def _nli(record: Mapping[str, Any]) -> int:
    return {"entailment": 0, "not_entailment": 1}[str(record["label"])]


def _pair(question: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda r: f"Sentence 1: {r['sentence1'].strip()}\nSentence 2: {r['sentence2'].strip()}\n{question}"


def _mmlu(record: Mapping[str, Any]) -> str:
    choices = "\n".join(f"{letter}. {choice}" for letter, choice in zip("ABCD", record["choices"], strict=True))
    return f"Question: {record['question'].strip()}\n{choices}\nAnswer:"


TASKS: Mapping[str, Task] = {
    "sst2": Task(lambda r: f"Review: {r['sentence'].strip()}\nSentiment:", ("negative", "positive"), _number),
    "mrpc": Task(_pair("Do both sentences say the same thing?"), ("no", "yes"), _number),
    "cola": Task(lambda r: f"Sentence: {r['sentence'].strip()}\nIs this sentence grammatical?", ("no", "yes"), _number),
    "rte": Task(_pair("Does the first sentence entail the second?"), ("yes", "no"), _number),
    "nli": Task(_pair("Does the first sentence entail the second?"), ("yes", "no"), _nli),
    "mmlu": Task(_mmlu, ("A", "B", "C", "D"), lambda r: int(r["answer"])),
}


def read_items(task: str, file: Path) -> list[dict[str, Any]]:
    """Records of a task from a JSONL file.

    Raises:
        FactError: an unknown task, or lines that are not records of it; all of them are listed.
    """
    if task not in TASKS:
        raise FactError(f"unknown task {task!r}; {did_you_mean(task, TASKS)}")
    records, faults = [], []
    for number, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        try:
            records.append(_record(TASKS[task], line))
        except MALFORMED as error:
            faults.append(f"{file}, line {number}: not a record of {task} ({type(error).__name__}: {error})")
    if len(records) <= SHOTS and not faults:
        faults.append(f"{file} holds {len(records)} records; {SHOTS} are shown as examples, so more are needed")
    if faults:
        raise FactError("\n".join(faults[:_SHOWN]))
    return records


def _lines(file: Path) -> list[str]:
    try:
        return read_bounded(file).decode("utf-8").split("\n")
    except OSError as error:
        raise FactError(f"cannot read {file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise FactError(f"cannot read {file}: it is not UTF-8 text ({error})") from error


def _record(task: Task, line: str) -> dict[str, Any]:
    """One record. Whatever is wrong with a line shows when its prompt and label are made."""
    record = json.loads(line)
    json.dumps(record, ensure_ascii=False).encode()  # half a surrogate pair is not text
    task.ask(record)
    if not 0 <= task.label(record) < len(task.words):
        raise ValueError("its label is out of range")
    return record


def ability(queries: Queries, task: str, records: Sequence[Mapping[str, Any]]) -> Ability:
    """Few-shot accuracy and F1. The first SHOTS records are examples; the model's answer to each of the others is the label word with the
    highest mean log-probability per token.

    Raises:
        FactError: examples and question together are longer than the model's context.
    """
    row, items = TASKS[task], records[SHOTS:]
    pairs = [(row.ask(record), word) for record in items for word in row.words]
    answers = iter(queries.score_after(_examples(task, records), pairs))
    labels = [row.label(record) for record in items]
    given = []
    for _ in items:
        scores = [next(answers).mean_logprob for _ in row.words]
        given.append(scores.index(max(scores)))
    right = sum(a == b for a, b in zip(labels, given, strict=True))
    return Ability(task, right / len(items), weighted_f1(labels, given), len(items))


def task_texts(task: str, records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Every text that the model reads for a task: examples, question, and the longest label word."""
    row, examples = TASKS[task], _examples(task, records)
    return (f"{examples}{row.ask(record)} {max(row.words, key=len)}" for record in records[SHOTS:])


def _examples(task: str, records: Sequence[Mapping[str, Any]]) -> str:
    row = TASKS[task]
    return "".join(f"{row.ask(record)} {row.words[row.label(record)]}\n\n" for record in records[:SHOTS])


def weighted_f1(labels: Sequence[int], given: Sequence[int]) -> float:
    """F1 of each label, weighted by the label's frequency."""
    total = 0.0
    for label in set(labels):
        both = sum(a == b == label for a, b in zip(labels, given, strict=True))
        precision_and_recall = labels.count(label) + list(given).count(label)
        total += 2 * both / precision_and_recall * labels.count(label) if precision_and_recall else 0.0
    return total / len(labels)
