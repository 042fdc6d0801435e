"""General ability: does an edited model still do what language models do? Six tasks in few-shot prompting, by the likelihoods of the label words.

The tasks are those that MEMIT's successors report (SST-2, MRPC, CoLA, RTE and NLI from GLUE, arXiv 1804.07461; MMLU, arXiv 2009.03300), asked in
words of our own; compare figures within bluedit, not with published ones. Label numbers are
GLUE's own: in RTE 0 is entailment, in MRPC 1 is equivalent, in CoLA 1 is acceptable, in SST-2 1 is positive.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bluedit.errors import FactError, did_you_mean
from bluedit.evaluate.answers import score
from bluedit.model.editable import EditableModel
from bluedit.progress import Progress

SHOTS = 4


@dataclass(frozen=True)
class Task:
    """One task as data.

    Attributes:
        ask: the record as a prompt that ends where the label word begins.
        words: label words by label; for MMLU the letters of the choices.
        label: the record's label as an index into `words`.
    """

    ask: Callable[[Mapping[str, Any]], str]
    words: tuple[str, ...]
    label: Callable[[Mapping[str, Any]], int]


@dataclass(frozen=True)
class Ability:
    """Result of one task: accuracy and F1 (mean over labels weighted by their frequency), shares between 0 and 1."""

    task: str
    accuracy: float
    f1: float
    items: int


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
    """Records of a task from JSONL.

    Raises:
        FactError: unknown task, or lines that are no records of it; all of them together.
    """
    if task not in TASKS:
        raise FactError(f"unknown task {task!r}; {did_you_mean(task, TASKS)}")
    records, faults = [], []
    try:
        lines = file.read_bytes().decode("utf-8").split("\n")
    except OSError as error:
        raise FactError(f"cannot read {file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise FactError(f"cannot read {file}: it is not UTF-8 text ({error})") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            json.dumps(record, ensure_ascii=False).encode()  # half a surrogate pair is no text
            TASKS[task].ask(record)
            if not 0 <= TASKS[task].label(record) < len(TASKS[task].words):
                raise ValueError("its label is out of range")
            records.append(record)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            faults.append(f"{file}, line {number}: not a record of {task} ({type(error).__name__}: {error})")
    if len(records) <= SHOTS and not faults:
        faults.append(f"{file} holds {len(records)} records; {SHOTS} are shown as examples, so more are needed")
    if faults:
        raise FactError("\n".join(faults[:20]))
    return records


def ability(
    lm: EditableModel, task: str, records: Sequence[Mapping[str, Any]], progress: Progress | None = None
) -> Ability:
    """Few-shot accuracy and F1: the first SHOTS records are examples, the label word of the highest mean log-probability is the answer.

    Raises:
        FactError: examples and question together are longer than the model can read.
    """
    row = TASKS[task]
    shown = _examples(task, records)
    asked = records[SHOTS:]
    pairs = [(row.ask(r), word) for r in asked for word in row.words]
    answers = iter(score(lm, pairs, progress, beginning=shown))
    labels = [row.label(r) for r in asked]
    given = []
    for _ in asked:
        likely = [next(answers).mean_logprob for _ in row.words]
        given.append(likely.index(max(likely)))
    right = sum(a == b for a, b in zip(labels, given, strict=True))
    return Ability(task, right / len(asked), weighted_f1(labels, given), len(asked))


def asked_texts(task: str, records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Every text that is put to the model, examples included, each with its longest label word."""
    row, shown = TASKS[task], _examples(task, records)
    return (f"{shown}{row.ask(record)} {max(row.words, key=len)}" for record in records[SHOTS:])


def _examples(task: str, records: Sequence[Mapping[str, Any]]) -> str:
    row = TASKS[task]
    return "".join(f"{row.ask(r)} {row.words[row.label(r)]}\n\n" for r in records[:SHOTS])


def weighted_f1(labels: Sequence[int], given: Sequence[int]) -> float:
    """F1 of each label, weighted by how often it is the right one."""
    total = 0.0
    for label in set(labels):
        both = sum(a == b == label for a, b in zip(labels, given, strict=True))
        precision_and_recall = labels.count(label) + list(given).count(label)
        total += 2 * both / precision_and_recall * labels.count(label) if precision_and_recall else 0.0
    return total / len(labels)
