"""Activations read from as few passes as possible are those of whole passes."""

import logging

import pytest
import torch

from bluedit.forward import RisingKeys, _rising, observe
from bluedit.forward._observe import Texts
from bluedit.model.editable import EditableModel
from bluedit.model.sites import Place, Site
from bluedit.text.rows import Row
from toys import FAMILIES, toy_llama, toy_tokenizer

TEXTS = ((5, 6, 7), (5, 6, 7, 8, 9), (11, 12), (5, 6, 7), (11, 12, 13, 14, 15, 16), (5, 6, 30))


def rows_of(texts):
    return [Row(0, "bare", (*text, 3, 4), len(text) - 1, (4,), len(text)) for text in texts]


def key(layer):
    return Site(Place.KEY, layer)


def alone(lm, texts, layer):
    """Each row in a pass of its own."""
    return torch.cat([observe(lm, [row], [key(layer)])[key(layer)] for row in rows_of(texts)])


def changed(lm, layer):
    """Write a layer."""
    with torch.no_grad():
        weight = lm.projection(layer).module.weight
        weight.add_(torch.randn_like(weight), alpha=0.1)


def test_rows_that_others_begin_with_share_their_texts():
    texts = Texts.of(TEXTS)
    assert sorted(texts.texts) == [(5, 6, 7, 8, 9), (5, 6, 30), (11, 12, 13, 14, 15, 16)]
    assert sorted(sorted(own) for own in texts.readers) == [[(0, 3), (1, 5), (3, 3)], [(2, 2), (4, 6)], [(5, 3)]]
    assert Texts.of(TEXTS, shared=False).lengths == [3, 5, 2, 3, 6, 3]


@pytest.mark.parametrize("family", FAMILIES)
def test_keys_read_while_layers_are_written(family, monkeypatch):
    lm = EditableModel.of(FAMILIES[family](), toy_tokenizer(), family)
    layers, ran = range(1, lm.anatomy.n_layers), []
    forward = RisingKeys._forward
    monkeypatch.setattr(
        RisingKeys, "_forward", lambda self, *a: ran.append(len(self._skipping(a[2]))) or forward(self, *a)
    )
    rising = RisingKeys(lm, rows_of(TEXTS))
    for layer in layers:
        assert torch.allclose(rising.read(layer), alone(lm, TEXTS, layer), rtol=1e-4, atol=1e-5)
        changed(lm, layer)
    assert ran == [0, *list(layers)[:-1]], "each pass skips the blocks below the layer written last"
    assert torch.allclose(rising.read(1), alone(lm, TEXTS, 1), rtol=1e-4, atol=1e-5)


def test_a_layer_that_is_read_again_is_read_from_the_start():
    lm = EditableModel.of(toy_llama(), toy_tokenizer(), "llama")
    rising = RisingKeys(lm, rows_of(TEXTS))
    rising.read(1)
    for _ in range(2):
        assert torch.allclose(rising.read(2), alone(lm, TEXTS, 2), rtol=1e-4, atol=1e-5)
        changed(lm, 1)


def test_a_model_whose_blocks_need_more_than_their_input_is_read_from_whole_passes(caplog, monkeypatch):
    lm = EditableModel.of(toy_llama(), toy_tokenizer(), "llama")
    monkeypatch.setattr(_rising, "returning", lambda state, _tuple: lambda hidden, *_a, **_k: hidden)
    rising = RisingKeys(lm, rows_of(TEXTS))
    rising.read(1)
    changed(lm, 1)
    with caplog.at_level(logging.INFO):
        assert torch.allclose(rising.read(2), alone(lm, TEXTS, 2), rtol=1e-4, atol=1e-5)
    assert "whole passes" in caplog.text
    assert torch.allclose(rising.read(3), alone(lm, TEXTS, 3), rtol=1e-4, atol=1e-5)


def test_states_beyond_the_memory_for_them_are_not_kept(monkeypatch):
    lm = EditableModel.of(toy_llama(), toy_tokenizer(), "llama")
    monkeypatch.setattr(_rising, "_MOST_KEPT", 10)
    rising = RisingKeys(lm, rows_of(TEXTS))
    rising.read(1)
    assert not rising._kept
    changed(lm, 1)
    assert torch.allclose(rising.read(2), alone(lm, TEXTS, 2), rtol=1e-4, atol=1e-5)
