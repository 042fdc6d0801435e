"""Text sampled from the model: seeded, from its distribution, without special tokens."""

import logging
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from bluedit.errors import StatisticsError
from bluedit.model.editable import EditableModel
from bluedit.model.precision import reduced_linears
from bluedit.text import sampling
from bluedit.text._reading import GrowingReader, OwnReader, WholeReader, reader_for
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


@pytest.mark.parametrize(
    ("layers", "width", "vocabulary", "length", "rows"),
    [
        (30, 576, 49152, 32, 970),  # SmolLM2: more than the 480 of its statistics, which so keep their text
        (18, 640, 262144, 32, 256),  # Gemma 3 270M: by its vocabulary
        (80, 8192, 128256, 32, 25),
        (1, 64, 10**9, 32, 1),
    ],
)
def test_how_many_rows_are_sampled_together(lm, layers, width, vocabulary, length, rows):
    config = lm.model.config
    config.hidden_size, config.vocab_size = width, vocabulary
    lm = replace(lm, model=lm.model.float())
    sized = replace(lm, anatomy=SimpleNamespace(n_layers=layers, projections=lm.anatomy.projections))
    assert sampling._rows_together(sized, length) == rows


@pytest.mark.parametrize("drawn", [1, 700, 2000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_drawing_some_rows_at_a_time_draws_the_same(monkeypatch, drawn, dtype):
    """As from the probabilities of all rows at once, which is how published text was drawn."""
    logits = (6 * torch.randn(9, 600, generator=torch.Generator().manual_seed(1))).to(dtype)
    monkeypatch.setattr(sampling, "_DRAWN", drawn)
    found = sampling._draw(logits, torch.Generator().manual_seed(4))
    chances = torch.nn.functional.pad(logits.float().softmax(dim=-1), (0, 168)).unflatten(-1, (-1, 256))
    runs = chances.sum(dim=-1).cumsum(dim=-1)
    level = (1 - torch.rand(9, 1, generator=torch.Generator().manual_seed(4))) * runs[:, -1:]
    run = torch.searchsorted(runs, level)
    within = chances[torch.arange(9), run[:, 0]].cumsum(dim=-1)
    before = torch.nn.functional.pad(runs, (1, 0)).gather(1, run)
    assert torch.equal(found, 256 * run + torch.searchsorted(within, level - before))
    assert len(set(found[:, 0].tolist())) > 3


def test_logits_stay_in_bfloat16_and_say_the_same(lm):
    """The head's own copy in bfloat16 rounds as the blocks' do, without a copy of the logits in float32."""
    lm = replace(lm, model=lm.model.float())
    ids = torch.tensor([lm.tokenizer("The quick brown")["input_ids"]])
    with torch.no_grad():
        with reduced_linears(lm, "bf16", [*lm.anatomy.blocks, lm.anatomy.head]).active():
            wide = lm.model(input_ids=ids).logits
        with reduced_linears(lm, "bf16", lm.anatomy.blocks, lm.anatomy.head).active():
            narrow = lm.model(input_ids=ids).logits
    assert (wide.dtype, narrow.dtype) == (torch.float32, torch.bfloat16)
    assert torch.equal(wide, narrow.float())


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


def test_openers_that_the_tokenizer_makes_nothing_of_are_left_out():
    lm = EditableModel.of(toy_llama(layers=2), toy_tokenizer(kind="scarce"), "toy")
    assert lm.tokenizer("A")["input_ids"] == []
    rows = sample_rows(lm, 4, 8, seed=0, openers=("A", "The", "A"))
    assert rows.dtype == torch.long and torch.equal(rows, sample_rows(lm, 4, 8, seed=0, openers=("The",)))
    with pytest.raises(
        StatisticsError, match="the tokenizer makes no token of 'A', so no text can be sampled; name a corpus"
    ):
        sample_rows(lm, 4, 8, seed=0, openers=("A",))


@pytest.mark.parametrize(
    ("reader", "fails"), [(OwnReader, (GrowingReader,)), (WholeReader, (GrowingReader, OwnReader))]
)
def test_where_a_cache_does_not_fit_the_same_text_is_sampled_in_another_way(lm, monkeypatch, caplog, reader, fails):
    expected = sample_rows(lm, 4, 12, seed=3)

    def lost(self, ids):
        if ids.shape[1] == 1 and self.__class__ is GrowingReader:
            raise IndexError("list index out of range")
        return torch.zeros(len(ids), 432, dtype=torch.float64)

    for kind in fails:
        monkeypatch.setattr(kind, "read", lost)
    with caplog.at_level(logging.INFO):
        assert reader_for(lm) is reader
        assert torch.equal(sample_rows(lm, 4, 12, seed=3), expected)
    assert f"text is sampled from llama with {reader.about}: " in caplog.text
    assert ("IndexError" if reader is OwnReader else "its log-probabilities differ by") in caplog.text
