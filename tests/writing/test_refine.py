"""Refining: R is descended on through what the written model says; A, all other weights and the journal's rules stay as they are."""

from collections import Counter
from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
import torch

from bluedit import Editor, Fact
from bluedit.errors import EditError, RecipeError
from bluedit.execution import Execution
from bluedit.methods.presets import preset
from bluedit.methods.wordings import PromptOnly
from bluedit.progress import Progress
from bluedit.statistics.store import MomentStore
from bluedit.text.names import name_rows, texts_of_others
from bluedit.writing import _refine, edit_run, loop
from bluedit.writing.writer import FactWriter
from toys import FACTS, FAMILIES, toy_tokenizer

SETTINGS = {
    "layers": [1, 2, 3],
    "objective.steps": 3,
    "contexts.count": 1,
    "refine.steps": 4,
    "refine.each": 9,
    "refine.least": 1,
    "refine.tokens": 64,
}
OTHER = Fact("The library of {} is in", subject="London", target="Italian")


def make(family="llama", **options):
    return Editor(FAMILIES[family](), toy_tokenizer(), tokens=600, **{"progress": False} | options)


def edit(editor, recipe="memit-seq-joint", facts=FACTS[:2], **settings):
    editor.edit(facts, recipe, settings=SETTINGS | settings, known="edit", report=False)
    return editor.patch.batches[-1].updates


@pytest.fixture
def watched(monkeypatch):
    """What `refined` was given and gave, for each call."""
    calls, refined = [], _refine.refined

    def watching(context, factors, batch, steps, names=0):
        before = {layer: context.lm.projection(layer).matrix().clone() for layer, _, _ in factors}
        found = refined(context, factors, batch, steps, names)
        calls.append((factors, batch.rows, context.ordinary(), context.recipe.update.refine, before, found))
        return found

    monkeypatch.setattr(loop, "refined", watching)
    monkeypatch.setattr(edit_run, "refined", watching)
    return calls


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_only_residuals_differ_and_the_patch_makes_the_same_weights(family):
    plain, other = make(family), make(family)
    before = {name: tensor.clone() for name, tensor in plain.model.state_dict().items()}
    written, changed = edit(plain, **{"refine.steps": 0}), edit(other)
    assert [one.layer for one in written] == [one.layer for one in changed]
    for one, two in zip(written, changed, strict=True):
        assert torch.equal(one.A, two.A), "all layers are written before any is refined"
        assert not torch.equal(one.R, two.R)
    again = make(family)
    again.apply(other.patch)
    assert all(torch.equal(a, b) for a, b in zip(again.model.parameters(), other.model.parameters(), strict=True))
    other.undo()
    assert all(torch.equal(before[name], tensor) for name, tensor in other.model.state_dict().items())


def loss_of(lm, factors, residuals, rows, ordinary, weight):
    """The loss, densely: with the weights changed, row by row."""
    layers = sorted({layer for layer, _, _ in factors})
    originals = {layer: lm.projection(layer).matrix().detach().clone() for layer in layers}
    names = {layer: f"{lm.projection(layer).name}.weight" for layer in layers}
    weights = {}
    for layer in layers:
        change = sum(R @ A for (at, _, A), R in zip(factors, residuals, strict=True) if at == layer)
        weights[names[layer]] = originals[layer] + change

    def run(ids, changed):
        with_these = weights if changed else {}
        kept = []
        handle = lm.anatomy.blocks[layers[-1]].register_forward_hook(
            lambda _m, _a, out: kept.append(out[0] if isinstance(out, tuple) else out)
        )
        logits = torch.func.functional_call(lm.model, with_these, (torch.tensor([ids]),)).logits[0]
        handle.remove()
        return logits, kept[0].reshape(len(ids), -1)

    losses = []
    for row in rows:
        start = row.target_start - 1
        chances = run(row.ids, True)[0][start : start + len(row.targets)].log_softmax(-1)
        losses.append(-chances[range(len(row.targets)), list(row.targets)].mean())
    far, count = 0, 0
    for row in ordinary:
        before, after = run(row, False)[1].detach()[1:], run(row, True)[1][1:]
        far += ((after - before).square().sum(-1) / before.square().sum(-1)).sum()
        count += len(row) - 1
    return torch.stack(losses).mean() + weight * far / count


