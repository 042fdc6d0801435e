"""On a linear network every quantity of the analysis equals its closed form."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from residuals_help import LinearNetwork, Prescribed, Writes, inputs_of, linear_model

from bluedit.editing.editor import Editor
from bluedit.explain.residuals import explain_residuals
from bluedit.facts import world_facts
from bluedit.maths.schedule import spread
from bluedit.methods.presets import preset
from bluedit.statistics.store import MomentStore
from bluedit.text.corpus import Corpus
from bluedit.text.prompts import subject_row
from bluedit.writing.keys import average_keys, batch_rows
from toys import corpus_in

LAYERS = (1, 2, 3)
LAMBDA = 3.0
EXACT = {"rtol": 1e-8, "atol": 1e-8}
SHARES = {1: 1 / 3, 2: 1 / 2, 3: 1.0}
PREFIXES = 2


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """An analysis of the linear network, and the network written out."""
    folder = tmp_path_factory.mktemp("residuals")
    lm = linear_model()
    source = Prescribed(32)
    corpus = corpus_in(folder)
    # no token sees another, so a residual counts only where the answer follows the subject
    facts = [replace(fact, prompt="They speak of {}") for fact in world_facts(6)]
    network = LinearNetwork.of(lm)
    before = {name: p.detach().clone() for name, p in lm.model.named_parameters()}
    settings = {"contexts.count": PREFIXES, "preserve.lambda": LAMBDA}
    options = {"corpus": str(corpus), "tokens": 400, "statistics": folder / "statistics"}
    writes = Writes()
    editor = Editor(lm, targets=source, trace=writes, **options)
    found = explain_residuals(editor, facts, folder / "out", layers=LAYERS, settings=settings, batches=2, fluent=1)
    assert all(torch.equal(p, before[name]) for name, p in lm.model.named_parameters())
    recipe = preset("memit").override({"contexts.count": PREFIXES})
    rows = batch_rows(lm.tokenizer, facts, recipe.contexts.prefixes(None), recipe)
    assert not rows.after_subject
    bare = sorted((row for row in rows.rows if row.is_bare), key=lambda row: row.fact)
    moments = MomentStore(lm, "", Corpus(str(corpus)), 400, folder / "statistics-again")
    C = {layer: C.matrix.double() for layer, C in moments.get(list(LAYERS)).items()}
    delta = {layer: source.delta(layer, len(facts)) for layer in LAYERS}
    return SimpleNamespace(**locals())


def table(case, name, **like):
    rows = [row for row in case.found.tables[name] if all(getattr(row, key) == value for key, value in like.items())]
    assert rows
    return rows


def column(rows, name):
    return torch.tensor([getattr(row, name) for row in rows], dtype=torch.float64)


def prompts_of(case):
    return [row for row in case.rows.rows if not row.is_drift]


def keys(case, network, layer):
    """Averaged keys, width x n."""
    rows = prompts_of(case)
    h = network.run(inputs_of(case.lm, rows), 0, layer - 1)
    return average_keys(rows, network.key(layer, h).T, len(case.facts))


def solver(case, layer, K, memory=0.0):
    """A of MEMIT's closed form, with d_key x d_key matrices."""
    return torch.linalg.solve(LAMBDA * case.C[layer] + memory + K @ K.T, K).T


def value(case, network, layer):
    return network.run(inputs_of(case.lm, case.bare), 0, layer)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("kind", ["computed", "distributed"])
def test_contribution(case, layer, kind):
    vectors = case.delta[layer] if kind == "computed" else SHARES[layer] * case.delta[3]
    gains = torch.zeros(len(case.facts), dtype=torch.float64)
    prompts = prompts_of(case)
    for row in prompts:
        scores = []
        for added in (0 * vectors, vectors):
            states = row_states(case, row, layer, added[:, row.fact])
            at = torch.arange(len(row.targets)) + row.target_start - 1
            log_p = (case.network.head @ states[:, at]).log_softmax(dim=0)
            scores.append(log_p[list(row.targets), range(len(row.targets))].mean().exp())
        gains[row.fact] += (scores[1] - scores[0]) / (1 + PREFIXES)
    found = table(case, "contributions", layer=layer, residual=kind)
    torch.testing.assert_close(column(found, "gain"), gains, **EXACT)
    assert gains.abs().max() > 1e-6


def row_states(case, row, layer, added):
    """Final hidden states of all tokens of a row, with a vector added after a block at the subject's last token: no token sees another."""
    embedding = case.lm.model.transformer
    h = (embedding.wte.weight[list(row.ids)] + embedding.wpe.weight[: len(row.ids)]).detach().T
    h = case.network.run(h, 0, layer)
    h[:, row.subject_last] += added
    return case.network.run(h, layer + 1, 3)


