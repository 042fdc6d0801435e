"""Other threads run the model while this one optimises targets on it, and notice nothing."""

import threading
from contextlib import contextmanager, nullcontext

import pytest
import torch

from bluedit.forward import _runner, observe
from bluedit.forward._packed import Packed
from bluedit.forward._padded import Padded
from bluedit.forward._reference import ReferenceRunner
from bluedit.forward._runner import runners
from bluedit.forward._suffix import SuffixRunner
from bluedit.model.editable import EditableModel
from bluedit.model.hooks import replaced_forwards
from bluedit.model.sites import Site
from bluedit.text.prompts import rows_of
from bluedit.text.sampling import sample_rows
from toys import FACTS, FAMILIES, toy_tokenizer

PREFIXES = ("The weather was mild that morning.",)
IDS = torch.tensor([[7, 8, 9, 10, 11], [5, 6, 4, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


def answer(lm):
    with torch.no_grad():
        return lm.model(input_ids=IDS, attention_mask=MASK, use_cache=False).logits


@contextmanager
def running_elsewhere(lm, tries=30):
    """Another thread that runs the model during the `with`, at least `tries` times; all its logits must be those it got before."""
    ready, over, faults, runs = threading.Event(), threading.Event(), [], [0]

    def work():
        expected = answer(lm)
        ready.set()
        while not (over.is_set() and runs[0] >= tries):
            runs[0] += 1
            try:
                if not torch.equal(answer(lm), expected):
                    faults.append("other logits")
            except BaseException as error:
                faults.append(repr(error))

    thread = threading.Thread(target=work)
    thread.start()
    ready.wait()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert not faults, f"{len(faults)} of {runs[0]} forward passes: {sorted(set(faults))[:3]}"


def optimised(lm, runner, steps=12):
    """A vector after some steps of gradient ascent, and the kind of runner."""
    delta = torch.zeros_like(runner.values, requires_grad=True)
    for _ in range(steps):
        (gradient,) = torch.autograd.grad(runner.logits(delta).log_softmax(-1)[:, 5].sum(), delta)
        delta = (delta + 0.01 * gradient).detach().requires_grad_(True)
    return delta.detach()


LAYOUTS = {"packed": (Packed, True), "padded": (Padded, False), "reference": (None, False)}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("precision", ["full", "bf16"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_forward_calls_from_another_thread_while_targets_are_optimised(family, layout, precision, monkeypatch):
    lm = EditableModel.of(FAMILIES[family](dtype=torch.float32), toy_tokenizer(), family)
    rows = rows_of(lm.tokenizer, FACTS, PREFIXES, drift=True)
    kind, packed = LAYOUTS[layout]
    monkeypatch.setattr(_runner, "uses_attention_interface", lambda _lm: packed)
    if kind is None:
        monkeypatch.setattr(_runner, "_difference", lambda *_: torch.inf)
    lm.model.requires_grad_(False)

    def work():
        runner = runners(lm, rows, [Site("block", 2)], precision)(rows)
        assert isinstance(runner, ReferenceRunner if kind is None else SuffixRunner)
        assert kind is None or runner.layout is kind
        return optimised(lm, runner)

    alone = work()
    with running_elsewhere(lm):
        together = work()
        observed = observe(lm, rows, [Site("key", 1), Site("block", 3)])
    assert torch.equal(together, alone)
    assert torch.equal(observed[Site("key", 1)], observe(lm, rows, [Site("key", 1)])[Site("key", 1)])
    assert not any("forward" in vars(m) or m._forward_hooks or m._forward_pre_hooks for m in lm.model.modules())


def test_forward_calls_from_another_thread_while_text_is_sampled():
    lm = EditableModel.of(FAMILIES["llama"](dtype=torch.float32), toy_tokenizer(), "llama")
    alone = sample_rows(lm, 6, 24, seed=0)
    with running_elsewhere(lm):
        assert torch.equal(sample_rows(lm, 6, 24, seed=0), alone)


def test_the_test_can_fail():
    """A forward replaced for everybody, as the engine once did it, is seen by the other thread."""
    lm = EditableModel.of(FAMILIES["llama"](), toy_tokenizer(), "llama")
    with pytest.raises(AssertionError, match="other logits"), running_elsewhere(lm):
        lm.anatomy.blocks[1].forward = lambda hidden, *_a, **_k: hidden
        threading.Event().wait(0.2)
    del lm.anatomy.blocks[1].forward


def test_two_threads_replace_the_same_forward_and_end_in_any_order():
    lm = EditableModel.of(FAMILIES["llama"](), toy_tokenizer(), "llama")
    block, expected = lm.anatomy.blocks[1], answer(lm)
    mine, theirs = (lambda hidden, *_a, **_k: hidden), (lambda hidden, *_a, **_k: 2 * hidden)
    entered, leave, seen = threading.Event(), threading.Event(), []

    def other():
        with replaced_forwards([(block, theirs)]):
            entered.set()
            leave.wait()
            seen.append(answer(lm))

    thread = threading.Thread(target=other)
    with replaced_forwards([(block, mine)]):
        thread.start()
        entered.wait()
        ours = answer(lm)
    assert torch.equal(answer(lm), expected) and not torch.equal(ours, expected)
    leave.set()
    thread.join()
    assert not torch.equal(seen[0], expected) and not torch.equal(seen[0], ours)
    assert "forward" not in vars(block)


def test_nested_replacements_count_from_the_inside():
    lm = EditableModel.of(FAMILIES["llama"](), toy_tokenizer(), "llama")
    block = lm.anatomy.blocks[1]
    with replaced_forwards([(block, lambda: "outer")]):
        with replaced_forwards([(block, lambda: "inner")]):
            assert block() == "inner"
        assert block() == "outer"
    assert "forward" not in vars(block)


@pytest.mark.parametrize("outer", [torch.no_grad, nullcontext])
def test_gradients_do_not_depend_on_the_callers_mode(outer):
    """Whoever optimises enables gradients itself; nothing the engine keeps from before that is lost to `torch.no_grad()`."""
    lm = EditableModel.of(FAMILIES["llama"](), toy_tokenizer(), "llama")
    lm.model.requires_grad_(False)
    rows = rows_of(lm.tokenizer, FACTS, PREFIXES, drift=True)
    with outer():
        runner = runners(lm, rows, [Site("block", 2)])(rows)
        runner.keep(range(1, len(rows)))
        with torch.enable_grad():
            delta = optimised(lm, runner)
    assert delta.abs().max() > 0
    usual = runners(lm, rows, [Site("block", 2)])(rows)
    usual.keep(range(1, len(rows)))
    assert torch.equal(delta, optimised(lm, usual))
