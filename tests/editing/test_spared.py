"""Filters in factor form in an editor: the patch holds what was written, and nothing is filtered again."""

import pytest
import torch

from bluedit import Editor
from bluedit.methods.filters import WriteFilter
from toys import FACTS, fitting, toy_llama, toy_tokenizer

SETTINGS = {
    "layers": [1, 2],
    "preserve.lambda": 3.0,
    "preserve.threshold": 0.3,
    "preserve.unit": "rank",
    "objective.steps": 3,
    "filters.revive.energy": 0.3,
    "keys.energy": 0.3,
}


def edited(folder, name, facts=FACTS[:2], **more):
    editor = Editor(toy_llama(), toy_tokenizer(), tokens=480, statistics=folder)
    edit = editor.edit(facts, name, settings=fitting(name, SETTINGS, more), known="edit", report=False)
    return editor, edit


@pytest.mark.parametrize("name", ["revive-blue", "sphere-blue", "suit-keys-blue"])
def test_a_patch_gives_the_same_weights_without_filtering_again(name, statistics, tmp_path):
    editor, edit = edited(statistics, name)
    edit.patch.save(tmp_path / "patch")
    assert all(batch.filters == () for batch in edit.patch.batches)
    other = Editor(toy_llama(), toy_tokenizer(), tokens=480, statistics=statistics)
    other.apply(tmp_path / "patch")
    for layer in (1, 2):
        assert torch.equal(other.lm.projection(layer).matrix(), editor.lm.projection(layer).matrix())


def test_the_change_of_the_weight_is_the_product_of_the_factors(statistics):
    before = {layer: matrix(toy_llama(), layer) for layer in (1, 2)}
    editor, edit = edited(statistics, "revive")
    for layer in (1, 2):
        dW = sum(u.R.double() @ u.A.double() for u in edit.patch.batches[0].updates if u.layer == layer)
        U, s, _ = torch.linalg.svd(before[layer])
        k = int(((s**2).cumsum(0) / (s**2).sum() < 0.3).sum()) + 1
        assert torch.allclose(matrix(editor.model, layer) - before[layer], dW, atol=1e-6)
        assert (U[:, :k].T @ dW).norm() < 1e-5 * dW.norm()
        assert dW.norm() > 0


def matrix(model, layer):
    return model.model.layers[layer].mlp.down_proj.weight.detach().double().clone()


def test_reach_counts_what_a_filter_took(statistics):
    _, plain = edited(statistics, "memit-seq-blue")
    _, spared = edited(statistics, "memit-seq-blue", **{"filters": "revive", "filters.revive.energy": 0.8})
    assert spared.patch.batches[0].updates[0].reach.mean() < plain.patch.batches[0].updates[0].reach.mean()


def test_a_filter_in_factor_form_may_stand_beside_others(statistics):
    _, edit = edited(statistics, "memit-seq", filters="sphere+rect")
    assert [f.kind for f in edit.patch.batches[0].filters] == ["rect"]
    assert [f.kind for f in edit.recipe.update.filters] == ["sphere", "rect"]
    assert isinstance(edit.recipe.update.filters[0], WriteFilter)
