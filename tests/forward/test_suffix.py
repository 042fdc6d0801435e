"""SuffixRunner and observe against full, unpadded, single forwards of the model with plain hooks."""

from functools import cache

import pytest
import torch
from transformers import GPTJConfig, GPTJForCausalLM, GPTNeoXConfig, GPTNeoXForCausalLM, OPTConfig, OPTForCausalLM

import bluedit.forward._observe as observing
from bluedit.facts import Fact
from bluedit.forward._observe import observe
from bluedit.forward._packed import Packed
from bluedit.forward._padded import Padded
from bluedit.forward._suffix import SuffixRunner
from bluedit.model.editable import EditableModel
from bluedit.model.sites import Site
from bluedit.text.prompts import rows_of
from toys import FACTS, FAMILIES, toy_gpt2, toy_llama, toy_tokenizer

PREFIXES = ("The weather was mild that morning.", "Here.")
MIXED = (
    *FACTS,
    Fact("{} plays the", subject="The", target="violin"),  # without BOS: nothing before the subject
    Fact(
        "{}, English, German, Italian, Rome, Berlin and London are", subject="The", target="in the newspaper"
    ),  # a long suffix
)
SIZE = {
    "vocab_size": 432,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "initializer_range": 0.3,
}


def gptj():
    """Attention and MLP in parallel; blocks return tuples."""
    torch.manual_seed(0)
    config = GPTJConfig(
        vocab_size=432, n_embd=32, n_layer=4, n_head=4, rotary_dim=4, n_positions=256, initializer_range=0.3
    )
    return GPTJForCausalLM(config).double().eval()


def neox():
    torch.manual_seed(0)
    return GPTNeoXForCausalLM(GPTNeoXConfig(**SIZE, intermediate_size=48, use_parallel_residual=True)).double().eval()


OTHERS = {"gptj": gptj, "neox": neox}
EVERY = FAMILIES | OTHERS


@cache
def toy(family, bos=False):
    """Made once; a test that changes the model or leaves hooks on it takes a `fresh` one."""
    return EditableModel.of(EVERY[family](), toy_tokenizer(bos=bos), family)


fresh = toy.__wrapped__


def blocks_of(model):
    return getattr(model.base_model, "layers", None) or model.base_model.h


PROJECTION = {
    "llama": "mlp.down_proj",
    "gpt2": "mlp.c_proj",
    "gptj": "mlp.fc_out",
    "neox": "mlp.dense_4h_to_h",
}


def site_module(model, family, site):
    block = blocks_of(model)[site.layer]
    return block if site.kind == "block" else block.get_submodule(PROJECTION[family.split("-")[0]])


def plain_logits(model, where, row, delta):
    """Full forward of one row with delta added at its subject; logits where the row wants them."""

    def hook(_module, _args, output):
        hidden = (output[0] if isinstance(output, tuple) else output).clone()
        hidden[0, row.subject_last] += delta
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    handle = where.register_forward_hook(hook)
    try:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([row.ids]), use_cache=False).logits[0]
    finally:
        handle.remove()
    if not row.targets:
        return logits[row.subject_last].unsqueeze(0)
    return logits[row.target_start - 1 :]


def plain_value(model, where, row, kind):
    seen = []

    def pre(_module, args):
        seen.append(args[0][0, row.subject_last])

    def post(_module, _args, output):
        seen.append((output[0] if isinstance(output, tuple) else output)[0, row.subject_last])

    handle = where.register_forward_pre_hook(pre) if kind == "key" else where.register_forward_hook(post)
    try:
        with torch.no_grad():
            model(input_ids=torch.tensor([row.ids]), use_cache=False)
    finally:
        handle.remove()
    return seen[0]


def tolerance(model):
    return (
        1e-6 if isinstance(model, GPTJForCausalLM) else 1e-9
    )  # GPT-J computes attention in float32 whatever its weights


