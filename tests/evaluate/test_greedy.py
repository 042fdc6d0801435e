"""Greedy continuations side by side are those of single prompts, whatever the model's family."""

import logging
from functools import partial

import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    FalconH1Config,
    FalconH1ForCausalLM,
    Lfm2Config,
    Lfm2ForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from bluedit.errors import FactError, ModelError
from bluedit.evaluate import _greedy
from bluedit.evaluate._greedy import greedy
from bluedit.evaluate.answers import logits_at
from bluedit.evaluate.generate import ask
from bluedit.model.editable import EditableModel
from bluedit.text.prompts import encode
from toys import toy_gpt2, toy_llama, toy_tokenizer

GROUPED = {
    "vocab_size": 432,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "initializer_range": 0.3,
}
STATES = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 8}
BESIDE = {
    "llama": toy_llama,
    "llama in float32": partial(toy_llama, dtype=torch.float32),
    "gpt2": toy_gpt2,
    "bloom": lambda: BloomForCausalLM(BloomConfig(vocab_size=432, n_layer=2, n_head=4, hidden_size=32)),
    "window": lambda: MistralForCausalLM(MistralConfig(**GROUPED, sliding_window=64)),
}
OTHERS = {
    "state space": lambda: FalconH1ForCausalLM(FalconH1Config(**GROUPED, mamba_d_ssm=64, **STATES)),
    "convolution": lambda: Lfm2ForCausalLM(Lfm2Config(**GROUPED, layer_types=["conv", "full_attention"])),
}
PROMPTS = (
    "The capital of France is",
    "I",
    "The capital of England is",
    "The capital of France is Paris. Where is the Eiffel Tower? It is in",
    "Because of the rain, we",
)


def model(name):
    torch.manual_seed(0)
    return EditableModel.of((BESIDE | OTHERS)[name]().eval(), toy_tokenizer(), name)


def alone(lm, rooms):
    return [ask(lm, [prompt], tokens=room)[0].text for prompt, room in zip(PROMPTS, rooms, strict=True)]


@pytest.mark.parametrize("name", BESIDE)
def test_side_by_side_as_alone(name, monkeypatch):
    """The rows have other lengths, shared beginnings and rooms of their own, and run in two batches."""
    lm, rooms = model(name), [6, 9, 6, 3, 8]
    wanted = alone(lm, rooms)
    monkeypatch.setattr(_greedy, "PROMPTS_PER_PASS", 3)
    monkeypatch.delattr(_greedy, "continuations")
    written = greedy(lm, PROMPTS, rooms, first=True)
    assert [one.text for one in written] == wanted
    for prompt, one in zip(PROMPTS, written, strict=True):
        row = encode(lm.tokenizer, prompt)[0]
        plain = logits_at(lm, [row], [0], [len(row) - 1])[0].log_softmax(dim=-1)
        assert one.first.dtype == torch.float32
        assert one.first.tolist() == pytest.approx(plain.tolist(), abs=1e-3)


@pytest.mark.parametrize("name", OTHERS)
def test_models_that_cannot_run_side_by_side(name, caplog):
    lm, rooms = model(name), [6, 9, 6, 3, 8]
    with caplog.at_level(logging.INFO):
        written = greedy(lm, PROMPTS, rooms, first=True)
    assert [one.text for one in written] == alone(lm, rooms)
    assert f"{name} continues prompts of equal length together" in caplog.text
    row = encode(lm.tokenizer, PROMPTS[0])[0]
    plain = logits_at(lm, [row], [0], [len(row) - 1])[0].log_softmax(dim=-1)
    assert written[0].first.tolist() == pytest.approx(plain.tolist(), abs=1e-3)


def test_texts_that_differ_from_the_plain_forward_are_not_used(monkeypatch, caplog):
    """As if a family computed its own positions and began at 0 after the cached tokens."""
    lm = model("llama")
    wanted, forward = alone(lm, [6] * 5), type(lm.model.model).forward

    def own_positions(self, *args, position_ids=None, **kwargs):
        wrong = position_ids is not None and position_ids.shape[1] == 1 and len(position_ids) == 5
        return forward(self, *args, position_ids=0 * position_ids if wrong else position_ids, **kwargs)

    monkeypatch.setattr(type(lm.model.model), "forward", own_positions)
    with caplog.at_level(logging.INFO):
        assert [one.text for one in greedy(lm, PROMPTS, [6] * 5)] == wanted
    assert "its text differs from the plain forward's" in caplog.text


def test_a_text_ends_where_it_is_complete():
    lm = model("llama")
    whole = greedy(lm, PROMPTS, [12] * 5)
    seen = greedy(lm, PROMPTS, [12] * 5, ended=lambda _, text: len(text) > 5)
    assert all(len(one.text) > 5 for one in seen) and any(len(one.tokens) < 12 for one in seen)
    assert all(all_.text.startswith(one.text) for all_, one in zip(whole, seen, strict=True))
    assert all(one.first is None for one in seen)


