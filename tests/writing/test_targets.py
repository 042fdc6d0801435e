"""Targets z* against one-fact-at-a-time optimisation that shares no code with bluedit: full forwards, torch.optim.Adam."""

from dataclasses import replace

import pytest
import torch

from bluedit import Execution
from bluedit.errors import EditError
from bluedit.facts import Fact
from bluedit.methods.objective import Objective
from bluedit.methods.recipe import Recipe
from bluedit.model.editable import EditableModel
from bluedit.model.sites import Site
from bluedit.model.state import frozen
from bluedit.progress import Progress
from bluedit.text.prompts import OTHER_TEXTS, rows_of
from bluedit.writing.keys import batch_rows
from bluedit.writing.targets import optimise_targets
from toys import FACTS, toy_gpt2, toy_llama, toy_tokenizer

MODELS = {"llama": toy_llama, "gpt2": toy_gpt2}
PREFIXES = ("The weather was mild that morning.", "Therefore, the committee met again.")
FAST = Objective(learning_rate=0.5, steps=6, clamp=2.0, weight_decay=0.1, kl_factor=0.0625, stop_loss=0.0)
SITES = {"block": 2, "mlp": 1}


def optimise(lm, facts, objective=FAST, site="block", prefixes=PREFIXES, tokens=0):
    rows = rows_of(lm.tokenizer, facts, prefixes, drift=True)
    if objective.others or objective.teacher:
        rows = batch_rows(lm.tokenizer, facts, prefixes, Recipe("any", objective=objective)).rows
    with frozen(lm.model), Progress().task("", 0) as advance:
        return optimise_targets(
            lm, rows, Site(site, SITES[site]), objective, Execution(tokens_per_step=tokens), advance
        )


def toy(family, bos=False):
    return EditableModel.of(MODELS[family](), toy_tokenizer(bos=bos), family)


def stopping_early(lm, facts, site="block"):
    """An objective under which some facts end well before others: random toys start near 8 nats and fall slowly."""
    at_step_two = optimise(lm, facts, replace(FAST, steps=3), site).loss
    return replace(FAST, stop_loss=float(at_step_two.median()) + 1e-6)


# an independent transcription


def site_module(model, family, kind, layer):
    block = model.model.layers[layer] if family == "llama" else model.transformer.h[layer]
    if kind == "block":
        return block
    return block.mlp.down_proj if family == "llama" else block.mlp.c_proj


def forward(model, where, ids, at, delta):
    """Full logits with delta added to the output of `where` at token `at`, and that output before the addition."""
    seen = []

    def hook(_module, _args, output):
        hidden = output[0] if isinstance(output, tuple) else output
        seen.append(hidden[0, at].detach())
        mark = torch.zeros(len(ids), 1, dtype=hidden.dtype)
        mark[at] = 1
        hidden = hidden + mark * delta
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    handle = where.register_forward_hook(hook)
    try:
        return model(input_ids=torch.tensor([ids])).logits[0], seen[0]
    finally:
        handle.remove()


def later_states(model, where, ids, at, delta, objective):
    """Outputs of the blocks above the site at token `at`, with delta added: layers x width."""
    blocks = list(model.model.layers if hasattr(model, "model") else model.transformer.h)
    first = next(i for i, block in enumerate(blocks) if where in block.modules())
    seen, handles = [], []
    for block in blocks[first + 1 :][: objective.variance_layers]:
        see = lambda _m, _a, out: seen.append((out[0] if isinstance(out, tuple) else out)[0, at])  # noqa: E731
        handles.append(block.register_forward_hook(see))
    forward(model, where, ids, at, delta)
    for handle in handles:
        handle.remove()
    return torch.stack(seen)


