"""lm-evaluation-harness on toy models: the registered class, tasks from files on disk, before and after a patch."""

from __future__ import annotations

import importlib
import json
import random
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from bluedit import BluEditError, Editor, Fact
from bluedit.cli.app import app
from bluedit.cli.harness_table import harness_table
from bluedit.errors import BenchmarkError, PatchError
from bluedit.evaluate.answers import score
from bluedit.evaluate.tables import as_text
from bluedit.model.fingerprint import weights_fingerprint
from bluedit.model.loading import load
from toys import toy_gpt2, toy_llama, toy_tokenizer

pytest.importorskip("lm_eval")
pytest.importorskip("accelerate")

import datasets
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from lm_eval.tasks import TaskManager

from bluedit.benchmark import harness
from bluedit.benchmark.harness import HarnessModel, evaluate_tasks, load_tasks

SETTINGS = {
    "layers": [1, 2, 3],
    "preserve.lambda": 10,
    "preserve.unit": "energy",
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
    monkeypatch.setattr(harness, "TaskManager", lambda **o: TaskManager(**{**o, "include_defaults": False}))
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


# the class


def test_a_patch_is_applied_and_likelihoods_are_bluedits_own(places):
    model, patch = places
    before = told(HarnessModel(str(model), batch_size=3))
    after = told(HarnessModel(str(model), str(patch)))
    editor = Editor(load(str(model)))
    same_as_scores(before, editor)
    editor.apply(patch)
    same_as_scores(after, editor)
    targets = [ASKED.index((fact.text, fact.target)) for fact in FACTS]
    assert sum(after[i][0] - before[i][0] for i in targets) > 0.5 * len(FACTS)


def test_lm_eval_makes_it_by_name_from_a_string(llama):
    model, patch = llama
    made = get_model("bluedit").create_from_arg_string(
        f"model={model},patch={patch},dtype=float32,max_length=64", {"batch_size": 2, "device": None}
    )
    assert isinstance(made, HarnessModel)
    assert (made.batch_size, made.max_length) == (2, 64)
    plain = get_model("bluedit").create_from_arg_string(f"model={model},dtype=float32", {"device": "cpu"})
    editor = Editor(plain.lm)
    assert weights_fingerprint(made.lm.model) != editor.journal.base.fingerprint
    editor.apply(patch)
    info = made.get_model_info()
    assert info["weights_fingerprint"] == weights_fingerprint(editor.model)
    assert (info["patch"], info["model_name"], info["model_dtype"]) == (str(patch), str(model), "torch.float32")


def test_where_newer_versions_look_for_it():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    module, _, name = project["entry-points"]["lm_eval.models"]["bluedit"].partition(":")
    assert getattr(importlib.import_module(module), name) is HarnessModel


def test_lm_evals_default_device_on_a_machine_without_one(llama, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert HarnessModel(str(llama[0]), device="cuda:0").lm.device.type == "cpu"


def test_a_mistyped_argument_is_not_passed_over(llama):
    with pytest.raises(BenchmarkError, match="the harness model has no argument 'pacth'; did you mean 'patch'"):
        HarnessModel(str(llama[0]), pacth="patch")
    with pytest.raises(BenchmarkError, match="has no argument 'parallelize'"):
        HarnessModel(str(llama[0]), parallelize=True)
    with pytest.raises(
        BenchmarkError, match=r"the model is loaded already; write the patch into it with Editor\(model\)"
    ):
        HarnessModel(Editor.load(str(llama[0])), llama[1])


def test_a_patch_of_another_model(llama, tmp_path):
    other = toy_llama(seed=1, dtype=torch.float32)
    other.save_pretrained(tmp_path / "other")
    toy_tokenizer(bos=True).save_pretrained(tmp_path / "other")
    with pytest.raises(PatchError):
        HarnessModel(str(tmp_path / "other"), llama[1])
    assert HarnessModel(str(tmp_path / "other"), llama[1], force=True).patch == str(llama[1])


# tasks


def test_accuracy_before_and_after(llama, tasks):
    editor = Editor.load(str(llama[0]))
    before = evaluate_tasks(editor, "facts", include=tasks)
    assert before["results"]["facts"]["acc,none"] == accuracy(editor)
    editor.apply(llama[1])
    after = evaluate_tasks(editor.lm, [str(tasks / "facts.yaml")])
    assert after["results"]["facts"]["acc,none"] == accuracy(editor) == 1.0 > before["results"]["facts"]["acc,none"]
    assert after["n-samples"]["facts"] == {"original": 2, "effective": 2}
    assert (
        before["config"]["weights_fingerprint"]
        == editor.journal.base.fingerprint
        != after["config"]["weights_fingerprint"]
    )
    assert "samples" not in after


def test_tasks_loaded_once_serve_any_number_of_shots_and_items(llama, tasks):
    asked = load_tasks(["facts"], tasks)
    model = HarnessModel(Editor.load(str(llama[0])), batch_size=2)
    for shots, limit in ((None, None), (1, None), (None, 1)):
        found = evaluate_tasks(model, asked, shots=shots, limit=limit, log_samples=True)
        assert found["n-shot"]["facts"] == (shots or 0)
        samples = found["samples"]["facts"]
        assert len(samples) == (limit or 2)
        prompts = {s["arguments"][0][0] for s in samples}
        assert all(prompt.count(" is") == 1 + (shots or 0) for prompt in prompts)


def test_groups_and_tags(llama, tasks):
    write_task(tasks, "one", RECORDS[:1], ("task: one", "task: one\ntag: both"))
    write_task(tasks, "two", RECORDS[1:], ("task: two", "task: two\ntag: both"))
    (tasks / "all.yaml").write_text(
        "group: all\ntask: [one, two]\naggregate_metric_list:\n  - metric: acc\n    weight_by_size: true\n"
    )
    lm = load(str(llama[0]))
    tagged = evaluate_tasks(lm, "both", include=tasks)["results"]
    grouped = evaluate_tasks(lm, ["all"], include=tasks)
    assert set(tagged) == {"one", "two"}
    mean = (tagged["one"]["acc,none"] + tagged["two"]["acc,none"]) / 2
    assert grouped["results"]["all"]["acc,none"] == pytest.approx(mean)
    text = as_text([harness_table(grouped)])
    assert [text.index(name) for name in ("all", "one", "two")] == sorted(text.index(n) for n in ("all", "one", "two"))


def test_everything_is_left_as_it_was(tasks):
    model, tokenizer = toy_gpt2(dtype=torch.float32), toy_tokenizer()
    model.train()
    model.transformer.h[1].eval()
    editor = Editor(model, tokenizer)
    before = editor.journal.base.fingerprint
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    draws = random.random(), float(np.random.rand()), float(torch.rand(()))
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    evaluate_tasks(editor, "facts", include=tasks)
    assert (random.random(), float(np.random.rand()), float(torch.rand(()))) == draws
    assert model.training and not model.transformer.h[1].training and not model.transformer.h[1].mlp.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert tokenizer.pad_token is None
    assert weights_fingerprint(model) == before


# errors


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            (("{{question}}", "{{quest}}"),),
            r"the task wrong \(.*wrong.yaml\) cannot be loaded: UndefinedError: 'quest'",
        ),
        ((("test_split", "tst_split"),), "cannot be loaded: TypeError: .*unexpected keyword argument 'tst_split'"),
        ((("wrong.jsonl", "gone.jsonl"),), "cannot be loaded: FileNotFoundError: Unable to find .*gone.jsonl"),
    ],
)
def test_a_broken_task(tmp_path, changes, sentence):
    write_task(tmp_path, "wrong", RECORDS, *changes)
    with pytest.raises(BenchmarkError, match=sentence) as caught:
        load_tasks("wrong", tmp_path)
    assert "\n" not in str(caught.value)


