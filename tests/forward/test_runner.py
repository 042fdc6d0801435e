"""The fast runner is used where it agrees with the reference forward; otherwise the reference forward is, with one log line and the same results."""

import inspect
import logging
from functools import cache

import pytest
import torch
from test_suffix import gptj
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from bluedit.forward import _suffix, past_of
from bluedit.forward._packed import Packed
from bluedit.forward._padded import Padded
from bluedit.forward._reference import ReferenceRunner
from bluedit.forward._runner import runners
from bluedit.forward._suffix import SuffixRunner
from bluedit.model.editable import EditableModel
from bluedit.model.precision import reduced_linears
from bluedit.model.sites import Site
from bluedit.text.prompts import rows_of
from bluedit.text.rows import Row, evaluation_cost
from toys import FACTS, FAMILIES, toy_llama, toy_tokenizer

PREFIXES = ("The weather was mild that morning.",)


@cache
def toy(family, **options):
    """Made once; a test that changes the model or leaves hooks on it takes a `fresh` one."""
    return EditableModel.of(FAMILIES[family](**options), toy_tokenizer(), family)


fresh = toy.__wrapped__


def make(lm, rows, *how):
    return runners(lm, rows, *how)(rows)


def by_row(runner, delta_of):
    """Logits of each row, with a vector of its own added."""
    delta = torch.stack([delta_of[row] for row in runner.rows], dim=1)
    with torch.no_grad():
        parts = runner.logits(delta).split([max(1, len(row.targets)) for row in runner.rows])
    return dict(zip(runner.rows, parts, strict=True))


@pytest.mark.parametrize("layout", [Packed, Padded])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "sites",
    [[Site("block", 2)], [Site("mlp", 2)], [Site("mlp", 1), Site("attention", 1)]],
    ids=["block", "mlp", "pmet"],
)
def test_fast_and_reference_forward_agree(layout, family, sites):
    lm = toy(family)
    rows = rows_of(lm.tokenizer, FACTS, PREFIXES, drift=True)
    torch.manual_seed(0)
    delta_of = {row: torch.randn(len(sites), 32, dtype=torch.float64) for row in rows}
    fast, reference = SuffixRunner(lm, rows, sites, layout), ReferenceRunner(lm, rows, sites)
    for keep in (None, [0, 2, 5]):
        if keep:
            kept = [reference.rows[i] for i in keep]
            reference.keep(keep)
            fast.keep([i for i, row in enumerate(fast.rows) if row in kept])
        assert set(fast.rows) == set(reference.rows)
        one, other = by_row(fast, delta_of), by_row(reference, delta_of)
        for row in reference.rows:
            assert (one[row] - other[row]).abs().max() < 1e-5 * other[row].abs().max()
        for i, row in enumerate(reference.rows):
            assert torch.allclose(reference.values[:, i], fast.values[:, fast.rows.index(row)], rtol=1e-5)


def test_the_fast_one_is_taken_where_it_agrees(caplog):
    lm = toy("llama")
    runner = make(lm, rows_of(lm.tokenizer, FACTS, PREFIXES, drift=True), [Site("block", 2)])
    assert isinstance(runner, SuffixRunner) and runner.layout is Packed and not caplog.records


def bloom():
    """So small weights that attention hardly matters: only asking tells that it computes its own. (Its softmax is in float32, where a
    float64 mask overflows and padding gives NaN.)"""
    torch.manual_seed(0)
    return BloomForCausalLM(BloomConfig(vocab_size=432, n_layer=4, n_head=4, hidden_size=32)).eval()


@pytest.mark.parametrize("model", [gptj, bloom])
def test_a_model_with_attention_of_its_own_gets_the_padded_layout(model, caplog):
    """Which families those are changes with transformers: GPT-J goes through the interface in newer versions."""
    lm = EditableModel.of(model(), toy_tokenizer(), "own")
    rows = rows_of(lm.tokenizer, FACTS, PREFIXES, drift=True)
    runner = make(lm, rows, [Site("block", 2)])
    asks = "ALL_ATTENTION_FUNCTIONS" in inspect.getsource(inspect.getmodule(type(lm.model)))
    assert isinstance(runner, SuffixRunner) and runner.layout is (Packed if asks else Padded) and not caplog.records


