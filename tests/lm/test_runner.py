"""The fast runner is taken where it agrees with the plain one; otherwise the plain one, with one log line and the same results."""

import logging

import pytest
import torch

from bluedit.lm.memory import EditableModel
from bluedit.lm.observe import Site
from bluedit.lm.plain import PlainRunner
from bluedit.lm.precision import reduced_linears
from bluedit.lm.prompts import rows_of
from bluedit.lm.runner import make_runner
from bluedit.lm.suffix import SuffixRunner
from toys import FACTS, FAMILIES, toy_llama, toy_tokenizer

PREFIXES = ("The weather was mild that morning.",)


def toy(family, **options):
    return EditableModel.of(FAMILIES[family](**options), toy_tokenizer(), family)


def by_row(runner, delta_of):
    """Logits of each row, with a vector of its own added."""
    delta = torch.stack([delta_of[row] for row in runner.rows], dim=1)
    with torch.no_grad():
        parts = runner.logits(delta).split([max(1, len(row.targets)) for row in runner.rows])
    return dict(zip(runner.rows, parts, strict=True))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "sites",
    [[Site("block", 2)], [Site("mlp", 2)], [Site("mlp", 1), Site("attention", 1)]],
    ids=["block", "mlp", "pmet"],
)
def test_the_two_ways_agree(family, sites):
    lm = toy(family)
    rows = rows_of(lm.tokenizer, FACTS, PREFIXES, drift=True)
    torch.manual_seed(0)
    delta_of = {row: torch.randn(len(sites), 32, dtype=torch.float64) for row in rows}
    fast, plain = SuffixRunner(lm, rows, sites), PlainRunner(lm, rows, sites)
    for keep in (None, [0, 2, 5]):
        if keep:
            kept = [plain.rows[i] for i in keep]
            plain.keep(keep)
            fast.keep([i for i, row in enumerate(fast.rows) if row in kept])
        assert set(fast.rows) == set(plain.rows)
        one, other = by_row(fast, delta_of), by_row(plain, delta_of)
        for row in plain.rows:
            assert (one[row] - other[row]).abs().max() < 1e-5 * other[row].abs().max()
        for i, row in enumerate(plain.rows):
            assert torch.allclose(plain.values[:, i], fast.values[:, fast.rows.index(row)], rtol=1e-5)


def test_the_fast_one_is_taken_where_it_agrees(caplog):
    lm = toy("llama")
    runner = make_runner(lm, rows_of(lm.tokenizer, FACTS, PREFIXES, drift=True), [Site("block", 2)])
    assert isinstance(runner, SuffixRunner) and not caplog.records


def test_a_model_that_ignores_positions_given_to_it_gets_the_plain_one(caplog, monkeypatch):
    """As if a family computed its own positions and began at 0 after the cached tokens."""
    lm = toy("llama")
    rows = rows_of(lm.tokenizer, FACTS, PREFIXES, drift=True)
    forward = type(lm.model.model).forward

    def own_positions(self, *args, position_ids=None, **kwargs):
        start = torch.zeros_like(position_ids) if position_ids is not None else None
        return forward(self, *args, position_ids=start, **kwargs)

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(type(lm.model.model), "forward", own_positions)
        runner = make_runner(lm, rows, [Site("block", 2)])
    assert isinstance(runner, PlainRunner)
    assert "is run the plain, slower way while targets are optimised: the fast way does not fit" in caplog.text
    assert len(caplog.records) == 1


def test_a_model_that_takes_no_cache_gets_the_plain_one(caplog, monkeypatch):
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
    runner = make_runner(lm, rows, [Site("block", 2)])
    assert isinstance(runner, PlainRunner) and "TypeError" in caplog.text


def test_bfloat16_linear_maps_are_close_and_leave_nothing_behind():
    lm = EditableModel.of(toy_llama(dtype=torch.float32), toy_tokenizer(), "toy")
    rows = rows_of(lm.tokenizer, FACTS, PREFIXES, drift=True)
    reduced = reduced_linears(lm, "bf16", lm.anatomy.blocks[3:])
    assert reduced and reduced_linears(lm, "full", lm.anatomy.blocks) is None
    exact, short = SuffixRunner(lm, rows, [Site("block", 2)]), SuffixRunner(lm, rows, [Site("block", 2)], reduced)
    assert torch.equal(exact.values, short.values)
    zero = torch.zeros_like(exact.values)
    with torch.no_grad():
        wanted, found = exact.logits(zero).log_softmax(-1), short.logits(zero).log_softmax(-1)
    assert 0 < (wanted.exp() * (wanted - found).abs()).sum(-1).mean() < 0.2
    assert not any("forward" in vars(module) for module in lm.model.modules())


def test_rounding_of_bfloat16_maps_is_no_reason_for_the_plain_one(caplog):
    """A model with sharp distributions, where bfloat16 alone moves log-probabilities by more than a fifth of a nat."""
    lm = toy("llama")
    with torch.no_grad():
        lm.anatomy.head.weight.mul_(60)
    rows = rows_of(lm.tokenizer, FACTS, PREFIXES, drift=True)
    sites = [Site("block", 2)]
    runner = make_runner(lm, rows, sites, "bf16")
    assert isinstance(runner, SuffixRunner) and runner.reduced and not caplog.records
    full = SuffixRunner(lm, rows, sites)
    delta = torch.zeros_like(full.values)
    with torch.no_grad():
        apart = (runner.logits(delta).log_softmax(-1) - full.logits(delta).log_softmax(-1)).abs().max()
    assert apart > 0.2