def test_data_that_cannot_be_read(tmp_path):
    file = write_task(tmp_path, "wrong")
    file.with_suffix(".jsonl").write_text('{"question": ')
    with pytest.raises(BenchmarkError, match=r"the task .*wrong.yaml cannot be loaded: .*JSON parse error"):
        load_tasks(str(file))


def test_a_task_that_fails_on_the_way(llama, tmp_path):
    records = [RECORDS[0], {**RECORDS[1], "choices": []}]
    write_task(tmp_path, "late", records)
    with pytest.raises(BenchmarkError, match=r"^lm-eval cannot run late: \w+: .*$"):
        evaluate_tasks(load(str(llama[0])), "late", include=tmp_path)


def test_unknown_tasks(tasks):
    with pytest.raises(
        BenchmarkError, match=r"there is no task 'fact' in .*tasks or in lm-eval; did you mean 'facts'\?$"
    ):
        load_tasks(["facts", "fact"], tasks)
    with pytest.raises(BenchmarkError, match="there is no task 'xyz' in lm-eval, and no such file; 'lm-eval ls tasks'"):
        load_tasks("xyz")
    with pytest.raises(BenchmarkError, match="no tasks were given"):
        load_tasks([])
    with pytest.raises(BenchmarkError, match="there is no folder nowhere of task files"):
        load_tasks("facts", "nowhere")
    (tasks / "bad.yaml").write_text("task: bad\n  x: [1\n")
    (tasks / "note.yaml").write_text("author: me\n")
    (tasks / "function.yaml").write_text("task: function\nprocess_docs: !function helper.process\n")
    with pytest.raises(BenchmarkError) as caught:
        load_tasks("bad", tasks)
    message = str(caught.value)
    assert f"Not readable in {tasks}: bad.yaml (ScannerError: mapping values are not allowed here" in message
    assert "note.yaml (it has no line 'task: NAME')" in message
    assert "function.yaml" not in message


