"""What lm-evaluation-harness cannot run is said in a sentence; and the command `bluedit harness`."""

from __future__ import annotations

import importlib
import json
import sys

import pytest
import torch
from typer.testing import CliRunner

from bluedit import BluEditError, Editor
from bluedit.cli.app import app
from bluedit.cli.harness_table import harness_table
from bluedit.errors import BenchmarkError
from bluedit.evaluate.tables import as_text
from bluedit.model.fingerprint import weights_fingerprint
from bluedit.model.loading import load
from toys import toy_llama, toy_tokenizer

pytest.importorskip("lm_eval")
pytest.importorskip("accelerate")

from harness_help import RECORDS, accuracy, alone, llama, tasks, write_task

from bluedit.benchmark.harness import evaluate_tasks, load_tasks

__all__ = ["alone", "llama", "tasks"]  # fixtures


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
    result = run("harness", tasks / "facts.yaml", "-m", llama[0], "--limit", 1, "--shots", 1, "--details")
    assert result.exit_code == 0, result.stderr
    row = next(line for line in result.stdout.splitlines() if "acc" in line)
    assert row.split()[:5] == ["facts", "acc", "↑", "1", "1"]
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
    table = harness_table(results, results, details=True)
    assert list(map(list, table.rows)) == [
        ["a", "acc ↑", "3", "5", "0.500", "0.500", "+0.000"],
        [" - b", "ppl ↓ (strict)", "", "", "1.23e+06 ± 0.500", "1.23e+06 ± 0.500", "+0.000"],
        [" - b", "words", "", "", "many", "many", "–"],
    ]
    assert [row[2:4] for row in harness_table(results).rows] == [["0.500"], ["1.23e+06 ± 0.500"], ["many"]]
    assert "1.23e+06 ± 0.500" in as_text([table])