def test_the_first_step_goes_down_the_gradient_of_the_loss(watched, monkeypatch):
    monkeypatch.setattr(MomentStore, "all_rows", MomentStore.rows)
    editor = make()
    whole = {"refine.steps": 1, "refine.tokens": 608, "refine.texts": 4, "refine.weight": 3}
    edit(editor, facts=[FACTS[0]], wordings="prompt", **{"contexts.count": 0}, **whole)
    editor.reset()
    factors, rows, ordinary, settings, _, found = watched[0]
    assert sum(map(len, ordinary)) == 608, "one step sees every row once"
    (text,) = (row for row in rows if row.targets and not row.is_drift)
    residuals = [R.clone().requires_grad_() for _, R, _ in factors]
    gradients = torch.autograd.grad(loss_of(editor.lm, factors, residuals, [text], ordinary, 3.0), residuals)
    for gradient, new, R in zip(gradients, found, residuals, strict=True):
        size = settings.learning_rate * R.detach().square().mean().sqrt()
        clear = gradient.abs() > 1e-4 * gradient.abs().max()
        torch.testing.assert_close((new - R.detach())[clear], (-size * gradient.sign())[clear], rtol=1e-2, atol=1e-8)


def test_the_loss_falls(watched):
    editor = make()
    edit(
        editor,
        **{"refine.steps": 10, "refine.each": 99, "refine.weight": 5, "refine.texts": 8, "refine.learning_rate": 0.3},
    )
    editor.reset()
    factors, rows, ordinary, _, _, found = watched[0]
    texts = [row for row in rows if row.targets and not row.is_drift]
    with torch.no_grad():
        before, after = (
            float(loss_of(editor.lm, factors, residuals, texts, ordinary[::10], 5.0))
            for residuals in ([R for _, R, _ in factors], found)
        )
    assert after < 0.97 * before


def test_a_larger_weight_moves_ordinary_text_less(watched):
    moved = []
    for weight in (0, 1000):
        editor = make()
        edit(editor, **{"refine.steps": 6, "refine.each": 99, "refine.weight": weight, "refine.learning_rate": 0.2})
        editor.reset()
        factors, _, ordinary, _, _, found = watched[-1]
        with torch.no_grad():
            moved.append(
                float(loss_of(editor.lm, factors, found, [r for r in watched[-1][1] if r.is_bare], ordinary[::10], 1e6))
            )
    assert moved[1] < 0.8 * moved[0]


def test_it_starts_from_the_weights_before_the_batch(watched):
    editor = make()
    edit(editor)
    after_first = {layer: editor.lm.projection(layer).matrix().clone() for layer in (1, 2, 3)}
    edit(editor, facts=[OTHER])
    before = watched[1][4]
    assert all(torch.equal(before[layer], after_first[layer]) for layer in (1, 2, 3))


@pytest.mark.parametrize("precision", ["full", "bf16"])
def test_ordinary_text_is_held_where_the_unedited_model_has_it(monkeypatch, precision):
    seen, descended = [], _refine._descended

    def watching(residuals, hooks, texts, reminders, *rest):
        seen.append(reminders[0][0])
        return descended(residuals, hooks, texts, reminders, *rest)

    monkeypatch.setattr(_refine, "_descended", watching)
    editor = make(execution=Execution(precision=precision))
    for fact in (FACTS[0], OTHER):
        edit(editor, facts=[fact], **{"refine.steps": 1, "objective.steps": 20, "preserve.lambda": 1})
    first, second = ({tuple(one.texts[i][0]): h for i, h in one.before.items()} for one in seen)
    both = first.keys() & second.keys()
    assert both and all(torch.allclose(first[row], second[row], rtol=1e-4, atol=1e-5) for row in both)
    with torch.no_grad():
        row = max(both, key=len)
        now = editor.model(torch.tensor([row]), output_hidden_states=True).hidden_states[4][0, 1:]
    assert not torch.allclose(now, second[row], rtol=1e-3, atol=1e-3), "the edits moved it"


