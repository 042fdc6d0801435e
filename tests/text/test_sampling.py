"""Text sampled from the model: seeded, from its distribution, without special tokens."""

import pytest
import torch

from bluedit.model.editable import EditableModel
from bluedit.text import sampling
from bluedit.text.sampling import sample_rows
from toys import toy_llama, toy_tokenizer


def test_sampled_rows_are_seeded(lm):
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    one, again, other = (sample_rows(lm, 6, 16, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    torch.manual_seed(6)
    assert torch.equal(sample_rows(lm, 6, 16, seed=1), one)


def test_sampled_rows(lm):
    rows = sample_rows(lm, 40, 20, seed=0, openers=("The", "I"))
    assert rows.shape == (40, 20)
    bos = lm.tokenizer.bos_token_id
    assert (rows[:, 0] == bos).all()  # this tokenizer puts it there at inference, too
    assert not (rows[:, 1:] == bos).any()
    assert not (rows == lm.tokenizer.eos_token_id).any()
    assert set(rows[:, 1].tolist()) == {lm.tokenizer("The")["input_ids"][1], lm.tokenizer("I")["input_ids"][1]}
    assert len({tuple(row) for row in rows.tolist()}) == 40


def test_sampling_follows_the_models_distribution(monkeypatch):
    """With one token after the opener: frequencies of the likeliest token against its probability."""
    lm, count = EditableModel.of(toy_llama(layers=2), toy_tokenizer(), "toy"), 4000
    start = lm.tokenizer("The")["input_ids"]
    rows = sample_rows(lm, count, len(start) + 1, seed=0, openers=("The",))
    logits = lm.model(input_ids=torch.tensor([start])).logits[0, -1].detach()
    logits[[0, 1]] = -torch.inf
    p = logits.softmax(-1)
    top = int(p.argmax())
    share = float((rows[:, -1] == top).float().mean())
    assert share == pytest.approx(float(p[top]), abs=4 * float((p[top] * (1 - p[top]) / count).sqrt()))
    assert p[top] > 0.01


def test_rows_of_a_large_model_are_drawn_in_parts(lm, monkeypatch):
    whole = sample_rows(lm, 6, 16, seed=1)
    one_row = 2 * lm.anatomy.n_layers * lm.model.config.hidden_size * lm.dtype.itemsize * 16
    monkeypatch.setattr(sampling, "_CACHE_BYTES", 4 * one_row)
    parts = sample_rows(lm, 6, 16, seed=1)
    assert parts.shape == whole.shape
    assert torch.equal(parts, sample_rows(lm, 6, 16, seed=1)) and not torch.equal(parts[4:, 2:], parts[:2, 2:])
    assert torch.equal(parts[:, :2], whole[:, :2])


def test_each_step_sees_all_earlier_tokens(lm, monkeypatch):
    """With the likeliest token drawn each time: what a forward pass of the whole row says, although keys are kept in growing room."""
    monkeypatch.setattr(sampling, "_draw", lambda logits, _generator: logits.argmax(dim=-1, keepdim=True))
    monkeypatch.setattr(sampling, "reduced_linears", lambda *_: None)
    rows = sample_rows(lm, 4, 24, seed=0, openers=("The", "I"))
    logits = lm.model(input_ids=rows).logits.detach()
    logits[:, :, sorted(set(lm.tokenizer.all_special_ids))] = -torch.inf
    assert torch.equal(rows[:, 2:], logits[:, 1:-1].argmax(dim=-1))
    assert len(set(rows[0, 2:].tolist())) > 1


def test_one_long_opener_does_not_drop_the_others(lm):
    rows = sample_rows(lm, 6, 8, seed=0, openers=("The", "I", "In the newspaper"))
    first = {row[1] for row in rows.tolist()}
    assert {lm.tokenizer("The")["input_ids"][1], lm.tokenizer("I")["input_ids"][1]} <= first
