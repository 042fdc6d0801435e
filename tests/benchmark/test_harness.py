"""lm-evaluation-harness on toy models: the registered class, and tasks from files before and after a patch."""

from __future__ import annotations

import importlib
import random
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from bluedit import Editor
from bluedit.cli.harness_table import harness_table
from bluedit.errors import BenchmarkError, PatchError
from bluedit.evaluate.tables import as_text
from bluedit.model.fingerprint import weights_fingerprint
from bluedit.model.loading import load
from toys import toy_gpt2, toy_llama, toy_tokenizer

pytest.importorskip("lm_eval")
pytest.importorskip("accelerate")

from harness_help import ASKED, FACTS, RECORDS, accuracy, alone, llama, places, same_as_scores, tasks, told, write_task
from lm_eval.api.registry import get_model

from bluedit.benchmark.harness import HarnessModel, evaluate_tasks, load_tasks

__all__ = ["alone", "llama", "places", "tasks"]  # fixtures


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
        BenchmarkError, match=r"the model is loaded already; apply the patch to it with Editor\(model\)"
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