def check(runner, model, where, rows):
    torch.manual_seed(1)
    delta = torch.randn(len(rows), 32, dtype=torch.float64)
    assert sorted(runner.rows, key=repr) == sorted(rows, key=repr)
    with torch.no_grad():
        found = runner.logits(delta[None])
    wanted = torch.cat([plain_logits(model, where, row, d) for row, d in zip(runner.rows, delta, strict=True)])
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() < tolerance(model) * wanted.abs().max()
    untouched = plain_logits(model, where, runner.rows[0], delta[0] * 0)
    assert (untouched - wanted[: len(untouched)]).abs().max() > 1e-3, "delta does nothing: the test cannot fail"


def layouts(family):
    """GPT-J computes its attention itself: one sequence of many rows is not for it."""
    return (Padded,) if family == "gptj" else (Padded, Packed)


def check_through_keep(lm, family, site, rows):
    for layout in layouts(family):
        _check_through_keep(lm, family, site, SuffixRunner(lm, rows, [site], layout))


def _check_through_keep(lm, family, site, runner):
    where = site_module(lm.model, family, site)
    for keep in (slice(None), slice(0, None, 3), slice(1, 3)):
        lanes = list(range(len(runner.rows)))[keep]
        if keep != slice(None):
            kept = [runner.rows[lane] for lane in lanes]
            runner.keep(lanes)
            assert list(runner.rows) == kept
        values = torch.stack([plain_value(lm.model, where, row, site.kind) for row in runner.rows])
        assert (runner.values[0] - values).abs().max() < tolerance(lm.model) * values.abs().max()
        check(runner, lm.model, where, runner.rows)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("kind", ["block", "mlp"])
def test_logits_equal_the_full_forward(family, bos, kind):
    lm = toy(family, bos)
    check_through_keep(lm, family, Site(kind, 2), rows_of(lm.tokenizer, MIXED[1:], PREFIXES[:1], drift=True))


@pytest.mark.parametrize("family", OTHERS)
@pytest.mark.parametrize("kind", ["block", "mlp"])
def test_logits_of_parallel_blocks(family, kind):
    lm = toy(family)
    check_through_keep(lm, family, Site(kind, 1), rows_of(lm.tokenizer, MIXED, (), drift=True))


@pytest.mark.parametrize("family", ["llama", "gpt2", "gptj"])
@pytest.mark.parametrize("kind", ["block", "mlp"])
@pytest.mark.parametrize("last", [False, True])
def test_first_and_last_layer(family, kind, last):
    lm = toy(family)
    site = Site(kind, lm.anatomy.n_layers - 1 if last else 0)
    check_through_keep(lm, family, site, rows_of(lm.tokenizer, MIXED, (), drift=True))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_subjects_with_nothing_before_them(family):
    """All prefixes empty, then mixed with a long one: the key-value cache must not be needed, and not be confused."""
    lm = toy(family)
    alone = rows_of(lm.tokenizer, MIXED[3:], ())
    assert {row.subject_last for row in alone} == {0}
    mixed = [*alone, *rows_of(lm.tokenizer, MIXED[:1], PREFIXES)]
    assert max(row.subject_last for row in mixed) > 5
    where = site_module(lm.model, family, Site("block", 2))
    for rows in (alone, mixed):
        for layout in layouts(family):
            check(SuffixRunner(lm, rows, [Site("block", 2)], layout), lm.model, where, rows)


@pytest.mark.parametrize("layout", [Padded, Packed])
@pytest.mark.parametrize("padding", [0, 10_000])
def test_grouping_does_not_change_results(monkeypatch, padding, layout):
    monkeypatch.setattr("bluedit.text.rows._PADDING", padding)
    lm = toy("llama", bos=True)
    rows = rows_of(lm.tokenizer, MIXED, PREFIXES, drift=True)
    runner = SuffixRunner(lm, rows, [Site("block", 2)], layout)
    assert len(runner._passes) == (1 if padding or layout is Packed else len({row.suffix for row in rows}))
    check(runner, lm.model, site_module(lm.model, "llama", Site("block", 2)), rows)