def plain_target(model, tokenizer, where, fact, objective, prefixes):
    """z* and the number of Adam steps, as docs/methods.md describes them."""
    prompts, width = [], model.config.hidden_size
    for prefix in ("", *prefixes):
        before = f"{prefix} " if prefix else ""
        text = before + fact.prompt.replace("{}", fact.subject)
        encoded = tokenizer(text)
        at = encoded.char_to_token(len(before) + fact.prompt.index("{}") + len(fact.subject) - 1)
        whole = tokenizer(f"{text} {fact.target}")["input_ids"]
        prompts.append((whole, len(encoded["input_ids"]), at))
    essence = tokenizer(f"{fact.subject} is a")
    essence_at = essence.char_to_token(len(fact.subject) - 1)

    zero = torch.zeros(width, dtype=torch.float64)
    others = []
    for template in OTHER_TEXTS[: objective.others]:
        encoded = tokenizer(template.replace("{}", fact.subject))
        others.append((encoded["input_ids"], encoded.char_to_token(template.index("{}") + len(fact.subject) - 1)))
    bare, end, spot_of = prompts[0]
    told = fact.prompt.replace("{}", fact.subject)
    imagined = [*tokenizer(f"Imagine that {told} {fact.target}. {told}")["input_ids"], *bare[end:]]
    with torch.no_grad():
        before = [forward(model, where, text, spot, zero)[0][-1].log_softmax(-1) for text, spot in others]
        teacher = forward(model, where, imagined, 0, zero)[0].log_softmax(-1)[end - 1 - len(bare) : -1]
        _, h = forward(model, where, prompts[0][0], prompts[0][2], zero)
        start, _ = forward(model, where, essence["input_ids"], essence_at, zero)
    p_start = start[essence_at].log_softmax(-1)
    delta = zero.clone().requires_grad_(True)
    adam = torch.optim.Adam([delta], lr=objective.learning_rate)
    for step in range(objective.steps):
        losses = []
        for ids, begin, at in prompts:
            logp = forward(model, where, ids, at, delta)[0].log_softmax(-1)
            losses.append(-sum(logp[i - 1, ids[i]] for i in range(begin, len(ids))) / (len(ids) - begin))
        p_now = forward(model, where, essence["input_ids"], essence_at, delta)[0][essence_at].log_softmax(-1)
        kl = (p_now.exp() * (p_now - p_start)).sum()
        if step == 0:
            assert abs(kl.item()) < 1e-12
        held = [zero.sum()]
        for (text, spot), was in zip(others, before, strict=True):
            now = forward(model, where, text, spot, delta)[0][-1].log_softmax(-1)
            held.append((now.exp() * (now - was)).sum() / len(others))
        student = forward(model, where, bare, spot_of, delta)[0].log_softmax(-1)[end - 1 : -1]
        states = [later_states(model, where, ids, at, delta, objective) for ids, _, at in prompts]
        n, d = len(states), width
        squares, total = sum((s * s).sum(-1) for s in states), sum(states)
        spread = (n * squares - (total * total).sum(-1)) / (d * n * n)  # by layer
        loss = (
            torch.stack(losses).mean()
            + objective.variance * spread.mean()
            + objective.others_factor * sum(held)
            + objective.teacher * (teacher.exp() * (teacher - student)).sum(-1).mean()
            + objective.kl_factor * kl
            + objective.weight_decay * delta.norm() / h.norm() ** 2
        )
        if loss.item() < objective.stop_loss or step == objective.steps - 1:
            return h + delta.detach(), step, loss.item()
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            if delta.norm() > objective.clamp * h.norm():
                delta *= objective.clamp * h.norm() / delta.norm()
    raise AssertionError


def compare(lm, family, facts, objective, site, prefixes=PREFIXES, plain_objective=None):
    """The targets of a batch, which must be those of the transcription; that one may be given another objective, to see it fail."""
    found = optimise(lm, facts, objective, site, prefixes)
    where = site_module(lm.model, family, site, SITES[site])
    with frozen(lm.model):
        for i, fact in enumerate(facts):
            z, steps, loss = plain_target(lm.model, lm.tokenizer, where, fact, plain_objective or objective, prefixes)
            assert int(found.steps[i]) == steps
            assert (found.z[:, i] - z).norm() <= 1e-8 * z.norm()
            assert float(found.loss[i]) == pytest.approx(loss, rel=1e-8)
    return found


@pytest.mark.parametrize("family", MODELS)
@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("site", SITES)
def test_batch_equals_the_plain_transcription(family, bos, site):
    lm = toy(family, bos)
    found = compare(lm, family, FACTS, stopping_early(lm, FACTS, site), site)
    steps = found.steps.tolist()
    assert len(set(steps)) > 1, f"all facts end together after {steps}: the test would not see an early stop"


@pytest.mark.parametrize(
    ("family", "change"),
    [
        ("llama", {"clamp": 0.03}),  # binds at every step
        ("gpt2", {"weight_decay": 20.0, "learning_rate": 0.1}),
        ("gpt2", {"kl_factor": 5.0}),
        ("llama", {"kl_factor": 0.0, "weight_decay": 0.0}),
        ("gpt2", {"learning_rate": 3.0}),
        ("llama", {"steps": 1}),
        ("gpt2", {"others": 3, "others_factor": 2.0}),
        ("gpt2", {"others": 6}),
        ("gpt2", {"teacher": 3.0}),
        ("gpt2", {"teacher": 0.5, "others": 1}),
        ("gpt2", {"variance": 2.0}),
        ("gpt2", {"variance": 50.0, "variance_layers": 1}),
    ],
    ids=str,
)
def test_every_term_of_the_objective(family, change):
    compare(toy(family), family, FACTS[:2], replace(FAST, **{"steps": 5} | change), "block")


