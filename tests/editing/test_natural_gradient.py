"""Edits whose targets are found along natural gradients."""

from __future__ import annotations

import pytest
import torch
from editing_help import edit, make_editor
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from bluedit import Editor
from bluedit.writing.trace import Trace
from toys import FACTS, toy_tokenizer

NATURAL = {"descent": "natural-gradient", "objective.learning_rate": 0.2, "objective.clamp": 5.0}


class Losses(Trace):
    """The loss of every fact at each site."""

    def __init__(self):
        self.of = {}

    def on_target(self, site, targets):
        self.of[site] = targets.loss


def losses(family, recipe, steps, statistics):
    seen = Losses()
    editor = make_editor(family, statistics=statistics, trace=seen)
    edit(editor, FACTS[:3], recipe, settings={**NATURAL, "objective.steps": steps})
    return seen.of, editor


@pytest.mark.parametrize("recipe", ["memit-seq-blue", "memit-seq-joint", "pmet-blue"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_loss_goes_down_and_the_edit_can_be_undone(family, recipe, statistics):
    before, _ = losses(family, recipe, 1, statistics)
    after, editor = losses(family, recipe, 20, statistics)
    first = min(after, key=lambda site: site.layer)
    assert (after[first] < before[first] - 0.25).all()
    editor.edits[-1].undo()
    whole = make_editor(family).model.state_dict()
    assert all(torch.equal(tensor, whole[name]) for name, tensor in editor.model.state_dict().items())


def test_a_large_damping_is_momentum(statistics):
    updates = []
    for settings in ({**NATURAL, "descent.damping": 1e7}, {**NATURAL, "descent": "momentum"}):
        editor = make_editor(statistics=statistics)
        made = edit(editor, FACTS, "memit-seq-joint", settings={**settings, "objective.steps": 4})
        updates.append(torch.cat([update.R for batch in made.patch.batches for update in batch.updates], dim=1))
    assert (updates[0] - updates[1]).norm() < 1e-3 * updates[1].norm()
    editor = make_editor(statistics=statistics)
    other = edit(editor, FACTS, "memit-seq-joint", settings={**NATURAL, "objective.steps": 4})
    found = torch.cat([update.R for batch in other.patch.batches for update in batch.updates], dim=1)
    assert (found - updates[1]).norm() > 1e-2 * updates[1].norm()


def test_a_model_that_normalises_its_mlps_output(tmp_path):
    config = Gemma3TextConfig(
        vocab_size=432,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=256,
        initializer_range=0.3,
    )
    torch.manual_seed(0)
    editor = Editor(Gemma3ForCausalLM(config), toy_tokenizer(), tokens=480, statistics=tmp_path)
    settings = {**NATURAL, "layers": [0, 1], "preserve.lambda": 1.0, "objective.steps": 3}
    edit(editor, FACTS[:2], "memit-seq-joint", settings=settings)
    assert len(list(editor.moments.place.glob("fisher-*-mlp-0.safetensors"))) == 1
    assert all(torch.isfinite(layer.R).all() for batch in editor.patch.batches for layer in batch.updates)


def test_stored_targets_belong_to_the_text_of_the_statistics(statistics, tmp_path):
    settings = {**NATURAL, "objective.steps": 2}
    for tokens, files in ((480, 2), (480, 2), (640, 4)):
        editor = make_editor(statistics=statistics, targets=tmp_path, tokens=tokens)
        edit(editor, FACTS, "memit-seq-blue", settings=settings)
        assert len(list(tmp_path.glob("*.safetensors"))) == files
    for tokens in (480, 640):
        editor = make_editor(statistics=statistics, targets=tmp_path, tokens=tokens)
        edit(editor, FACTS, "memit-seq-blue", settings={**settings, "descent": "momentum"})
    assert len(list(tmp_path.glob("*.safetensors"))) == 6 + 1  # the second layer's target stands on the first write
