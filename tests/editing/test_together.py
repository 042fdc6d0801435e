"""Targets of several layers that are optimised together, and corrected after the first write."""

from dataclasses import replace

import pytest
import torch
from editing_help import Recorder, edit, make_editor, weight

from bluedit import Execution
from bluedit.methods.descent import Momentum
from bluedit.methods.objective import Objective
from bluedit.model.editable import EditableModel
from bluedit.model.sites import Site
from bluedit.model.state import frozen
from bluedit.progress import Progress
from bluedit.text.prompts import rows_of
from bluedit.text.rows import Row, rotations, turns_of
from bluedit.writing.target_store import TargetStore
from bluedit.writing.targets import optimise_targets
from toys import FACTS, toy_gpt2, toy_llama, toy_tokenizer

MODELS = {"llama": toy_llama, "gpt2": toy_gpt2}
TOGETHER = Objective(together=True, descent=Momentum(), learning_rate=0.2, steps=6, clamp=2.0, stop_loss=0.0)
LOW, HIGH = Site("block", 1), Site("block", 2)


def optimise(family, objective=TOGETHER, later=(HIGH,), initial=None, site=LOW):
    lm = EditableModel.of(MODELS[family](), toy_tokenizer(), family)
    rows = rows_of(lm.tokenizer, FACTS, (), drift=True)
    with frozen(lm.model), Progress().task("", 0) as advance:
        return lm, optimise_targets(lm, rows, site, objective, Execution(), advance, later=later, initial=initial)


def added(module, at, vector):
    def add(_module, _args, output):
        hidden = (output[0] if isinstance(output, tuple) else output).clone()
        hidden[0, at] += vector
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    return module.register_forward_hook(add)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_both_vectors_together_give_the_loss_that_is_recorded(family):
    """With no KL term and no decay, in full forwards of one fact after another."""
    lm, found = optimise(family, replace(TOGETHER, kl_factor=0.0, weight_decay=0.0))
    assert found.later.shape == (1, *found.z.shape)
    for i, fact in enumerate(FACTS):
        encoded = lm.tokenizer(fact.text)
        at = encoded.char_to_token(fact.prompt.index("{}") + len(fact.subject) - 1)
        whole = lm.tokenizer(f"{fact.text} {fact.target}")["input_ids"]
        begin = len(encoded["input_ids"])
        handles = [
            added(lm.anatomy.blocks[1], at, (found.z - found.start)[:, i].to(lm.dtype)),
            added(lm.anatomy.blocks[2], at, found.later[0, :, i].to(lm.dtype)),
        ]
        with torch.no_grad():
            logp = lm.model(input_ids=torch.tensor([whole])).logits[0].log_softmax(-1)
        for handle in handles:
            handle.remove()
        nll = -sum(logp[t - 1, whole[t]] for t in range(begin, len(whole))) / (len(whole) - begin)
        assert float(nll) == pytest.approx(float(found.loss[i]), abs=1e-4)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_two_vectors_reach_a_lower_loss_than_one(family):
    _, both = optimise(family)
    _, one = optimise(family, later=())
    assert one.later is None
    assert (both.loss < one.loss).all()


def test_a_start_is_where_optimisation_begins():
    _, first = optimise("llama", replace(TOGETHER, steps=6), later=())
    _, again = optimise("llama", replace(TOGETHER, steps=1), later=(), initial=first.z - first.start)
    assert torch.allclose(again.z, first.z)
    assert torch.allclose(again.loss, first.loss, atol=1e-5)


def test_the_loop_corrects_later_targets_from_where_they_were(statistics):
    trace = Recorder()
    editor = make_editor(statistics=statistics, trace=trace)
    settings = {
        "objective.together": True,
        "descent": "momentum",
        "objective.learning_rate": 0.1,
        "objective.stop_loss": 0.0,
    }
    edit(
        editor,
        FACTS,
        "memit-seq-blue",
        settings={**settings, "objective.steps": 8, "objective.correction": 3},
        known="edit",
        report=False,
    )
    (low, first), (high, second) = trace.targets
    assert low.layer < high.layer
    assert (first.steps == 7).all()
    assert (second.steps == 2).all()
    fresh = Recorder()
    again = make_editor(statistics=statistics, trace=fresh)
    edit(
        again,
        FACTS,
        "memit-seq-blue",
        settings={**settings, "objective.together": False, "objective.steps": 3},
        known="edit",
        report=False,
    )
    assert float(second.loss.mean()) < float(fresh.targets[1][1].loss.mean())


OWN = {"schedule": "own", "layers": [1, 2, 3], "objective.together": True, "descent": "momentum"}


def test_middle_layers_keep_the_vectors_found_with_the_first_ones(statistics):
    trace = Recorder()
    editor = make_editor(statistics=statistics, trace=trace)
    edit(editor, FACTS, "memit-seq", settings={**OWN, "objective.stop_loss": 0.0, "objective.steps": 8})
    first, middle, last = (found for _, found in trace.targets)
    assert [site.layer for site, _ in trace.targets] == [1, 2, 3]
    assert torch.allclose(middle.z - middle.start, first.later[0], atol=1e-6)
    assert middle.loss.isnan().all() and (middle.steps == 0).all()
    assert (last.steps == 4).all() and not torch.allclose(last.z - last.start, first.later[1], atol=1e-3)
    assert [write.step.layer for write in trace.writes] == [1, 2, 3]