@pytest.mark.parametrize("package", ["lm_eval", "accelerate"])
def test_without_the_packages(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "bluedit.benchmark.harness")
    with pytest.raises(BluEditError, match="run: pip install lm-eval accelerate"):
        importlib.import_module("bluedit.benchmark.harness")


# the command


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_the_command_shows_both_side_by_side(llama, tasks, tmp_path):
    model, patch = llama
    out = tmp_path / "new" / "results.json"
    result = run("harness", "facts", "-m", model, "--patch", patch, "--include", tasks, "--out", out)
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    for part in ("facts", "acc ↑", "unedited", "with the patch", "change", "1.000 ± 0.000"):
        assert part in result.stdout
    saved = json.loads(out.read_text())
    scores = {key: saved[key]["results"]["facts"]["acc,none"] for key in ("unedited", "edited")}
    editor = Editor.load(str(model))
    assert scores["unedited"] == accuracy(editor)
    editor.apply(patch)
    assert scores["edited"] == accuracy(editor)
    assert f"{scores['edited'] - scores['unedited']:+.3f}" in result.stdout
    assert saved["edited"]["config"]["patch"] == str(patch)
    assert saved["edited"]["config"]["weights_fingerprint"] == weights_fingerprint(editor.model)


def test_the_command_without_a_patch(llama, tasks):
    result = run("harness", tasks / "facts.yaml", "-m", llama[0], "--limit", 1, "--shots", 1)
    assert result.exit_code == 0, result.stderr
    row = next(line for line in result.stdout.splitlines() if "acc" in line)
    assert [cell.strip() for cell in row.strip("│ ").split("│")][:4] == ["facts", "acc ↑", "1", "1"]
    assert "value" in result.stdout and "patch" not in result.stdout


def test_the_command_fails_in_one_sentence(llama, tasks, tmp_path):
    model, patch = llama
    other = tmp_path / "other"
    toy_llama(seed=1, dtype=torch.float32).save_pretrained(other)
    toy_tokenizer(bos=True).save_pretrained(other)
    for arguments, code, sentence in (
        (("fact", "-m", model, "--include", tasks), 9, "did you mean 'facts'?"),
        (("facts", "-m", other, "--include", tasks, "--patch", patch), 7, "patch"),
        (("facts", "-m", model, "--include", tasks, "--patch", tmp_path / "none"), 7, "is not a patch"),
        (("facts", "-m", tmp_path / "none", "--include", tasks), 4, "there is no model"),
        (("facts", "-m", model, "--include", tasks, "-o", tasks), 9, "name a file for the results"),
    ):
        result = run("harness", *arguments)
        assert result.exit_code == code, result.output
        assert result.stderr.startswith("bluedit: ") and result.stderr.count("\n") == 1
        assert sentence in result.stderr
        assert result.stdout == ""


def test_the_table_shows_what_lm_eval_may_say():
    results = {
        "results": {
            "a": {"alias": "a", "name": "a", "sample_len": 3, "acc,none": 0.5, "acc_stderr,none": "N/A"},
            "b": {"alias": " - b", "ppl,strict": 1234567.0, "ppl_stderr,strict": 0.5, "words,none": "many"},
        },
        "higher_is_better": {"a": {"acc": True}, "b": {"ppl": False}},
        "n-samples": {"a": {"original": 9, "effective": 3}},
        "n-shot": {"a": 5},
    }
    text = as_text([harness_table(results, results)])
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]
    assert rows == [
        ["a", "acc ↑", "3", "5", "0.500", "0.500", "+0.000"],
        ["- b", "ppl ↓ (strict)", "", "", "1.23e+06 ± 0.500", "1.23e+06 ± 0.500", "+0.000"],
        ["- b", "words", "", "", "many", "many", "–"],
    ]