def test_small_parts_have_the_same_gradient(watched):
    for tokens in (2048, 20):
        editor = make(execution=Execution(tokens_per_step=tokens))
        edit(editor, **{"refine.steps": 1})
    for (_, R, _), whole, parts in zip(watched[0][0], watched[0][5], watched[1][5], strict=True):
        same = (whole - R).sign() == (parts - R).sign()  # Adam's first step is as long for every entry
        assert same.float().mean() > 0.99


def test_facts_that_are_taught_again_are_refined_too(watched, monkeypatch):
    monkeypatch.setattr(FactWriter, "_lost", lambda self, recipe, batches: list(FACTS[:1]))
    edit(make(), reteach=1)
    assert len(watched) == 2


@pytest.mark.parametrize("failing", [KeyboardInterrupt, RuntimeError])
def test_what_ends_it_leaves_the_weights_bit_for_bit(failing):
    class Ending(Progress):
        def task(self, title, total, unit=""):
            if title == "refining":
                raise failing
            return super().task(title, total, unit)

    editor = make(progress=Ending())
    before = {name: tensor.clone() for name, tensor in editor.model.state_dict().items()}
    with pytest.raises(failing):
        edit(editor)
    assert all(torch.equal(before[name], tensor) for name, tensor in editor.model.state_dict().items())
    assert not editor.patch.batches
    assert not any(module._forward_hooks for module in editor.model.modules())


@pytest.mark.parametrize(("columns", "steps"), [(1, 0), (29, 0), (30, 12), (31, 13), (100, 40), (1000, 120)])
def test_steps_grow_with_the_batch(columns, steps):
    assert preset("natural-joint").update.refine.steps_for(columns) == steps
    assert preset("memit-seq-joint").update.refine.steps_for(columns) == 0


@pytest.mark.parametrize(("columns", "texts"), [(30, 24), (96, 24), (100, 25), (320, 80)])
def test_a_step_sees_more_texts_of_a_large_batch(columns, texts):
    assert preset("natural-joint").update.refine.texts_for(columns) == texts


def test_a_small_batch_is_left_as_it_is(watched):
    edit(make(), **{"refine.least": 3})
    assert not watched


def test_filters_of_writes_are_refused():
    editor = make()
    with pytest.raises(RecipeError, match=r"refine\.steps"):
        edit(editor, "revive-blue")


def test_a_loss_that_is_not_finite_is_reported():
    editor = make()
    before = {name: tensor.clone() for name, tensor in editor.model.state_dict().items()}
    with pytest.raises(EditError, match=r"refine\.learning_rate"):
        edit(editor, **{"refine.learning_rate": 1e30})
    assert all(torch.equal(before[name], tensor) for name, tensor in editor.model.state_dict().items())


def test_the_second_of_two_steps_is_half_as_long(watched):
    edit(make(), **{"refine.steps": 2, "refine.weight": 0})
    factors, *_, settings, _, found = watched[0]
    for (_, R, _), new in zip(factors, found, strict=True):
        size = settings.learning_rate * float(R.square().mean().sqrt())
        assert 1.2 * size < float((new - R).abs().max()) < 1.51 * size


def test_every_fact_has_its_turn_and_every_group_of_its_texts_the_same_chance(watched):
    wordings = {"wordings": "natural", "wordings.statements": 3, "wordings.questions": 0, "contexts.count": 0}
    edit(make(), facts=[FACTS[1], OTHER], **wordings)
    rows = watched[0][1]
    settings = replace(watched[0][3], texts=3)
    lessons = _refine._lessons(rows, settings)
    drawn = [row for _ in range(400) for row in next(lessons)]
    assert all({one.fact, two.fact} == {0, 1} for one, two in zip(drawn[::2], drawn[1::2], strict=True))
    of_first = Counter(row.group for row in drawn if row.fact == 0)
    assert len(of_first) > 1 and max(of_first.values()) < 1.3 * min(of_first.values())
    assert len({row.ids for row in drawn if row.fact == 0}) > len(of_first), "the texts of a group take turns"


def test_ordinary_text_is_that_of_the_statistics_with_names(watched):
    editor = make()
    edit(editor)
    quiet, ordinary = Progress(), watched[0][2]
    assert ordinary == [*editor.moments.rows(quiet), *editor.moments.of_names.rows(quiet)]


