"""The state a model comes back in, and who may change it."""

import threading

import pytest
import torch

from bluedit.errors import EditError
from bluedit.forward import observe
from bluedit.model.editable import EditableModel
from bluedit.model.fingerprint import weights_fingerprint
from bluedit.model.hooks import hooked
from bluedit.model.sites import Site
from bluedit.model.state import exclusive, frozen, refuse_inference_mode
from bluedit.text.prompts import rows_of
from toys import FACTS, toy_gpt2, toy_llama, toy_tokenizer


def state(model):
    flags = [
        (name, m.training, len(m._forward_hooks), len(m._forward_pre_hooks), "forward" in vars(m))
        for name, m in model.named_modules()
    ]
    return flags, [(name, p.requires_grad, p.grad is None) for name, p in model.named_parameters()]


def mixed_state(make):
    """Half trained, half frozen, with a hook of its own."""
    model = make().train()
    block = model.base_model.layers[1] if hasattr(model.base_model, "layers") else model.base_model.h[1]
    block.eval()
    for i, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(i % 3 != 0)
    block.register_forward_hook(lambda *_: None)
    return model


@pytest.mark.parametrize("make", [toy_llama, toy_gpt2])
def test_looking_at_a_model_changes_nothing(make):
    model, tokenizer = mixed_state(make), toy_tokenizer()
    tokenizer.padding_side = "left"
    before, weights = state(model), weights_fingerprint(model)
    lm = EditableModel.of(model, tokenizer)
    assert state(model) == before
    assert any(training for _, training, *_ in before[0]) and not all(training for _, training, *_ in before[0])
    assert weights_fingerprint(model) == weights
    assert tokenizer.padding_side == "left"
    with frozen(model):
        assert not any(m.training for m in model.modules())
        assert not any(p.requires_grad for p in model.parameters())
        observe(lm, rows_of(tokenizer, FACTS, ()), [Site("key", 1)])
    assert state(model) == before


def test_frozen_ends_well_after_an_exception():
    model = mixed_state(toy_llama)
    before = state(model)
    with pytest.raises(KeyboardInterrupt), frozen(model):
        raise KeyboardInterrupt
    assert state(model) == before


def test_hooks_end_with_their_with():
    model = toy_llama(layers=1)
    before = state(model)
    with pytest.raises(KeyboardInterrupt), hooked([(m, "pre", lambda *_: None) for m in model.modules()]):
        raise KeyboardInterrupt
    assert state(model) == before


def test_tied_embeddings_stay_tied():
    for make in (toy_llama, toy_gpt2):
        model = make()
        lm = EditableModel.of(model, toy_tokenizer())
        observe(lm, rows_of(lm.tokenizer, FACTS, ()), [Site("block", 1)])
        assert lm.anatomy.head.weight is model.get_input_embeddings().weight


# one thread at a time


def test_a_second_thread_is_refused_and_the_same_one_enters_again():
    model, other, caught = toy_llama(layers=1), toy_llama(layers=1), []

    def try_it(which):
        try:
            with exclusive(which):
                caught.append("inside")
        except EditError as error:
            caught.append(str(error))

    with exclusive(model), exclusive(model):
        for which in (model, other):
            thread = threading.Thread(target=try_it, args=(which,))
            thread.start()
            thread.join()
    with pytest.raises(KeyboardInterrupt), exclusive(model):
        raise KeyboardInterrupt
    try_it(model)
    assert caught == [
        "another thread is editing this model; only one thread at a time can change its weights, so wait until that edit has finished",
        "inside",
        "inside",
    ]


# gradients


def test_inference_mode_is_refused():
    model = toy_llama(layers=1)
    with torch.no_grad():
        refuse_inference_mode(model)
    with torch.inference_mode(), pytest.raises(EditError) as caught:
        refuse_inference_mode(model)
    assert str(caught.value) == (
        "an edit needs gradients, which torch.inference_mode() rules out; edit outside it (torch.no_grad() is fine)"
    )
    with torch.inference_mode():
        made = toy_llama(layers=1)
    with pytest.raises(EditError) as caught:
        refuse_inference_mode(made)
    assert str(caught.value) == (
        "the parameter model.embed_tokens.weight was created inside torch.inference_mode(), so it can be neither differentiated nor "
        "changed; load the model outside of it"
    )