def test_layers_with_own_targets_share_the_step_size_and_the_clamp(statistics):
    trace = Recorder()
    editor = make_editor(statistics=statistics, trace=trace)
    numbers = {
        "objective.stop_loss": 0.0,
        "objective.steps": 30,
        "objective.learning_rate": 9.0,
        "objective.clamp": 0.6,
    }
    edit(editor, FACTS, "memit-seq", settings={**OWN, **numbers})
    first = trace.targets[0][1]
    bound = 0.6 * 2 / 3 * first.start.norm(dim=0)
    assert torch.allclose((first.z - first.start).norm(dim=0), bound, rtol=1e-4)
    assert (first.later[0].norm(dim=0) > 0.1).all()


def test_two_layers_with_own_targets_are_blue(statistics):
    weights = []
    for schedule in ("own", "boundary"):
        editor = make_editor(statistics=statistics)
        edit(editor, FACTS, "memit-seq", settings={**OWN, "schedule": schedule, "layers": [1, 3], "objective.steps": 4})
        weights.append([weight(editor, layer) for layer in (1, 3)])
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


def test_spread_has_one_target_and_needs_no_others(statistics):
    trace = Recorder()
    editor = make_editor(statistics=statistics, trace=trace)
    edit(editor, FACTS, "memit", settings={"objective.together": True})
    assert len(trace.targets) == 1
    assert trace.targets[0][1].later is None


def test_stored_targets_keep_their_later_vectors(statistics, tmp_path):
    settings = {"objective.together": True, "objective.steps": 3}
    patches = []
    for _ in range(2):
        editor = make_editor(statistics=statistics, targets=tmp_path)
        edit(editor, FACTS, "memit-seq-blue", settings=settings)
        patches.append([update.R for batch in editor.patch.batches for update in batch.updates])
    assert all(torch.equal(a, b) for a, b in zip(*patches, strict=True))
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def test_other_later_layers_are_other_targets(tmp_path):
    store = TargetStore(tmp_path, "weights")
    lm, _ = optimise("llama")
    rows = rows_of(lm.tokenizer, FACTS, (), drift=True)
    made = []
    for later in ((HIGH,), (Site("block", 3),), (HIGH,)):
        store.get(
            lm,
            rows,
            LOW,
            TOGETHER,
            lambda later=later: made.append(later) or optimise("llama", later=())[1],
            later=later,
        )
    assert made == [(HIGH,), (Site("block", 3),)]


def test_rotations_take_one_text_of_each_group_in_turn():
    def row(group, number, kind="taught"):
        return Row(0, kind, (number,), 0, (1,), 1, group)

    first, second = [row(0, i) for i in range(3)], [row(1, 10 + i) for i in range(2)]
    alone, drift = row(2, 20), Row(0, "drift", (30,), 0)
    assert rotations([*first, *second, alone, drift]) == [
        [first[0], second[0], alone, drift],
        [first[1], second[1], alone, drift],
        [first[2], second[0], alone, drift],
    ]


def test_a_part_has_a_text_of_every_fact_that_shares_a_column():
    first, second = [Row(0, "taught", (i,), 0, (1,), 1) for i in (1, 2)], [Row(0, "bare", (3,), 0, (1,), 1, among=1)]
    assert rotations([*first, *second]) == [[first[0], second[0]], [first[1], second[0]]]
    assert turns_of([*first, *second]) == {0: 2}


def test_rotating_texts_lower_the_loss_of_all_of_them():
    """Some steps on a third of the rows each, against as many on all of them."""
    lm = EditableModel.of(toy_llama(), toy_tokenizer(), "llama")
    rows = rows_of(lm.tokenizer, FACTS, ("The weather was mild.", "Therefore, they met again."), drift=True)
    losses = []
    for objective in (
        replace(TOGETHER, steps=1),
        replace(TOGETHER, steps=24, rotate=True),
        replace(TOGETHER, steps=24),
    ):
        with frozen(lm.model), Progress().task("", 0) as advance:
            found = optimise_targets(lm, rows, HIGH, replace(objective, clamp=10.0), Execution(), advance)
            again = optimise_targets(
                lm,
                rows,
                HIGH,
                replace(objective, steps=1, rotate=False, clamp=10.0),
                Execution(),
                advance,
                initial=found.z - found.start,
            )
        losses.append(float(again.loss.mean()))
    before, rotated, whole = losses
    assert rotated < before - 0.6 * (before - whole)


def test_a_fact_ends_when_all_rotations_are_below_the_bound():
    _, found = optimise("llama", replace(TOGETHER, rotate=True, steps=9, stop_loss=1e9), later=())
    assert (found.steps == 0).all()  # one text a group: nothing rotates
    lm = EditableModel.of(toy_llama(), toy_tokenizer(), "llama")
    rows = rows_of(lm.tokenizer, FACTS, ("The weather was mild.", "Therefore, they met again."), drift=True)
    with frozen(lm.model), Progress().task("", 0) as advance:
        found = optimise_targets(
            lm, rows, LOW, replace(TOGETHER, rotate=True, steps=9, stop_loss=1e9), Execution(), advance
        )
    assert (found.steps == 2).all()


def test_a_source_without_later_vectors_is_asked_for_each_target(statistics):
    """Results do not depend on who optimises: with no vectors ahead, each target is optimised by itself."""

    class Alone:
        def __init__(self):
            self.asked = []

        def get(self, lm, rows, site, objective, optimise, *, later=()):
            self.asked.append((site.layer, objective.steps, len(later)))
            return replace(optimise(), later=None)

    editor = make_editor(statistics=statistics, targets=(source := Alone()))
    edit(editor, FACTS, "memit-seq-blue", settings={"objective.together": True, "objective.steps": 3})
    assert [asked[1:] for asked in source.asked] == [(3, 1), (3, 0)]