def test_terms_of_facts_that_end_early():
    lm, terms = toy("gpt2"), replace(FAST, others=2, teacher=0.5, variance=1.0)
    middle = optimise(lm, FACTS, replace(terms, steps=3)).loss.median()
    found = compare(lm, "gpt2", FACTS, replace(terms, stop_loss=float(middle) + 1e-6), "block")
    assert len(set(found.steps.tolist())) > 1


def test_at_the_last_block_there_is_nothing_to_watch():
    lm = toy("gpt2")
    last = Site("block", lm.anatomy.n_layers - 1)
    rows = rows_of(lm.tokenizer, FACTS[:1], PREFIXES, drift=True)
    with frozen(lm.model), Progress().task("", 0) as advance:
        one, other = (
            optimise_targets(lm, rows, last, replace(FAST, variance=v), Execution(), advance).z for v in (0.0, 9.0)
        )
    assert torch.equal(one, other)


def test_without_prefixes():
    compare(toy("llama", bos=True), "llama", FACTS[1:], FAST, "block", prefixes=())


@pytest.mark.parametrize("name", ["weight_decay", "kl_factor", "learning_rate", "clamp"])
def test_the_comparison_can_fail(name):
    other = replace(FAST, clamp=0.03)
    with pytest.raises(AssertionError):
        compare(
            toy("llama"),
            "llama",
            FACTS[:1],
            other,
            "block",
            plain_objective=replace(other, **{name: getattr(other, name) * 1.001}),
        )


@pytest.mark.parametrize("name", ["others_factor", "teacher", "variance"])
def test_the_comparison_of_further_terms_can_fail(name):
    terms = replace(FAST, others=2, others_factor=1.0, teacher=0.5, variance=5.0)
    with pytest.raises(AssertionError):
        other = replace(terms, **{name: 1.01 * getattr(terms, name)})
        compare(toy("gpt2"), "gpt2", FACTS[:1], terms, "block", plain_objective=other)


# batches

MANY = (
    *FACTS,
    Fact("{} plays the", subject="The", target="violin"),  # subject at the start: nothing before it without BOS
    Fact("Where is the {}?", subject="Eiffel Tower", target="Rome in Italian"),
)


@pytest.mark.parametrize("family", MODELS)
@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("site", SITES)
def test_a_batch_equals_its_facts_one_by_one(family, bos, site):
    lm = toy(family, bos)
    objective = stopping_early(lm, MANY, site)
    batch = optimise(lm, MANY, objective, site, PREFIXES[:1])
    assert len(set(batch.steps.tolist())) > 1
    for i, fact in enumerate(MANY):
        alone = optimise(lm, [fact], objective, site, PREFIXES[:1])
        assert int(batch.steps[i]) == int(alone.steps[0])
        assert (batch.z[:, i] - alone.z[:, 0]).norm() <= 1e-9 * alone.z.norm()
        assert (batch.start[:, i] - alone.start[:, 0]).norm() <= 1e-9 * alone.start.norm()


@pytest.mark.parametrize("tokens", [1, 60])
def test_chunks_do_not_change_results(tokens):
    lm = toy("llama")
    objective = stopping_early(lm, MANY)
    passes = []
    handle = lm.anatomy.head.register_forward_hook(lambda *_: passes.append(1))
    whole = optimise(lm, MANY, objective)
    at_once = len(passes)
    parts = optimise(lm, MANY, objective, tokens=tokens)
    handle.remove()
    assert len(passes) - at_once > at_once, "the facts were not divided"
    assert torch.equal(whole.steps, parts.steps)
    for name in ("z", "start", "loss"):
        assert torch.allclose(getattr(whole, name), getattr(parts, name), rtol=1e-9, atol=1e-11)


def test_a_fact_that_is_finished_keeps_its_target():
    """More steps for the others change nothing for those that stopped before."""
    lm = toy("llama")
    objective = stopping_early(lm, MANY)
    long, short = optimise(lm, MANY, objective), optimise(lm, MANY, replace(objective, steps=5))
    early = (long.steps < 4).nonzero().flatten()
    assert 0 < len(early) < len(MANY)
    assert long.steps.max() == 5
    assert torch.allclose(long.z[:, early], short.z[:, early], rtol=1e-9)
    assert torch.equal(long.steps[early], short.steps[early])