def test_repeating_gives_the_same(monkeypatch):
    lm = toy("gpt2")
    rows = rows_of(lm.tokenizer, MIXED, (), drift=True)
    runner = SuffixRunner(lm, rows, [Site("mlp", 2)], Packed)
    one, other = torch.randn(2, len(rows), 32, dtype=torch.float64)
    with torch.no_grad():
        first = runner.logits(one[None])
        runner.logits(other[None])
        assert torch.equal(runner.logits(one[None]), first)


@pytest.mark.parametrize("layout", [Padded, Packed])
def test_gradients_equal_those_of_the_full_forward(layout):
    lm = toy("gpt2")  # float64 throughout; a Llama's norm is float32 inside
    rows = rows_of(lm.tokenizer, FACTS[:1], ())
    delta = torch.zeros(1, 32, dtype=torch.float64, requires_grad=True)
    runner = SuffixRunner(lm, rows, [Site("block", 2)], layout)
    (found,) = torch.autograd.grad(runner.logits(delta[None])[:, 3].sum(), delta)
    step, direction = 1e-5, torch.nn.functional.normalize(torch.randn(32, dtype=torch.float64), dim=0)
    where = site_module(lm.model, "gpt2", Site("block", 2))
    up, down = (plain_logits(lm.model, where, rows[0], s * direction)[:, 3].sum() for s in (step, -step))
    assert float(found[0] @ direction) == pytest.approx(float((up - down) / (2 * step)), rel=1e-6)


# what is left behind


def state(model):
    return [(len(m._forward_hooks), len(m._forward_pre_hooks), vars(m).get("forward")) for m in model.modules()]


def test_the_model_is_restored():
    lm = fresh("llama")
    before = state(lm.model)
    rows = rows_of(lm.tokenizer, FACTS, ())
    runner = SuffixRunner(lm, rows, [Site("block", 2)], Packed)
    runner.logits(torch.zeros(1, len(rows), 32, dtype=torch.float64))
    assert state(lm.model) == before


def test_the_model_is_restored_after_an_exception():
    """Also a forward that somebody else (accelerate does) has put on a block."""
    lm = fresh("llama")
    own = lm.anatomy.blocks[1].forward
    lm.anatomy.blocks[1].forward = own
    rows = rows_of(lm.tokenizer, FACTS, ())
    runner = SuffixRunner(lm, rows, [Site("block", 2)], Packed)

    def fail(_module, _args):
        raise KeyboardInterrupt

    handle = lm.anatomy.blocks[4].register_forward_pre_hook(fail)
    before = state(lm.model)
    with pytest.raises(KeyboardInterrupt):
        runner.logits(torch.zeros(1, len(rows), 32, dtype=torch.float64))
    with pytest.raises(KeyboardInterrupt):
        SuffixRunner(lm, rows, [Site("block", 2)], Packed)  # here the prefix's own pass is interrupted
    assert state(lm.model) == before
    assert vars(lm.anatomy.blocks[1])["forward"] is own
    handle.remove()
    check(runner, lm.model, site_module(lm.model, "llama", Site("block", 2)), rows)


def test_blocks_below_the_site_do_not_run():
    lm = fresh("llama")
    rows = rows_of(lm.tokenizer, FACTS, ())
    runner = SuffixRunner(lm, rows, [Site("block", 2)], Packed)
    ran = []
    for layer, block in enumerate(lm.anatomy.blocks):
        block.mlp.register_forward_hook(lambda *_a, layer=layer: ran.append(layer))
    runner.logits(torch.zeros(1, len(rows), 32, dtype=torch.float64))
    assert set(ran) == {3, 4}


# observe


