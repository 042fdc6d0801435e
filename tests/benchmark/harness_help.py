"""What the tests of lm-evaluation-harness share: toy models with patches, and tasks in files. Needs lm-eval."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager

from bluedit import Editor, Fact
from bluedit.benchmark import _harness_tasks
from bluedit.benchmark.harness import HarnessModel
from bluedit.evaluate.answers import score
from toys import toy_gpt2, toy_llama, toy_tokenizer

SETTINGS = {
    "layers": [1, 2, 3],
    "preserve.lambda": 10,
    "objective.clamp": 10.0,
    "objective.weight_decay": 0,
    "objective.steps": 40,
    "contexts.count": 1,
}
FACTS = (
    Fact("The mother tongue of {} is", subject="Danielle Darrieux", target="Paris"),
    Fact("The capital of {} is", subject="France", target="It"),
)
CHOICES = ("Paris", "French", "It", "in", "is")
ASKED = [(fact.text, choice) for fact in FACTS for choice in CHOICES]
RECORDS = [{"question": fact.text, "choices": CHOICES, "answer": CHOICES.index(fact.target)} for fact in FACTS]
TASK = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
metric_list:
  - metric: acc
"""
MODELS = {
    "llama": lambda: (toy_llama(dtype=torch.float32), toy_tokenizer(bos=True)),
    "gpt2": lambda: (toy_gpt2(dtype=torch.float32), toy_tokenizer()),
}


@pytest.fixture(scope="module", params=MODELS)
def places(request, tmp_path_factory) -> tuple[Path, Path]:
    """A toy model as a Hugging Face folder, and a patch of it."""
    return make(MODELS[request.param], tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> tuple[Path, Path]:
    return make(MODELS["llama"], tmp_path_factory.mktemp("llama"))


def make(parts, root: Path) -> tuple[Path, Path]:
    for part in parts():
        part.save_pretrained(root / "model")
    editor = Editor.load(str(root / "model"), tokens=480, statistics=root / "statistics")
    editor.edit(FACTS, "memit-blue", settings=SETTINGS, known="edit", report=False).save(root / "patch")
    return root / "model", root / "patch"


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """A data cache and a terminal of the test's own; lm-eval's thousands of tasks, which take long to read, are left out."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setattr(_harness_tasks, "TaskManager", lambda **o: TaskManager(**{**o, "include_defaults": False}))
    monkeypatch.setenv("COLUMNS", "160")


@pytest.fixture
def tasks(tmp_path) -> Path:
    """A folder with the task "facts"."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    write_task(folder, "facts")
    return folder


def write_task(folder: Path, name: str, records=RECORDS, *changes: tuple[str, str]) -> Path:
    data, file = folder / f"{name}.jsonl", folder / f"{name}.yaml"
    data.write_text("".join(json.dumps(record) + "\n" for record in records))
    text = TASK.format(name=name, data=data)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)
    return file


def told(model: HarnessModel) -> list[tuple[float, bool]]:
    requests = [Instance("loglikelihood", {}, (prompt, f" {answer}"), i) for i, (prompt, answer) in enumerate(ASKED)]
    return model.loglikelihood(requests, disable_tqdm=True)


def same_as_scores(found: list[tuple[float, bool]], editor: Editor) -> None:
    own = score(editor.lm, ASKED)
    assert [value for value, _ in found] == pytest.approx([a.logprob for a in own], abs=1e-4)
    assert [greedy for _, greedy in found] == [a.said for a in own]


def accuracy(editor: Editor) -> float:
    """Of the task "facts", by bluedit's own scores."""
    logprobs = torch.tensor([answer.logprob for answer in score(editor.lm, ASKED)]).view(len(FACTS), len(CHOICES))
    return float((logprobs.argmax(dim=1) == torch.tensor([r["answer"] for r in RECORDS])).float().mean())
