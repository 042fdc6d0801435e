"""All batches of an edit are refined together at its end, on top of the weights before the edit."""

from dataclasses import dataclass

import pytest
import torch

from bluedit import Editor, Fact
from bluedit.editing._verdict import Checks, Figure
from bluedit.editing.rules import Efficacy, NormGrowth, Rule
from bluedit.errors import EditError
from bluedit.methods.presets import preset
from bluedit.model.hooks import hooked
from bluedit.options import number
from bluedit.progress import Progress
from bluedit.text.rows import Row
from bluedit.writing import _refine, edit_run
from bluedit.writing.edit_run import EditRun
from bluedit.writing.keys import batch_rows, keys_after
from toys import FACTS, FAMILIES, toy_tokenizer

SETTINGS = {
    "layers": [1, 2, 3],
    "objective.steps": 3,
    "contexts.count": 1,
    "refine.steps": 4,
    "refine.each": 0.001,  # one step for each batch by itself
    "refine.together": 9,
    "refine.least": 1,
    "refine.tokens": 64,
}


def make(family="llama", **options):
    return Editor(FAMILIES[family](), toy_tokenizer(), tokens=600, **{"progress": False} | options)


def edit(editor, recipe="memit-seq-joint", facts=FACTS, batch_size=1, guard=None, on_violation="soften", **settings):
    how = {"known": "edit", "report": False, "guard": guard, "on_violation": on_violation}
    return editor.edit(facts, recipe, settings=SETTINGS | settings, batch_size=batch_size, **how)


@pytest.fixture
def watched(monkeypatch):
    """What `refined` was given and gave when batches are refined together, for each call."""
    calls, refined = [], edit_run.refined

    def watching(context, factors, batch, steps, names=0):
        before = {layer: context.lm.projection(layer).matrix().clone() for layer, _, _ in factors}
        found = refined(context, factors, batch, steps, names)
        calls.append((factors, batch.rows, steps, before, found))
        return found

    monkeypatch.setattr(edit_run, "refined", watching)
    return calls


@pytest.mark.parametrize("names", [0, 100])
def test_what_the_texts_say_of_other_names_is_held_when_batches_are_refined_together(names, monkeypatch):
    kinds, reminders = [], _refine._reminders

    def counting(*args):
        found = reminders(*args)
        kinds.append(len(found))
        return found

    monkeypatch.setattr(_refine, "_reminders", counting)
    edit(make(), **{"refine.names": names})
    assert kinds[-1] == (2 if names else 1) and set(kinds[:-1]) <= {1}