def test_first_tokens_do_not_count(watched):
    editor = make()
    edit(editor)
    editor.reset()
    factors, rows, ordinary, *_ = watched[0]
    residuals, some = [R for _, R, _ in factors], ordinary[:3]
    hooks = _refine._added(editor.lm, factors, residuals)
    plain = _refine._Held(editor.lm, [(row, 1) for row in some], 3, 10_000)
    plain.remember([0, 1, 2])
    with torch.no_grad():
        found = plain.moved([0, 1, 2], hooks)
        bare = [row for row in rows if row.is_bare]
        with_it, without = (loss_of(editor.lm, factors, residuals, bare, some, weight) for weight in (1e4, 0))
    torch.testing.assert_close(found / sum(len(row) - 1 for row in some), (with_it - without) / 1e4, rtol=1e-3, atol=0)


def test_tokens_before_the_name_do_not_count(watched):
    editor = make()
    edit(editor)
    editor.reset()
    factors, _, ordinary, *_ = watched[0]
    hooks = _refine._added(editor.lm, factors, [R for _, R, _ in factors])
    ids = max(ordinary, key=len)
    held = _refine._Held(editor.lm, [(ids, start) for start in range(1, len(ids))] + [(ids[:4], 2)], 3, 10_000)
    held.remember(range(len(held.texts)))
    with torch.no_grad():
        moved = [float(held.moved([i], hooks)) for i in range(len(ids) - 1)]
        together = float(held.moved(range(len(held.texts)), hooks))
    assert all(more > less > 0 for more, less in pairwise(moved)), "each token that counts adds its part"
    assert together == pytest.approx(sum(moved) + moved[1] - moved[3], rel=1e-3)
    assert held.count([0, 2]) == 2 * len(ids) - 4


def test_what_the_texts_say_of_other_names_is_held(watched, monkeypatch):
    moved = []
    for names in (0, 200):
        editor = make()
        with monkeypatch.context() as patch:
            patch.setattr(loop, "refined", partial(loop.refined, names=names))
            edit(editor, **{"refine.steps": 6, "refine.learning_rate": 0.2, "refine.weight": 1000, "refine.tokens": 1})
        editor.reset()
        factors, *_, found = watched[-1]
        texts = texts_of_others(editor.lm, FACTS[:2], PromptOnly(), {"France"}.__contains__, 0)
        held = _refine._Held(editor.lm, texts, 3, 10_000)
        held.remember(range(len(texts)))
        with torch.no_grad():
            moved.append(float(held.moved(range(len(texts)), _refine._added(editor.lm, factors, found))))
    assert moved[1] < 0.7 * moved[0]


def test_names_that_facts_are_about_are_not_held(monkeypatch):
    """Also those of earlier edits: the unedited model has them where no fact is said."""
    seen, descended = [], _refine._descended
    monkeypatch.setattr(_refine, "_descended", lambda *args: seen.append(args[3]) or descended(*args))
    editor = make()
    edit(editor, facts=[FACTS[1]], **{"refine.steps": 0})
    monkeypatch.setattr(loop, "refined", partial(_refine.refined, names=50))
    named = replace(FACTS[1], subject="Spain", phrasings=["The capital of {Japan} is"])
    edit(editor, facts=[named], **{"refine.steps": 1})
    ((plain, _), (named, _)) = seen[0]
    for name, expected in (("France", 0), ("Spain", 0), ("Japan", 0), ("Italy", 1)):
        about = list(map(tuple, name_rows(editor.lm, {name}.__contains__)))
        assert len(about) == 1 and sum(tuple(ids) in about for ids, _ in plain.texts) == expected, name
    texts = [editor.lm.tokenizer.decode(ids) for ids, _ in named.texts]
    assert texts and not any("France" in text or "Spain" in text for text in texts)


def test_a_text_that_is_said_surely_asks_for_nothing(watched, monkeypatch):
    monkeypatch.setattr(_refine, "_LEAST_LOSS", 1e9)
    edit(make(), **{"refine.weight": 0})
    factors, *_, found = watched[0]
    assert all(torch.equal(R, new) for (_, R, _), new in zip(factors, found, strict=True))