def test_direction_and_size(case):
    last = case.delta[3]
    for layer in LAYERS:
        own, share = case.delta[layer], SHARES[layer]
        found = table(case, "geometry", layer=layer)
        expected = {
            "own": own.norm(dim=0),
            "last": last.norm(dim=0),
            "cosine": (own * last).sum(dim=0) / own.norm(dim=0) / last.norm(dim=0),
            "share_gap": (share * last - own).norm(dim=0),
            "whole_gap": (last - own).norm(dim=0),
        }
        for name, values in expected.items():
            torch.testing.assert_close(column(found, name), values, **EXACT)
        assert {(row.distance, row.share) for row in found} == {(3 - layer, share)}


def test_what_a_residual_causes(case):
    for layer in LAYERS[:-1]:
        caused = case.network.jacobian(layer, 3) @ case.delta[layer]
        found = table(case, "passive", layer=layer)
        torch.testing.assert_close(column(found, "cosine"), cosine(caused, case.delta[layer]), **EXACT)
        torch.testing.assert_close(column(found, "wanted"), cosine(caused, case.delta[3]), **EXACT)
        torch.testing.assert_close(column(found, "gain"), caused.norm(dim=0) / case.delta[layer].norm(dim=0), **EXACT)


def cosine(one, other):
    return (one * other).sum(dim=0) / one.norm(dim=0) / other.norm(dim=0)


ORDERS = {
    "divided": [(s.layer, s.target, s.share) for s in spread(LAYERS)],
    "undivided": [(layer, 3, 1.0) for layer in LAYERS],
    "own targets": [(layer, layer, 1.0) for layer in LAYERS],
    "BLUE": [(1, 1, 1.0), (3, 3, 1.0)],
    "single": [(1, 1, 1.0)],
    "replay": [(layer, layer, 1.0) for layer in LAYERS],
}


@pytest.mark.parametrize("name", ORDERS)
def test_what_is_left_after_each_write(case, name):
    network, delta = case.network, case.delta
    wanted = value(case, network, 3) + delta[3]
    targets = {}
    if name == "replay":
        targets = {k: value(case, network, k) + network.jacobian(1, k) @ delta[1] for k in LAYERS}
    left = [torch.ones(len(case.facts), dtype=torch.float64)]
    for layer, target, share in ORDERS[name]:
        z = targets.setdefault(target, value(case, network, target) + delta[target])
        K = keys(case, network, layer)
        R = share * (z - value(case, network, target))
        network = network.add(layer, R @ solver(case, layer, K))
        left.append((wanted - value(case, network, 3)).norm(dim=0) / delta[3].norm(dim=0))
    for write, expected in enumerate(left):
        found = table(case, "remaining", schedule=name, write=write)
        torch.testing.assert_close(column(found, "share"), expected, **EXACT)
    assert len(table(case, "remaining", schedule=name)) == len(left) * len(case.facts)


@pytest.mark.parametrize("kind", ["computed", "distributed"])
@pytest.mark.parametrize("layer", LAYERS)
def test_writing_a_single_layer(case, layer, kind):
    R = case.delta[layer] if kind == "computed" else SHARES[layer] * case.delta[3]
    update = R @ solver(case, layer, keys(case, case.network, layer))
    # the first writes, in this order: computed and distributed residuals of each layer, which are the same at the last
    write = case.writes.seen[2 * LAYERS.index(layer) + (kind == "distributed" and layer != LAYERS[-1])]
    assert (write.step.layer, write.step.share) == (layer, 1.0)
    torch.testing.assert_close(write.R.double() @ write.A.double(), update, **EXACT)
    edited = case.network.add(layer, update)
    expected = []
    for i in range(len(case.facts)):
        row = next(row for row in case.bare if row.fact == i)
        expected.append(float(says(case, edited, row)))
    found = table(case, "single_layer", layer=layer, residual=kind, metric="strict")
    assert column(found, "value").tolist() == expected
    others = {row.metric for row in table(case, "single_layer", layer=layer, residual=kind)}
    assert {"efficacy", "generalisation", "specificity", "fluency"} <= others
    assert "consistency" not in others  # it needs reference texts


def test_steps(case):
    for layer in LAYERS:
        found = table(case, "steps", layer=layer)
        assert [row.unedited for row in found] == list(range(6))
        assert [row.after for row in found] == [i + 4 * (layer - 1) for i in range(6)]  # with the layers below written