def test_the_model_that_is_refined_is_the_written_one(watched):
    editor, ids = make(), torch.tensor([[5, 9, 23, 14]])
    edit(editor)
    wanted = editor.model(ids).logits
    editor.reset()
    ((factors, *_, found),) = watched
    with hooked(_refine._added(editor.lm, factors, found)):
        torch.testing.assert_close(editor.model(ids).logits, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_all_batches_are_refined_from_the_weights_before_the_edit(watched, family):
    editor, plain = make(family), make(family)
    before = {name: tensor.clone() for name, tensor in editor.model.state_dict().items()}
    edit(editor)
    ((factors, rows, steps, weights, found),) = watched
    edit(plain, **{"refine.together": 0})
    assert len(watched) == 1
    assert steps == 4 and {row.fact for row in rows if isinstance(row, Row)} == set(range(len(FACTS)))
    assert all(torch.equal(weights[n], make(family).lm.projection(n).matrix()) for n in weights)
    written = [one for batch in editor.patch.batches for one in batch.updates]
    separate = [one for batch in plain.patch.batches for one in batch.updates]
    assert len(written) == len(separate) == len(found) == len(factors) == 3 * len(FACTS)
    for new, old, R, (layer, start, A) in zip(written, separate, found, factors, strict=True):
        assert new.layer == old.layer == layer and torch.equal(new.R, R)
        assert torch.equal(old.R, start) and torch.equal(new.A, A) and torch.equal(old.A, A)
        assert not torch.equal(new.R, old.R)
    again = make(family)
    again.apply(editor.patch)
    assert all(torch.equal(a, b) for a, b in zip(again.model.parameters(), editor.model.parameters(), strict=True))
    editor.undo()
    assert all(torch.equal(before[name], tensor) for name, tensor in editor.model.state_dict().items())


def test_later_edits_protect_the_keys_of_the_model_as_it_is_then():
    editor = make()
    edit(editor)
    for batch in editor.patch.batches:
        recipe = editor.recipe("memit-seq-joint", SETTINGS)
        rows = batch_rows(editor.lm.tokenizer, batch.written, batch.origin.prefixes, recipe)
        keys = keys_after(editor.lm, rows, (1, 2, 3))
        assert all(torch.allclose(one.keys, keys[one.layer], atol=1e-6) for one in batch.updates)
    edit(editor, facts=[Fact("The library of {} is in", subject="London", target="Italian")])
    fresh = make()
    fresh.apply(type(editor.patch)(editor.patch.base, editor.patch.batches[: len(FACTS)]))
    edit(fresh, facts=[Fact("The library of {} is in", subject="London", target="Italian")])
    assert all(torch.equal(a, b) for a, b in zip(fresh.model.parameters(), editor.model.parameters(), strict=True))


def test_what_is_recorded_is_that_of_the_refined_model():
    editor = make()
    edit(editor, "alphaedit", preserve="null-space", memory=True, layers=[1, 2])
    about = editor.patch.batches[-1].origin.about
    assert set(about["free_dimensions"]) == {"1", "2"}
    controlled = make()
    edit(controlled, "lyaplock-lambda", layers=[1, 2])
    last = controlled.patch.batches[-1].origin.control
    now = controlled._writer.control(controlled.recipe("lyaplock-lambda", SETTINGS | {"layers": [1, 2]}))
    assert last and all(found.drift == pytest.approx(now[layer].drift) for layer, found in last.items())


def test_an_edit_is_refined_on_top_of_earlier_ones(watched):
    editor = make()
    edit(editor, facts=FACTS[:1])
    after = {n: editor.lm.projection(n).matrix().clone() for n in (1, 2, 3)}
    first = editor.patch.batches[0].digest
    edit(editor, facts=FACTS[1:])
    ((factors, rows, _, weights, _),) = watched
    assert all(torch.equal(after[n], weights[n]) for n in after), "the first edit is not touched"
    assert len({row.fact for row in rows}) == len(FACTS[1:]), "nor are its facts asked for"
    assert len(factors) == 3 * len(FACTS[1:]) and editor.patch.batches[0].digest == first


@pytest.mark.parametrize(
    ("settings", "batch_size"),
    [
        ({}, None),
        ({"refine.together": 0}, 1),
        ({"refine.least": 9}, 1),
        ({"refine.steps": 0}, 1),
        ({"filters": "prune"}, 1),
    ],
)
def test_what_is_not_refined_together(watched, settings, batch_size):
    edit(make(), batch_size=batch_size, **settings)
    assert not watched


def test_facts_that_the_recipe_divides_into_batches_are_refined_together(watched):
    facts = [FACTS[0], Fact("The library of {} is in", subject=FACTS[0].subject, target="Italian")]
    editor = make()
    edit(editor, facts=facts, batch_size=None, subjects="split")
    assert len(editor.patch.batches) == 2 and len(watched) == 1


def test_batches_stay_as_they_are_when_refining_them_fails(monkeypatch, caplog):
    def failing(*_given):
        raise EditError("the loss of refining is not finite")

    monkeypatch.setattr(edit_run, "refined", failing)
    editor, plain = make(), make()
    edit(editor)
    edit(plain, **{"refine.together": 0})
    assert "not refined together" in caplog.text
    assert all(torch.equal(a, b) for a, b in zip(editor.model.parameters(), plain.model.parameters(), strict=True))
    assert [b.digest for b in editor.patch.batches] == [b.digest for b in plain.patch.batches]


@pytest.mark.parametrize(("columns", "steps"), [(29, 0), (30, 6), (100, 20), (300, 60), (5000, 120)])
def test_steps_grow_with_the_edit(columns, steps):
    assert preset("natural-joint").update.refine.steps_together(columns) == steps


def test_facts_that_are_lost_are_taught_again_after_it(watched, monkeypatch):
    order = []
    refine, write = EditRun.refine, EditRun.write
    monkeypatch.setattr(EditRun, "refine", lambda self: order.append("refine") or refine(self))
    monkeypatch.setattr(EditRun, "write", lambda self, part: order.append("write") or write(self, part))
    monkeypatch.setattr("bluedit.writing.writer.FactWriter._lost", lambda self, recipe, batches: list(FACTS[:1]))
    edit(make(), reteach=1)
    assert order == ["write"] * len(FACTS) + ["refine", "write"] and len(watched) == 1


@pytest.fixture
def judged():
    """A rule with figures that a test writes down: one for each time that it is asked."""
    figures = []

    @dataclass(frozen=True)
    class Judged(Rule, kind="judged"):
        """Says what it was told."""

        limit: float = number(1.0, "the most")
        noun = "the figure"

        def figure(self, model):
            return figures.pop(0)

    yield figures
    Rule.choices.pop("judged")


@pytest.mark.parametrize(
    ("figures", "on_violation", "kept"),
    [
        ([0.5, 0.5, 0.5, 0.9], "reject", True),
        ([0.5, 0.5, 0.5, 1.1], "reject", False),
        ([0.5, 3.0, 3.0, 2.0], "warn", True),
        ([0.5, 3.0, 3.0, 3.0], "warn", False),
    ],
)
def test_a_guard_has_the_last_word(judged, figures, on_violation, kept, monkeypatch):
    judged += figures
    before, keep = [], Checks.kept
    monkeypatch.setattr(Checks, "kept", lambda self, verdict: before.append(verdict) or keep(self, verdict))
    facts = FACTS[:2]
    free, guarded, plain = make(), make(), make()
    edit(free, facts=facts)
    edit(plain, facts=facts, **{"refine.together": 0})
    made = edit(guarded, facts=facts, guard="judged", on_violation=on_violation)
    assert not judged, "asked about each batch, and about all of them before and after"
    assert [one.figures[0].value for one in before] == [*figures[:2], *figures[3:][:kept]], "before what comes next"
    same = free if kept else plain
    assert all(torch.equal(a, b) for a, b in zip(guarded.model.parameters(), same.model.parameters(), strict=True))
    assert [b.digest for b in guarded.patch.batches] == [b.digest for b in same.patch.batches]
    told = [line for line in made.guard if "refined together" in line]
    assert ["after its batches were refined together: the figure" in line for line in told] == [kept]


@pytest.mark.parametrize(
    ("rule", "now", "before", "better"),
    [
        (NormGrowth(0.1), 0.2, 0.3, True),
        (NormGrowth(0.1), 0.3, 0.2, False),
        (NormGrowth(0.1), 0.2, 0.2, False),
        (Efficacy(0.9), 0.85, 0.8, True),
        (Efficacy(0.9), 0.8, 0.85, False),
        (NormGrowth(0.1), None, 0.2, False),
        (NormGrowth(0.1), 0.2, None, True),
    ],
)
def test_nearer_to_the_limit_is_better(rule, now, before, better):
    assert Figure(rule, now, None).better_than(Figure(rule, before, None)) == better


def test_keys_of_refining_that_was_taken_back_are_forgotten(judged):
    """The edit after it is the same as after one that was never refined together."""
    judged += [0.5, 0.5, 0.5, 1.1]
    guarded, plain = make(), make()
    edit(guarded, facts=FACTS[:2], guard="judged", on_violation="reject")
    edit(plain, facts=FACTS[:2], **{"refine.together": 0})
    for editor in (guarded, plain):
        edit(editor, facts=FACTS[2:3])
    assert all(torch.equal(a, b) for a, b in zip(guarded.model.parameters(), plain.model.parameters(), strict=True))


@pytest.mark.parametrize("failing", [KeyboardInterrupt, RuntimeError])
def test_what_ends_it_leaves_the_weights_bit_for_bit(failing):
    class Ending(Progress):
        turns = 0

        def task(self, title, total, unit=""):
            self.turns += title == "refining"
            if title == "refining" and self.turns > len(FACTS):
                raise failing
            return super().task(title, total, unit)

    editor = make(progress=Ending())
    before = {name: tensor.clone() for name, tensor in editor.model.state_dict().items()}
    with pytest.raises(failing):
        edit(editor)
    assert all(torch.equal(before[name], tensor) for name, tensor in editor.model.state_dict().items())
    assert not editor.patch.batches