def test_the_models_end_token_ends_a_text():
    lm = model("llama")
    token = greedy(lm, PROMPTS[:1], [4])[0].tokens[2]
    lm.model.generation_config.eos_token_id = [token, 5]
    first, *others = greedy(lm, PROMPTS, [8] * 5)
    assert first.tokens[-1] == token and len(first.tokens) <= 3
    assert any(len(one.tokens) == 8 for one in others)
    lm.model.generation_config.eos_token_id = token
    assert greedy(lm, PROMPTS, [8] * 5)[0].tokens == first.tokens


def test_room_and_context():
    lm = model("llama")
    long = "I read about this in the newspaper yesterday. " * 8
    length = len(encode(lm.tokenizer, long)[0])
    lm.model.config.max_position_embeddings = length + 2
    written = greedy(lm, [long, "I"], [8, 0])
    assert [len(one.tokens) for one in written] == [2, 0] and written[1].text == ""
    assert greedy(lm, [], []) == []
    lm.model.config.max_position_embeddings = length - 1
    with pytest.raises(FactError, match=rf"a prompt of {length} tokens is longer than the {length - 1} llama can read"):
        greedy(lm, [long, "I"], [8, 1])


def test_numbers_that_are_not_finite():
    lm = model("llama")
    with torch.no_grad():
        lm.projection(1).matrix().mul_(torch.nan)
    with pytest.raises(ModelError, match="NaN or infinity"):
        greedy(lm, PROMPTS, [3] * 5)


@pytest.mark.parametrize("name", BESIDE)
@pytest.mark.parametrize("right", [0, 3, 99])
def test_a_foretold_text_changes_nothing(name, right, monkeypatch):
    """Drafts that are right from the beginning, for three tokens, or all the way; two rows have none."""
    lm, rooms = model(name), [6, 9, 6, 3, 8]
    plain = greedy(lm, PROMPTS, rooms, first=True)
    wrong = " so and so and so"
    expected = [lm.tokenizer.decode(one.tokens[:right]) + (wrong if right < 99 else "") for one in plain]
    expected[1:3] = ["", ""]
    monkeypatch.delattr(_greedy, "continuations")
    written = greedy(lm, PROMPTS, rooms, first=True, expected=expected)
    assert [one.tokens for one in written] == [one.tokens for one in plain]
    for one, other in zip(written, plain, strict=True):
        assert one.first.tolist() == pytest.approx(other.first.tolist(), abs=1e-3)


def test_a_foretold_text_is_checked_in_one_pass(monkeypatch):
    lm = model("llama")
    plain = greedy(lm, PROMPTS, [8] * 5)
    monkeypatch.setattr(_greedy, "encode_answer", lambda _tokenizer, prompt, text: ([], drafts[prompt]))
    monkeypatch.setattr(_greedy, "_agrees", lambda *_: True)
    drafts = {prompt: one.tokens for prompt, one in zip(PROMPTS, plain, strict=True)}
    steps = []
    monkeypatch.setattr(_greedy.Lanes, "step", lambda *_: steps.append(1))
    assert [one.tokens for one in greedy(lm, PROMPTS, [8] * 5, expected=["x"] * 5)] == [one.tokens for one in plain]
    assert not steps


def test_a_foretold_text_ends_where_it_is_complete():
    lm = model("llama")
    plain = greedy(lm, PROMPTS, [12] * 5, ended=lambda _, text: len(text) > 5)
    whole = [one.text for one in greedy(lm, PROMPTS, [12] * 5)]
    seen = greedy(lm, PROMPTS, [12] * 5, ended=lambda _, text: len(text) > 5, expected=whole)
    assert [one.tokens for one in seen] == [one.tokens for one in plain]


def test_drafts_for_a_large_vocabulary_are_shortened(monkeypatch):
    lm = model("llama")
    plain = greedy(lm, PROMPTS, [8] * 5)
    monkeypatch.setattr(_greedy, "_MOST_LOGITS", 2 * 5 * 432)
    seen = []
    follow = _greedy.Lanes.follow
    monkeypatch.setattr(_greedy.Lanes, "follow", lambda self, drafts: seen.append(drafts) or follow(self, drafts))
    written = greedy(lm, PROMPTS, [8] * 5, expected=[one.text for one in plain])
    assert [one.tokens for one in written] == [one.tokens for one in plain]
    assert max(len(draft) for draft in seen[0]) == 1


def test_a_foretold_text_does_not_go_beyond_the_context(monkeypatch):
    lm = model("gpt2")  # its positions are learned, and there are so many
    length = lm.model.config.n_positions
    row = encode(lm.tokenizer, "I read about this in the newspaper yesterday. " * 40)[0]
    long = lm.tokenizer.decode(row[: length - 3])
    room = length - len(encode(lm.tokenizer, long)[0])
    plain = greedy(lm, [long, "I"], [8, 8])
    monkeypatch.delattr(_greedy, "continuations")
    written = greedy(lm, [long, "I"], [8, 8], expected=[one.text + " and so on and on" for one in plain])
    assert [one.tokens for one in written] == [one.tokens for one in plain]
    assert len(written[0].tokens) == room < 8