def test_growth_and_bounds(case):
    delta, n = case.delta, len(case.facts)

    def check(row, layer, columns):
        K = keys(case, case.network, layer)[:, columns]
        A = solver(case, layer, K)
        own, last, share = delta[layer][:, columns], delta[3][:, columns], SHARES[layer]
        error = ((own - share * last) @ A).norm()
        size = torch.linalg.matrix_norm(A, 2)
        most = 0.5 / torch.linalg.eigvalsh(LAMBDA * case.C[layer])[0].sqrt()
        expected = {
            "error": error,
            "update": (own @ A).norm(),
            "direct": (own - share * last).norm() * size,
            "tightened": ((own - last).norm() + (1 - share) * last.norm()) * size,
            "published": ((own - last).norm() + (3 - layer) * last.norm()) * size,
            "saturated": (own - share * last).norm() * most,
        }
        for name, value in expected.items():
            assert getattr(row, name) == pytest.approx(float(value), rel=1e-8)

    for row in table(case, "growth", along="layers"):
        assert row.size == 4 - row.layer
        check(row, row.layer, slice(None))
    sizes = [(row.size, row.repeat) for row in table(case, "growth", along="facts")]
    assert sizes == [*((1, i) for i in range(5)), *((2, i) for i in range(3)), (5, 0), (6, 0)]
    for row in table(case, "growth", along="facts"):
        check(row, 1, slice(row.repeat * row.size, (row.repeat + 1) * row.size))
    wrong, right, memory, direct = 0, 0, 0, 0
    for number, row in enumerate(table(case, "growth", along="batches")):
        columns = slice(number * n // 2, (number + 1) * n // 2)
        K = keys(case, case.network, 1)[:, columns]
        A = solver(case, 1, K, memory)
        gap = (delta[1] - delta[3] / 3)[:, columns]
        wrong, right = wrong + gap @ A, right + delta[1][:, columns] @ A
        direct += gap.norm() * torch.linalg.matrix_norm(A, 2)
        memory = memory + K @ K.T
        for name, value in (("error", wrong.norm()), ("update", right.norm()), ("direct", direct)):
            assert getattr(row, name) == pytest.approx(float(value), rel=1e-8)


@pytest.mark.parametrize(("recipe", "layers"), [("memit-seq", LAYERS), ("memit-seq-blue", (1, 3))])
def test_shift_of_unrelated_facts(case, recipe, layers):
    """Two batches of three facts, plain and with BLUE, on facts that were not edited."""
    edited = {fact.subject for fact in case.facts}
    others = [fact for fact in world_facts(neighbours=0) if fact.subject not in edited][:20]
    rows = [subject_row(case.lm.tokenizer, fact, i) for i, fact in enumerate(others)]
    before = case.network.run(inputs_of(case.lm, rows), 0, 3).T
    network, memory = case.network, dict.fromkeys(LAYERS, 0.0)
    for number, row in enumerate(table(case, "shift", recipe=recipe)):
        part = SimpleNamespace(**{**vars(case), "facts": case.facts[3 * number : 3 * number + 3]})
        part.rows = batch_rows(case.lm.tokenizer, part.facts, case.recipe.contexts.prefixes(None), case.recipe)
        part.bare = sorted((row for row in part.rows.rows if row.is_bare), key=lambda row: row.fact)
        z = {layer: value(part, network, layer) + case.source.delta(layer, 3) for layer in LAYERS}
        for layer in layers:
            K = keys(part, network, layer)
            blue = recipe.endswith("blue")
            R = case.source.delta(layer, 3) if blue else SHARES[layer] * (z[3] - value(part, network, 3))
            network = network.add(layer, R @ solver(case, layer, K, memory[layer]))
        for layer in layers:
            K = keys(part, network, layer)
            memory[layer] = memory[layer] + K @ K.T
        after = network.run(inputs_of(case.lm, rows), 0, 3).T
        assert row.strict == pytest.approx(said(case, network, case.facts[: row.edited]))
        assert row.known == 20 and row.edited == 3 * (number + 1)
        assert row.shift == pytest.approx(float(((after - before).norm(dim=1) / before.norm(dim=1)).mean()), rel=1e-8)
        assert row.cosine == pytest.approx(float(cosine(after.T, before.T).mean()), rel=1e-8)
        spread_before = (before - before.mean(0)).norm() / 20**0.5
        assert row.centre == pytest.approx(float((after.mean(0) - before.mean(0)).norm() / spread_before), rel=1e-8)
        assert row.cka == pytest.approx(float(cka(before, after)), rel=1e-8)
    places = table(case, "places", recipe=recipe)
    flat = torch.tensor([[row.x, row.y] for row in places], dtype=torch.float64)
    axes = torch.linalg.svd(before - before.mean(0), full_matrices=False)[2][:2]
    torch.testing.assert_close(flat.abs(), ((after - before.mean(0)) @ axes.T).abs(), **EXACT)


def said(case, network, facts):
    """Share of the facts whose target's tokens are the network's first choices."""
    return sum(says(case, network, subject_row(case.lm.tokenizer, fact, 0)) for fact in facts) / len(facts)


def says(case, network, row):
    embedding = case.lm.model.transformer
    h = (embedding.wte.weight[list(row.ids)] + embedding.wpe.weight[: len(row.ids)]).detach().T
    states = network.run(h, 0, 3)
    at = torch.arange(len(row.targets)) + row.target_start - 1
    return (network.head @ states[:, at]).argmax(dim=0).tolist() == list(row.targets)


def cka(one, other):
    """By its kernel form: centred Gram matrices."""
    centre = torch.eye(len(one), dtype=torch.float64) - 1 / len(one)
    K, L = (centre @ states @ states.T @ centre for states in (one, other))
    return (K * L).sum() / (K.norm() * L.norm())