@pytest.mark.parametrize(("growth", "last"), [(0.0, 3), (0.5, 6), (1.0, 11)])
def test_a_target_that_facts_share_gets_more_steps(growth, last):
    """Three facts share the first column; the second column has one."""
    lm = toy("llama")
    rows = rows_of(lm.tokenizer, MANY[:4], PREFIXES, drift=True)
    rows = [replace(row, fact=row.fact // 3) for row in rows]
    objective = replace(FAST, steps=4, steps_growth=growth)
    with frozen(lm.model), Progress().task("", 0) as advance:
        found = optimise_targets(lm, rows, Site("block", 2), objective, Execution(), advance)
    assert found.steps.tolist() == [last, 3]


def test_progress_counts_every_fact_once():
    counted = []
    lm = toy("llama")
    rows = rows_of(lm.tokenizer, MANY, (), drift=True)

    def advance(count=1):
        counted.append(count)

    optimise_targets(lm, rows, Site("block", 2), FAST, Execution(), advance)
    assert sum(counted) == len(MANY)


# bounds


@pytest.mark.parametrize("family", MODELS)
@pytest.mark.parametrize("clamp", [0.1, 0.75])
def test_delta_stays_within_the_clamp(family, clamp):
    found = optimise(toy(family), MANY, replace(FAST, clamp=clamp, learning_rate=2.0, stop_loss=0.0))
    ratio = (found.z - found.start).norm(dim=0) / found.start.norm(dim=0)
    assert (ratio <= clamp * (1 + 1e-12)).all()
    assert ratio.max() > clamp * 0.999


def test_start_is_the_models_own_value_and_the_loss_falls():
    lm = toy("gpt2")
    one, many = optimise(lm, MANY, replace(FAST, steps=1)), optimise(lm, MANY)
    assert torch.equal(one.z, one.start)
    assert one.steps.tolist() == [0] * len(MANY)
    assert (many.loss < one.loss).all()


def test_a_loss_below_the_limit_at_once_takes_no_step():
    found = optimise(toy("llama"), FACTS, replace(FAST, stop_loss=1e9))
    assert torch.equal(found.z, found.start)
    assert found.steps.tolist() == [0, 0, 0]


def test_nan_weights_are_reported():
    lm = toy("llama")
    lm.projection(4).parameter.data[0, 0] = torch.nan
    with pytest.raises(EditError) as caught:
        optimise(lm, FACTS)
    assert str(caught.value) == (
        "the loss of 3 facts is not finite at step 1; check the model's weights, or lower objective.learning_rate"
    )


def test_the_model_is_left_as_it_was():
    lm = toy("llama")
    before = {name: p.clone() for name, p in lm.model.named_parameters()}
    optimise(lm, FACTS)
    assert all(torch.equal(p, before[name]) and p.grad is None for name, p in lm.model.named_parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks or "forward" in vars(m) for m in lm.model.modules())


def test_float32_and_bfloat16_models_give_float32_targets():
    for dtype in (torch.float32, torch.bfloat16):
        lm = EditableModel.of(toy_llama(dtype=dtype), toy_tokenizer(), "toy")
        found = optimise(lm, FACTS)
        assert found.z.dtype == found.loss.dtype == torch.float32
        assert torch.isfinite(found.z).all()


@pytest.mark.parametrize("anchor", ["current", "unedited"])
def test_tokens_that_the_model_rules_out_leave_the_loss_finite(anchor):
    """Some models mask unused ids: their logit is -inf, and 0 log 0 must count for nothing."""
    lm, plain = toy("llama"), toy("llama")
    targets = {token for row in rows_of(lm.tokenizer, FACTS, PREFIXES) for token in row.targets}
    unused = [token for token in range(lm.tokenizer.vocab_size) if token not in targets][-3:]
    for model in (lm, plain):  # the same distribution by other means
        lower = -torch.inf if model is lm else -1e4
        model.model.lm_head.register_forward_hook(
            lambda _m, _a, out, lower=lower: out.index_fill(-1, torch.tensor(unused), lower)
        )
    objective = replace(FAST, kl_anchor=anchor)
    found, expected = optimise(lm, FACTS, objective), optimise(plain, FACTS, objective)
    assert torch.isfinite(found.loss).all()
    assert torch.allclose(found.z, expected.z, rtol=1e-9)
