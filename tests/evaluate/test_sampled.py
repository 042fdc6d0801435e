"""Sampled continuations side by side are those of prompts of equal length together, whatever the model's family."""

import logging

import pytest
import torch
from test_greedy import BESIDE, OTHERS, PROMPTS, model

from bluedit.errors import FactError, ModelError
from bluedit.evaluate import _sampled
from bluedit.evaluate.data import Sampling
from bluedit.evaluate.generate import continuations
from bluedit.evaluate.model_queries import ModelQueries
from bluedit.text.prompts import encode

SAMPLING = Sampling(tokens=12, top_k=5, seed=3)


@pytest.mark.parametrize("name", BESIDE)
def test_side_by_side_as_by_length(name, monkeypatch):
    """The rows have other lengths and shared beginnings, and run in two batches."""
    lm = model(name)
    wanted = continuations(lm, PROMPTS, SAMPLING)
    monkeypatch.delattr(_sampled, "continuations")
    state = torch.get_rng_state()
    assert ModelQueries(lm, prompts_per_pass=3).continuations(PROMPTS, SAMPLING) == wanted
    assert torch.equal(torch.get_rng_state(), state)
    assert len(set(wanted)) == len(PROMPTS)


@pytest.mark.parametrize("name", OTHERS)
def test_models_that_cannot_run_side_by_side(name, caplog):
    lm = model(name)
    with caplog.at_level(logging.INFO):
        assert ModelQueries(lm).continuations(PROMPTS, SAMPLING) == continuations(lm, PROMPTS, SAMPLING)
    assert f"{name} continues prompts of equal length together" in caplog.text


def test_logits_that_differ_from_the_plain_forward_are_not_used(monkeypatch, caplog):
    """As if a family computed its own positions and began at 0 after the cached tokens."""
    lm = model("llama")
    wanted, forward = continuations(lm, PROMPTS, SAMPLING), type(lm.model.model).forward

    def own_positions(self, *args, position_ids=None, **kwargs):
        if position_ids is not None and position_ids.shape[1] == 1 and len(position_ids) == 5:
            position_ids = torch.zeros_like(position_ids)
        return forward(self, *args, position_ids=position_ids, **kwargs)

    monkeypatch.setattr(type(lm.model.model), "forward", own_positions)
    with caplog.at_level(logging.INFO):
        assert ModelQueries(lm).continuations(PROMPTS, SAMPLING) == wanted
    assert "its logits differ from the plain forward's" in caplog.text


def test_texts_have_the_same_length_and_no_end(monkeypatch):
    """Shorter text has lower entropy, so the model's end token is never drawn; only the context ends a text."""
    lm = model("llama")
    monkeypatch.delattr(_sampled, "continuations")
    often = encode(lm.tokenizer, ModelQueries(lm).continuations(PROMPTS[:1], SAMPLING)[0])[0]
    lm.model.generation_config.eos_token_id = sorted(set(often))
    rows = [encode(lm.tokenizer, prompt)[0] for prompt in PROMPTS]
    texts = _sampled._side_by_side(lm, PROMPTS, rows, SAMPLING, ModelQueries(lm).progress, 64)
    assert all(len(text.tokens) == 12 and not set(text.tokens) & set(often) for text in texts)
    longest = max(map(len, rows))
    lm.model.config.max_position_embeddings = longest + 2
    texts = _sampled._side_by_side(lm, PROMPTS, rows, SAMPLING, ModelQueries(lm).progress, 64)
    assert [len(text.tokens) for text in texts] == [min(12, longest + 2 - len(row)) for row in rows]


def test_what_cannot_be_continued():
    lm = model("llama")
    assert ModelQueries(lm).continuations([], SAMPLING) == []
    length = max(len(encode(lm.tokenizer, prompt)[0]) for prompt in PROMPTS)
    lm.model.config.max_position_embeddings = length - 1
    with pytest.raises(FactError, match=rf"a prompt of {length} tokens is longer than the {length - 1} llama can read"):
        ModelQueries(lm).continuations(PROMPTS, SAMPLING)
    lm = model("llama")
    with torch.no_grad():
        lm.projection(1).matrix().mul_(torch.nan)
    with pytest.raises(ModelError, match="NaN or infinity"):
        ModelQueries(lm).continuations(PROMPTS, SAMPLING)
