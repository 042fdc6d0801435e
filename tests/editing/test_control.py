"""A lambda that follows drift: what each batch records is enough to go on from a patch as if it had never been saved."""

import json

import pytest
import torch

from bluedit import Editor, Patch
from toys import FACTS, toy_llama, toy_tokenizer

SETTINGS = {
    "layers": [1, 2],
    "preserve.lambda": 3.0,
    "preserve.tolerance": 0.1,
    "objective.steps": 3,
}


def editor_of(statistics):
    return Editor(toy_llama(), toy_tokenizer(), tokens=480, statistics=statistics)


def write(editor, fact):
    return editor.edit([fact], "lyaplock-lambda-blue", settings=SETTINGS, known="edit", report=False)


def control(edit):
    (batch,) = edit.patch.batches
    return batch.origin.control


def matrices(editor):
    return [editor.lm.projection(layer).matrix().clone() for layer in (1, 2)]


def test_lambda_rises_and_a_loaded_patch_goes_on_in_the_same_way(statistics, tmp_path):
    editor = editor_of(statistics)
    first, second = (write(editor, fact) for fact in FACTS[:2])
    assert [found.weight for found in control(first).values()] == [1.0, 1.0]
    before = control(first)[1]
    assert control(second)[1].weight == pytest.approx(before.weight + 1 / 0.1 - 1)

    C = editor.moments.get([1])[1].matrix
    dW = editor.lm.projection(1).matrix().double() - toy_llama().model.layers[1].mlp.down_proj.weight.detach().double()
    assert control(second)[1].drift == pytest.approx(float(torch.trace(dW @ C @ dW.T)), rel=1e-4)

    first.patch.save(tmp_path / "patch")
    other = editor_of(statistics)
    other.apply(tmp_path / "patch")
    again = write(other, FACTS[1])
    assert control(again) == control(second)
    assert all(torch.equal(a, b) for a, b in zip(matrices(other), matrices(editor), strict=True))

    second.undo()
    repeated = write(editor, FACTS[1])
    assert control(repeated) == control(second)
    assert all(torch.equal(a, b) for a, b in zip(matrices(editor), matrices(other), strict=True))


def test_patches_without_a_record_of_drift_can_be_read(statistics, tmp_path):
    editor = editor_of(statistics)
    edit = editor.edit(
        FACTS[:1], "memit-seq-blue", settings={"layers": [1, 2], "objective.steps": 3}, known="edit", report=False
    )
    assert control(edit) == {}
    edit.patch.save(tmp_path / "patch")
    (file,) = [file for file in (tmp_path / "patch").rglob("*.json") if file.name != "manifest.json"]
    assert json.loads(file.read_text())["origin"]["control"] == {}
    assert Patch.load(tmp_path / "patch").batches[0].origin.control == {}