@pytest.mark.parametrize("kind", ["window", "softcap", "short window"])
def test_attention_windows_and_soft_caps(kind):
    """Packed rows of Mistral (window) and Gemma 2 (both): as the reference forward, also where the window is shorter than the rows."""
    torch.manual_seed(0)
    size = {
        "vocab_size": 432,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "initializer_range": 0.3,
        "sliding_window": 4 if kind == "short window" else 64,
    }
    if kind == "softcap":
        model = Gemma2ForCausalLM(Gemma2Config(**size, attn_logit_softcapping=2.0, query_pre_attn_scalar=8))
    else:
        model = MistralForCausalLM(MistralConfig(**size))
    model.config._attn_implementation = "eager"
    lm = EditableModel.of(model.eval(), toy_tokenizer(), kind)
    rows = rows_of(lm.tokenizer, FACTS, () if kind == "short window" else PREFIXES, drift=True)
    sites = [Site("block", 1)]
    fast, reference = SuffixRunner(lm, rows, sites, Packed), ReferenceRunner(lm, rows, sites)
    delta_of = {row: torch.randn(1, 32) for row in rows}
    one, other = by_row(fast, delta_of), by_row(reference, delta_of)
    for row in rows:
        assert (one[row] - other[row]).abs().max() < 1e-4 * other[row].abs().max()


def test_attention_with_more_to_it_gets_the_padded_layout(monkeypatch):
    """As if a family handed a bias to its attention."""
    lm = toy("llama")
    forward = type(lm.anatomy.blocks[0].self_attn).forward

    def biased(self, *args, **kwargs):
        return forward(self, *args, extra_bias=torch.zeros(1), **kwargs)

    monkeypatch.setattr(type(lm.anatomy.blocks[0].self_attn), "forward", biased)
    runner = make(lm, rows_of(lm.tokenizer, FACTS, PREFIXES, drift=True), [Site("block", 2)])
    assert isinstance(runner, SuffixRunner) and runner.layout is Padded


def test_a_model_that_ignores_positions_given_to_it_gets_the_reference_forward(caplog, monkeypatch):
    """As if a family computed its own positions and began at 0 after the cached tokens."""
    lm = toy("llama")
    rows = rows_of(lm.tokenizer, FACTS, PREFIXES, drift=True)
    forward = type(lm.model.model).forward

    def own_positions(self, *args, position_ids=None, **kwargs):
        start = torch.zeros_like(position_ids) if position_ids is not None else None
        return forward(self, *args, position_ids=start, **kwargs)

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(type(lm.model.model), "forward", own_positions)
        runner = make(lm, rows, [Site("block", 2)])
    assert isinstance(runner, ReferenceRunner)
    assert "uses the slower reference forward to optimise targets: the fast one does not fit" in caplog.text
    assert len(caplog.records) == 1


def test_a_model_that_takes_no_cache_gets_the_reference_forward(caplog, monkeypatch):
    lm = toy("gpt2")
    rows = rows_of(lm.tokenizer, FACTS, PREFIXES, drift=True)
    forward = type(lm.model).forward

    def without_cache(
        self, input_ids=None, attention_mask=None, position_ids=None, use_cache=None, past_key_values=None
    ):
        if past_key_values is not None:
            raise TypeError("forward() got an unexpected keyword argument 'past_key_values'")
        return forward(
            self, input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids, use_cache=False
        )

    monkeypatch.setattr(type(lm.model), "forward", without_cache)
    runner = make(lm, rows, [Site("block", 2)])
    assert isinstance(runner, ReferenceRunner) and "TypeError" in caplog.text