@pytest.mark.parametrize(
    ("family", "bos"), [(f, b) for f in EVERY for b in (False, True) if b or f in ("llama", "gpt2")]
)
def test_observe_reads_what_a_plain_forward_has_there(family, bos, monkeypatch):
    lm = toy(family, bos)
    rows = [*rows_of(lm.tokenizer, MIXED, (), drift=True), *rows_of(lm.tokenizer, FACTS[:1], PREFIXES)]
    sites = [Site("key", 1), Site("mlp", 1), Site("block", 2), Site("key", 3)]
    once = observe(lm, rows, sites)
    monkeypatch.setattr(observing, "TOKENS_PER_PASS", 7)
    one_by_one = observe(lm, rows, sites)
    for site in sites:
        wanted = torch.stack(
            [plain_value(lm.model, site_module(lm.model, family, site), row, site.kind) for row in rows]
        )
        for found in (once[site], one_by_one[site]):
            assert (found - wanted).abs().max() < tolerance(lm.model) * wanted.abs().max()


def opt():
    """Its MLP sees the tokens of all rows as one list."""
    torch.manual_seed(0)
    size = {k: v for k, v in SIZE.items() if k != "initializer_range"} | {"ffn_dim": 48, "word_embed_proj_dim": 32}
    return OPTForCausalLM(OPTConfig(**size, init_std=0.3)).double().eval()


def test_a_family_that_flattens_its_rows():
    """Keys, values and what is added at the MLP's output, of several rows at once against one row alone."""
    lm = EditableModel.of(opt(), toy_tokenizer(), "opt")
    rows = rows_of(lm.tokenizer, FACTS, PREFIXES, drift=True)
    fc2 = lm.projection(1).module
    assert fc2 is lm.model.model.decoder.layers[1].fc2
    found = observe(lm, rows, [Site("key", 1), Site("mlp", 1)])
    for i, row in enumerate(rows):
        seen = []
        handle = fc2.register_forward_hook(lambda _m, args, out, seen=seen: seen.extend([args[0], out]))
        with torch.no_grad():
            lm.model(input_ids=torch.tensor([row.ids]), use_cache=False)
        handle.remove()
        key, value = (states.view(len(row.ids), -1)[row.subject_last] for states in seen)
        assert torch.allclose(found[Site("key", 1)][i], key, rtol=1e-9)
        assert torch.allclose(found[Site("mlp", 1)][i], value, rtol=1e-9)
    for layout in (Padded, Packed):
        runner = SuffixRunner(lm, rows, [Site("mlp", 1)], layout)
        delta = torch.randn(len(rows), 32, dtype=torch.float64)
        with torch.no_grad():
            logits = runner.logits(delta[None])
        start = 0
        for row, added in zip(runner.rows, delta, strict=True):

            def add(_m, _args, out, row=row, added=added):
                changed = out.clone().view(len(row.ids), -1)
                changed[row.subject_last] += added
                return changed.view_as(out)

            handle = fc2.register_forward_hook(add)
            with torch.no_grad():
                whole = lm.model(input_ids=torch.tensor([row.ids]), use_cache=False).logits[0]
            handle.remove()
            wanted = whole[row.target_start - 1 :] if row.targets else whole[row.subject_last].unsqueeze(0)
            assert torch.allclose(logits[start : start + len(wanted)], wanted, rtol=1e-6, atol=1e-9)
            start += len(wanted)


def test_observe_does_not_run_what_is_deeper_than_asked():
    lm, ran = fresh("gpt2"), []
    for layer, block in enumerate(lm.anatomy.blocks):
        block.mlp.register_forward_hook(lambda *_a, layer=layer: ran.append(layer))
    observe(lm, rows_of(lm.tokenizer, FACTS, ()), [Site("block", 2), Site("key", 1)])
    assert set(ran) == {0, 1, 2}
    assert not any(m._forward_pre_hooks for m in lm.model.modules())


def test_observe_gives_float32_for_bfloat16_models():
    for make in (toy_llama, toy_gpt2):
        lm = EditableModel.of(make(dtype=torch.bfloat16), toy_tokenizer(), "toy")
        assert observe(lm, rows_of(lm.tokenizer, FACTS, ()), [Site("key", 1)])[Site("key", 1)].dtype == torch.float32