def test_bfloat16_linear_maps_are_close_and_leave_nothing_behind():
    lm = EditableModel.of(toy_llama(dtype=torch.float32), toy_tokenizer(), "toy")
    rows = rows_of(lm.tokenizer, FACTS, PREFIXES, drift=True)
    reduced = reduced_linears(lm, "bf16", lm.anatomy.blocks[3:])
    assert reduced and reduced_linears(lm, "full", lm.anatomy.blocks) is None
    exact, short = (
        SuffixRunner(lm, rows, [Site("block", 2)], Packed),
        SuffixRunner(lm, rows, [Site("block", 2)], Packed, reduced),
    )
    assert torch.equal(exact.values, short.values)
    zero = torch.zeros_like(exact.values)
    with torch.no_grad():
        wanted, found = exact.logits(zero).log_softmax(-1), short.logits(zero).log_softmax(-1)
    assert 0 < (wanted.exp() * (wanted - found).abs()).sum(-1).mean() < 0.2
    assert not any("forward" in vars(module) for module in lm.model.modules())


def test_a_token_ruled_out_is_no_reason_for_the_reference_forward_but_nan_is(caplog, monkeypatch):
    lm = fresh("llama")
    lm.anatomy.head.register_forward_hook(lambda _m, _a, out: out.index_fill(-1, torch.tensor([1]), -torch.inf))
    rows = rows_of(lm.tokenizer, FACTS, PREFIXES, drift=True)
    assert isinstance(make(lm, rows, [Site("block", 2)]), SuffixRunner) and not caplog.records
    logits = SuffixRunner.logits
    monkeypatch.setattr(SuffixRunner, "logits", lambda self, delta: logits(self, delta) * torch.nan)
    assert isinstance(make(lm, rows, [Site("block", 2)]), ReferenceRunner)
    assert "differ by inf nats" in caplog.text


def test_rounding_of_bfloat16_maps_is_no_reason_for_the_reference_forward(caplog):
    """A model with sharp distributions, where bfloat16 alone moves log-probabilities by more than a fifth of a nat."""
    lm = fresh("llama")
    with torch.no_grad():
        lm.anatomy.head.weight.mul_(60)
    rows = rows_of(lm.tokenizer, FACTS, PREFIXES, drift=True)
    sites = [Site("block", 2)]
    runner = make(lm, rows, sites, "bf16")
    assert isinstance(runner, SuffixRunner) and runner.reduced and not caplog.records
    full = SuffixRunner(lm, rows, sites, Packed)
    delta = torch.zeros_like(full.values)
    with torch.no_grad():
        apart = (runner.logits(delta).log_softmax(-1) - full.logits(delta).log_softmax(-1)).abs().max()
    assert apart > 0.2


def test_parts_share_what_comes_before_their_subjects(monkeypatch):
    lm = toy("llama")
    rows = rows_of(lm.tokenizer, FACTS, PREFIXES, drift=True)
    factory = runners(lm, rows, [Site("block", 2)])
    alone = [factory(part) for part in (rows[::2], rows[1::2])]
    asked = []
    monkeypatch.setattr(_suffix, "past_of", lambda lm, ids: asked.append(ids) or past_of(lm, ids))
    together = factory.several([rows[::2], rows[1::2]])
    assert len(asked) == 1 and len(set(asked[0])) == len(asked[0]), "each beginning once"
    for one, other in zip(alone, together, strict=True):
        assert one.rows == other.rows
        delta = 0.1 * one.values.roll(1, dims=-1)
        torch.testing.assert_close(one.logits(delta), other.logits(delta))


def test_rows_that_take_turns_cost_what_one_turn_does():
    rows = [
        Row(0, "bare" if group == 0 else "taught", tuple(range(40)), 32, (1,), 40, group)
        for group in (0, 1)
        for _ in range(2)
    ]
    assert evaluation_cost(rows, rotated=False) == 4 * 8 + 4 * 2
    assert evaluation_cost(rows, rotated=True) == 2 * 8 + 4 * 2
