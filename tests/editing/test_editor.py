"""The editor: all or nothing, undone bit for bit, and what one batch leaves for the next."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import count

import pytest
import torch
from editing_help import (
    OTHER,
    SETTINGS,
    bits,
    changed,
    dense,
    edit,
    flags,
    leftovers,
    make_editor,
    said_fact,
    same_bits,
)
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bluedit import Editor, Fact
from bluedit.errors import EditError, FactError, ModelError, RecipeError, StatisticsError
from bluedit.statistics.store import MomentStore
from bluedit.text.prompts import rows_of
from bluedit.writing import loop
from bluedit.writing.batches import split_batches
from bluedit.writing.weights import EditedWeights
from toys import FACTS

BOTH = pytest.mark.parametrize("family", ["llama", "gpt2"])


@pytest.fixture(scope="module")
def statistics(tmp_path_factory):
    """Key statistics shared by the tests of this file; they are stored under the fingerprint of the weights."""
    return tmp_path_factory.mktemp("statistics")


@pytest.fixture(autouse=True)
def short_passages(monkeypatch):
    """Drift is measured on little text here, to save time."""
    text = ("The weather was mild that morning, so the committee met again in the afternoon.",)
    monkeypatch.setattr("bluedit.evaluate.report.ordinary_passages", lambda: text)


# undo


@BOTH
@pytest.mark.parametrize("recipe", ["memit-seq", "alphaedit-blue", "rect", "prune-blue", "ft-local"])
def test_undo_restores_every_bit_step_by_step(family, recipe, statistics):
    editor = make_editor(family, statistics=statistics)
    states = [bits(editor.model)]
    for fact in FACTS:
        edit(editor, fact, recipe)
        assert not same_bits(editor.model, states[-1])
        states.append(bits(editor.model))
    assert len(editor.edits) == 3
    for before in states[-2::-1]:
        editor.undo()
        assert same_bits(editor.model, before)
    assert editor.edits == ()


def test_an_edit_undoes_itself_and_can_be_made_again(statistics):
    editor = make_editor(statistics=statistics)
    before = bits(editor.model)
    edit(editor, FACTS).undo()
    assert same_bits(editor.model, before)
    edit(editor, FACTS)
    first = bits(editor.model)
    editor.undo()
    edit(editor, FACTS)
    assert same_bits(editor.model, first), "the same edit of the same weights is the same"


def test_only_the_last_edit_keeps_copies_of_weights(statistics):
    editor = make_editor(statistics=statistics)
    for fact in FACTS:
        edit(editor, fact)
    assert [entry.snapshot is None for entry in editor._journal] == [True, True, False]
    editor.undo()
    assert [entry.snapshot is None for entry in editor._journal] == [True, True]


def test_undo_that_would_not_give_the_same_bits_is_refused(statistics):
    editor = make_editor(statistics=statistics)
    unedited = bits(editor.model)
    for fact in FACTS:
        edit(editor, fact)
    editor.undo()
    state = bits(editor.model)
    editor._journal[0].patch.batches[0].updates[0].R.mul_(1.01)
    with pytest.raises(EditError, match="did not give the same bits"):
        editor.undo()
    assert same_bits(editor.model, state), "a refused undo changes nothing"
    assert len(editor.edits) == 2
    editor.reset()
    assert same_bits(editor.model, unedited)


@pytest.mark.parametrize("what", ["undo", "reset", "failed edit"])
def test_taking_back_that_is_interrupted_is_seen_and_can_be_finished(what, statistics, monkeypatch):
    editor = make_editor(statistics=statistics)
    unedited = bits(editor.model)
    edit(editor, FACTS[0], "memit")
    edit(editor, FACTS[1], "memit")
    taking = {"undo": editor.undo, "reset": editor.reset, "failed edit": lambda: edit(editor, FACTS[2], "memit")}[what]
    with monkeypatch.context() as patch:
        seen, projection = count(), type(editor.lm).projection

        def interrupted(lm, layer):
            if taking_back and next(seen) == 1:
                raise KeyboardInterrupt
            return projection(lm, layer)

        taking_back = what != "failed edit"
        if what == "failed edit":

            def fails(*_args, **_options):
                nonlocal taking_back
                taking_back = True
                raise RuntimeError

            patch.setattr("bluedit.editing.editor.compare", fails)
            taking = lambda: editor.edit(FACTS[2], "memit", settings=SETTINGS)  # noqa: E731
        patch.setattr(type(editor.lm), "projection", interrupted)
        patch.setattr(EditedWeights, "check_untouched", lambda *_a, **_o: None)
        with pytest.raises(KeyboardInterrupt):
            taking()
    assert not same_bits(editor.model, unedited)
    for act in (editor.undo, lambda: edit(editor, OTHER[0])):
        with pytest.raises(EditError, match="was interrupted half-way"):
            act()
    editor.reset()
    assert same_bits(editor.model, unedited)
    edit(editor, FACTS[0])


def test_sampled_prefixes_are_those_of_the_unedited_model(statistics):
    editor, settings = make_editor(statistics=statistics), {"contexts.kind": "sampled", "contexts.count": 2}
    first = edit(editor, FACTS[0], settings={**settings, "objective.clamp": 50.0})
    assert first.patch.info["prefixes"] == edit(editor, FACTS[1], settings=settings).patch.info["prefixes"]


def test_fine_tuning_needs_one_layer(statistics):
    editor = make_editor(statistics=statistics)
    for name, settings in (("ft", {"schedule": "boundary"}), ("memit", {"update": "finetune"})):
        with pytest.raises(RecipeError, match=r"fine-tuning trains one layer, .* set schedule=single"):
            editor.edit(FACTS[0], name, settings={**settings, "layers": [1, 2, 3]})


@BOTH
def test_reset_takes_back_everything(family, statistics):
    editor = make_editor(family, statistics=statistics)
    unedited = bits(editor.model)
    editor.reset()
    editor.apply(edit(editor, FACTS[0], "prune").patch, force=True)
    edit(editor, FACTS[1], settings={"layers": [1]})
    editor.reset()
    assert same_bits(editor.model, unedited)
    assert editor.edits == () and editor.patch.batches == ()
    with pytest.raises(EditError, match="nothing to undo"):
        editor.undo()
    edit(editor, FACTS[0])
    edit(editor, FACTS[1])
    clean = make_editor(family, statistics=statistics)
    edit(clean, FACTS[0])
    edit(clean, FACTS[1])
    assert same_bits(editor.model, bits(clean.model)), "nothing of what was taken back is remembered"


def test_undo_out_of_order_twice_and_without_edit(statistics):
    editor = make_editor(statistics=statistics)
    with pytest.raises(
        EditError, match=r"^there is nothing to undo: this editor has made no edit, or all were undone$"
    ):
        editor.undo()
    first = edit(editor, FACTS[0])
    second = edit(editor, FACTS[1])
    state = bits(editor.model)
    with pytest.raises(EditError, match=r"^1 later edit stands on this one; undo it first, the last one first$"):
        first.undo()
    third = edit(editor, FACTS[2])
    with pytest.raises(EditError, match=r"^2 later edits stand on this one; undo them first, the last one first$"):
        first.undo()
    third.undo()
    assert same_bits(editor.model, state), "a refused undo changes nothing"
    second.undo()
    with pytest.raises(EditError, match=r"^this edit was already undone$"):
        second.undo()
    first.undo()
    with pytest.raises(EditError, match="nothing to undo"):
        editor.undo()


def test_weights_changed_by_somebody_else(statistics):
    editor = make_editor(statistics=statistics)
    first = edit(editor, FACTS[0])
    other = Editor(editor.model, editor.lm.tokenizer, tokens=480, statistics=statistics)
    theirs = edit(other, FACTS[1])
    state = bits(editor.model)
    text = (
        r"^model\.layers\.\d\.mlp\.down_proj\.weight was changed outside this editor since its last edit; "
        r"make a new Editor for the model as it is now$"
    )
    for act in (
        first.undo,
        editor.undo,
        lambda: edit(editor, FACTS[2]),
        lambda: editor.apply(theirs.patch, force=True),
    ):
        with pytest.raises(EditError, match=text):
            act()
        assert same_bits(editor.model, state)
    theirs.undo()
    first.undo()  # now the weights are its own again


def test_weights_changed_before_the_first_edit():
    editor = make_editor()
    with torch.no_grad():
        editor.model.model.layers[1].mlp.down_proj.weight.mul_(1.01)
    with pytest.raises(EditError, match="changed outside this editor"):
        edit(editor, FACTS[0])


# all or nothing


class Injected(RuntimeError):
    """A fault that bluedit does not expect."""


def _failing_at(monkeypatch, place, name, nth, exception, after=False):
    """Make the nth call of `place.name` raise, before or after its work."""
    original, calls = getattr(place, name), count(1)

    def failing(*args, **options):
        if (now := next(calls)) == nth and not after:
            raise exception("injected")
        result = original(*args, **options)
        if now == nth:
            raise exception("injected")
        return result

    monkeypatch.setattr(place, name, failing)
    return calls


def _stages():
    import bluedit.editing.editor as editor
    import bluedit.evaluate.report as report
    import bluedit.forward._observe as observe
    import bluedit.forward._suffix as suffix
    import bluedit.writing.targets as targets
    import bluedit.writing.weights as weights

    return {
        "asking before": (report, "read_facts_in", 1),
        "prefixes": (editor, "make_prefixes", 1),
        "statistics": (MomentStore, "get", 1),
        "statistics done": (MomentStore, "get", 1, True),
        "first targets": (loop, "optimise_targets", 1),
        "second targets": (loop, "optimise_targets", 2),
        "step of Adam": (targets._Chunk, "_adam", 2),
        "forward with blocks cut short": (suffix, "with_first_tensor", 12),
        "hook that observes": (observe, "first_tensor", 2),
        "first observation": (loop, "observe", 1),
        "observation after a write": (loop, "observe", 4),
        "keys after all writes": (loop, "observe", 5),
        "first solve": (loop, "solve", 1),
        "second solve": (loop, "solve", 2),
        "first write": (EditedWeights, "add", 1),
        "second write": (EditedWeights, "add", 2),
        "second write done": (EditedWeights, "add", 2, True),
        "weights written, not yet recorded": (weights, "tensor_digest", 1),
        "second batch": (loop, "solve", 3),
        "asking after": (report, "read_facts_in", 2),
        "perplexity after": (report, "perplexity", 2),
        "manifest": (Editor, "_info", 1),
    }


STAGES = list(_stages())
CASES = [
    pytest.param(stage, exception, ("llama", "gpt2")[(i + j) % 2], id=f"{stage}-{exception.__name__}")
    for i, stage in enumerate(STAGES)
    for j, exception in enumerate((Injected, KeyboardInterrupt))
]


def _used(model):
    """A model in the middle of its user's own work: training, some of it frozen."""
    model.train()
    model.get_input_embeddings().eval()
    for i, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(i % 3 != 0)
    return model


@pytest.fixture(scope="module")
def undisturbed(statistics):
    """What the edit of the fault tests makes of each family when nothing goes wrong."""
    results = {}
    for family in ("llama", "gpt2"):
        editor = make_editor(family, statistics=statistics)
        _edit_measured(editor)
        results[family] = bits(editor.model)
    return results


def _edit_measured(editor):
    return edit(editor, (FACTS[0], OTHER[0]), "alphaedit-blue", report=True)  # one subject: two batches


@pytest.mark.parametrize(("stage", "exception", "family"), CASES)
def test_a_fault_at_any_stage_changes_nothing(stage, exception, family, undisturbed, statistics, monkeypatch):
    editor = make_editor(family, statistics=statistics)
    _used(editor.model)
    editor.lm.tokenizer.padding_side = "left"
    before, state = bits(editor.model), flags(editor)
    with monkeypatch.context() as patch:
        calls = _failing_at(patch, *_stages()[stage][:3], exception, *_stages()[stage][3:])
        with pytest.raises(exception, match="injected"):
            _edit_measured(editor)
        assert next(calls) > _stages()[stage][2], "the fault was never injected"
    assert same_bits(editor.model, before)
    assert editor._journal == []
    assert editor.edits == ()
    assert editor.patch.batches == ()
    assert leftovers(editor.model) == []
    assert flags(editor) == state
    edit(editor, (FACTS[0], OTHER[0]), "alphaedit-blue")
    assert same_bits(editor.model, undisturbed[family]), "the fault left something behind"
    assert leftovers(editor.model) == []
    assert flags(editor) == state


@pytest.fixture(scope="module")
def undisturbed_second(statistics):
    """What the edit of the fault tests makes of a Llama that was edited before."""
    editor = make_editor(statistics=statistics)
    edit(editor, FACTS[1])
    _edit_measured(editor)
    return bits(editor.model)


@pytest.mark.parametrize("exception", [Injected, KeyboardInterrupt])
@pytest.mark.parametrize("stage", ["second targets", "second write done", "second batch", "manifest"])
def test_a_fault_leaves_earlier_edits_standing(stage, exception, statistics, undisturbed_second, monkeypatch):
    editor = make_editor(statistics=statistics)
    original = bits(editor.model)
    first = edit(editor, FACTS[1])
    before = bits(editor.model)
    with monkeypatch.context() as patch:
        _failing_at(patch, *_stages()[stage][:3], exception, *_stages()[stage][3:])
        with pytest.raises(exception, match="injected"):
            _edit_measured(editor)
    assert same_bits(editor.model, before)
    assert editor.edits == (first,)
    _edit_measured(editor)
    assert same_bits(editor.model, undisturbed_second), "memory differs after the fault"
    editor.undo()
    first.undo()
    assert same_bits(editor.model, original)


@pytest.mark.parametrize("exception", [Injected, KeyboardInterrupt])
def test_a_fault_while_applying_changes_nothing(exception, statistics, monkeypatch):
    patch = edit(make_editor(statistics=statistics), FACTS).patch
    editor = make_editor(statistics=statistics)
    before = bits(editor.model)
    with monkeypatch.context() as context:
        _failing_at(context, EditedWeights, "add", 2, exception)
        with pytest.raises(exception, match="injected"):
            editor.apply(patch)
    assert same_bits(editor.model, before)
    assert editor.patch.batches == ()
    editor.apply(patch)
    assert not same_bits(editor.model, before)


def test_an_update_that_is_not_finite_is_taken_back(statistics, monkeypatch):
    editor = make_editor(statistics=statistics)
    before = bits(editor.model)
    original, calls = loop.solve, count()
    monkeypatch.setattr(loop, "solve", lambda *args: original(*args) * (float("inf") if next(calls) else 1.0))
    with pytest.raises(
        EditError, match=r"^the update of layer 3 is not finite; check the model's weights and the recipe's"
    ):
        edit(editor, FACTS)
    assert same_bits(editor.model, before)


@BOTH
def test_a_model_in_use_is_left_as_it_was(family, undisturbed, statistics):
    editor = make_editor(family, statistics=statistics)
    _used(editor.model)
    editor.lm.tokenizer.padding_side = "left"
    state, before = flags(editor), bits(editor.model)
    done = _edit_measured(editor)
    assert flags(editor) == state
    assert leftovers(editor.model) == []
    assert same_bits(editor.model, undisturbed[family]), "training mode (dropout) or padding side changed the result"
    done.undo()
    assert flags(editor) == state
    assert same_bits(editor.model, before)


# what is written


PROJECTIONS = {"llama": "model.layers.{}.mlp.down_proj.weight", "gpt2": "transformer.h.{}.mlp.c_proj.weight"}


@BOTH
@pytest.mark.parametrize(
    ("recipe", "layers"),
    [
        ("memit", (1, 2, 3)),
        ("memit-blue", (1, 3)),
        ("alphaedit", (1, 2, 3)),
        ("alphaedit-blue", (1, 3)),
        ("rome", (1,)),
    ],
)
def test_only_the_layers_of_the_schedule_change(family, recipe, layers, statistics):
    editor = make_editor(family, statistics=statistics)
    before = bits(editor.model)
    done = edit(editor, FACTS[:2], recipe)
    assert changed(editor.model, before) == {PROJECTIONS[family].format(layer) for layer in layers}
    assert done.patch.layers == layers == done.recipe.written
    assert editor.model.get_output_embeddings().weight is editor.model.get_input_embeddings().weight


@BOTH
def test_weights_are_the_original_plus_the_stored_factors(family, statistics):
    editor = make_editor(family, statistics=statistics, dtype=torch.float32)
    original = {layer: editor.lm.projection(layer).matrix().clone() for layer in range(5)}
    done = edit(editor, FACTS, "memit-seq", batch_size=1)
    for layer, W in original.items():
        total = sum(
            (u.R.double() @ u.A.double() for b in done.patch.batches for u in b.updates if u.layer == layer),
            torch.zeros_like(W, dtype=torch.float64),
        )
        assert torch.equal(editor.lm.projection(layer).matrix(), (W.double() + total).float())


@BOTH
def test_bfloat16_weights_are_rounded_once_after_three_batches(family, statistics):
    editor = make_editor(family, statistics=statistics, dtype=torch.bfloat16)
    original = editor.lm.projection(3).matrix().clone()
    done = edit(editor, FACTS, batch_size=1)
    assert len(done.patch.batches) == 3
    updates = [u.R.double() @ u.A.double() for b in done.patch.batches for u in b.updates if u.layer == 3]
    assert len(updates) == 3
    assert all(u.R.dtype == torch.float32 == u.A.dtype for b in done.patch.batches for u in b.updates)
    W = editor.lm.projection(3).matrix()
    assert W.dtype == torch.bfloat16
    assert torch.equal(W, (original.double() + (updates[0] + updates[1] + updates[2])).bfloat16())
    rounded_often = original.clone()
    for update in updates:
        rounded_often = (rounded_often.double() + update).bfloat16()
    assert not torch.equal(W, rounded_often), "this test cannot tell one rounding from three"


@BOTH
def test_a_write_delivers_the_residual(family, statistics):
    """With hardly anything to preserve, the edited model's value at the subject's last token is the target z*."""
    editor = make_editor(family, statistics=statistics)
    done = edit(editor, FACTS, "memit-blue", settings={"preserve.lambda": 1e-9, "contexts.count": 0})
    for update in done.patch.batches[0].updates:
        assert torch.allclose(update.reach, torch.ones(3).to(update.reach), atol=1e-4)
    last = done.patch.batches[0].updates[-1]  # nothing is written after it, so its keys are those it was solved for
    assert torch.allclose(last.A @ last.keys, torch.eye(3).to(last.A), atol=1e-3)


# memory


def _recorded(monkeypatch):
    """The keys each update was solved for, in order."""
    original, seen = loop.solve, []

    def solve(K, *rest):
        seen.append(K.double())
        return original(K, *rest)

    monkeypatch.setattr(loop, "solve", solve)
    return seen


def _parts(editor, recipe, layer):
    """(S without memory, U) of a recipe, from the definition."""
    C = editor._moments.get([layer])[layer].matrix
    if recipe.startswith("memit"):
        return SETTINGS["preserve.lambda"] * C, torch.eye(len(C), dtype=torch.float64)
    values, vectors = torch.linalg.eigh(C)
    null = values.cumsum(0) <= SETTINGS["preserve.threshold"] * values.sum()
    assert 0 < int(null.sum()) < len(C)
    return SETTINGS["preserve.l2"] * torch.eye(len(C), dtype=torch.float64), vectors[:, null]


def _close(found, expected):
    return torch.allclose(found.double(), expected, rtol=1e-4, atol=1e-6 * float(expected.abs().max()))


@BOTH
@pytest.mark.parametrize("recipe", ["alphaedit-blue", "memit-seq", "memit-seq-blue", "memit", "memit-blue"])
@pytest.mark.parametrize("edits", [1, 2])
def test_later_batches_preserve_the_keys_of_earlier_ones(family, recipe, edits, statistics, monkeypatch):
    """Three batches, in one edit or each in its own, against the equation written out."""
    editor = make_editor(family, statistics=statistics)
    solved = _recorded(monkeypatch)
    few = {"objective.steps": 2}
    if edits == 1:
        edit(editor, FACTS, recipe, batch_size=1, settings=few)
    else:
        for fact in FACTS:
            edit(editor, fact, recipe, settings=few)
    batches = editor.patch.batches
    keys = iter(solved)
    memory: dict[int, list[torch.Tensor]] = {}
    for number, batch in enumerate(batches):
        for update in batch.updates:
            K = next(keys)
            base, U = _parts(editor, recipe, update.layer)
            earlier = torch.cat(memory[update.layer], dim=1) if number else None
            remembering, forgetting = dense(base, U, earlier, K), dense(base, U, None, K)
            has_memory = not recipe.removesuffix("-blue").endswith("memit")
            assert _close(update.A, remembering if has_memory else forgetting)
            if number:
                assert not _close(update.A, forgetting if has_memory else remembering), (
                    "memory makes no difference here"
                )
        for update in batch.updates:
            memory.setdefault(update.layer, []).append(update.keys)
    assert len(batches) == 3


def test_the_stored_keys_are_those_of_the_edited_model(statistics):
    editor = make_editor(statistics=statistics)
    done = edit(editor, FACTS[:2])
    rows = rows_of(editor.lm.tokenizer, FACTS[:2], done.patch.info["prefixes"])
    now = loop.observe_keys(editor.lm, rows, (1, 3), 2)
    for update in done.patch.batches[0].updates:
        assert torch.equal(update.keys, now[update.layer])


def test_edits_by_another_recipe_are_remembered_too(statistics, monkeypatch):
    editor = make_editor(statistics=statistics)
    first = edit(editor, FACTS[0], "memit")
    solved = _recorded(monkeypatch)
    second = edit(editor, FACTS[1], "alphaedit-blue")
    for K, update in zip(solved, second.patch.batches[0].updates, strict=True):
        earlier = next(u.keys for u in first.patch.batches[0].updates if u.layer == update.layer)
        base, U = _parts(editor, "alphaedit-blue", update.layer)
        assert _close(update.A, dense(base, U, earlier, K))
        assert not _close(update.A, dense(base, U, None, K))


def test_a_layer_that_earlier_edits_did_not_write_remembers_the_keys_they_have_there(statistics, monkeypatch):
    editor = make_editor(statistics=statistics)
    first = edit(editor, FACTS[:2], settings={"layers": [1]})
    prefixes = first.patch.info["prefixes"]
    assert prefixes
    there = loop.observe_keys(editor.lm, rows_of(editor.lm.tokenizer, FACTS[:2], prefixes), (3,), 2)[3]
    solved = _recorded(monkeypatch)
    second = edit(editor, FACTS[2], settings={"layers": [3]})
    base, U = _parts(editor, "alphaedit-blue", 3)
    assert _close(second.patch.batches[0].updates[0].A, dense(base, U, there, solved[0]))
    assert not _close(second.patch.batches[0].updates[0].A, dense(base, U, None, solved[0]))


def test_merged_facts_count_once_at_layers_they_were_not_written_to(statistics):
    """Two facts of one subject have one key where MEMIT-Merge writes them; elsewhere, too."""
    editor = make_editor(statistics=statistics)
    twice = [FACTS[0], Fact("{} lives in", FACTS[0].subject, "Berlin"), FACTS[1]]
    made = edit(editor, twice, "memit-seq", settings={"layers": [1], "schedule": "single", "subjects": "merge"})
    (batch,) = made.patch.batches
    keys = editor._preserved._keys_of(batch, made.patch.info["prefixes"], 3)
    assert keys.shape == batch.updates[0].keys.shape == (48, 2)
    again = editor._preserved._keys_of(
        replace(batch, updates=(replace(batch.updates[0], layer=2),)), made.patch.info["prefixes"], 1
    )
    assert torch.allclose(again, batch.updates[0].keys)


def test_the_unedited_weights_interrupted_on_the_way_back(statistics, monkeypatch):
    editor = make_editor(statistics=statistics)
    unedited = bits(editor.model)
    edit(editor, FACTS[0], "memit")
    projection = type(editor.lm).projection
    with pytest.raises(KeyboardInterrupt), monkeypatch.context() as patch, editor.unedited():
        seen = count()

        def interrupted(lm, layer):
            if next(seen) == 1:
                raise KeyboardInterrupt
            return projection(lm, layer)

        patch.setattr(type(editor.lm), "projection", interrupted)
    with pytest.raises(EditError, match="was interrupted half-way"):
        edit(editor, OTHER[0])
    editor.reset()
    assert same_bits(editor.model, unedited)


def test_undone_edits_are_forgotten(statistics):
    editor, clean = make_editor(statistics=statistics), make_editor(statistics=statistics)
    edit(editor, FACTS[:2]).undo()
    for each in (editor, clean):
        edit(each, FACTS[2])
    assert same_bits(editor.model, bits(clean.model))


def test_statistics_are_those_of_the_unedited_weights(tmp_path):
    editor = make_editor(statistics=tmp_path / "one")
    edit(editor, FACTS, settings={"layers": [1], "objective.clamp": 50.0})
    state = bits(editor.model)
    edit(editor, OTHER[1], settings={"layers": [3]})  # layer 3's statistics are first needed on edited weights
    assert set(changed(editor.model, state)) == {"model.layers.3.mlp.down_proj.weight"}
    found = editor._moments.get([3])[3].matrix
    fresh = make_editor(statistics=tmp_path / "two")
    expected = fresh._moments.get([3])[3].matrix
    assert torch.equal(found, expected)
    editor.undo()
    edited = Editor(editor.model, editor.lm.tokenizer, tokens=480, statistics=tmp_path / "three")
    assert not torch.allclose(edited._moments.get([3])[3].matrix, expected), "the first edit is too small to tell"


# batches


def _fact(subject: int, number: int) -> Fact:
    return Fact(f"Saying {number} of {{}} is", subject=f"subject {subject}", target="Rome", id=str(number))


@given(st.lists(st.integers(0, 5), max_size=25), st.one_of(st.none(), st.integers(1, 7)))
@hypothesis_settings(deadline=None, max_examples=200)
def test_batches_hold_every_fact_once_and_no_subject_twice(subjects, size):
    facts = [_fact(subject, number) for number, subject in enumerate(subjects)]
    batches = split_batches(facts, size)
    assert sorted(int(f.id) for batch in batches for f in batch) == list(range(len(facts)))
    for batch in batches:
        assert batch
        assert size is None or len(batch) <= size
        assert len({f.subject for f in batch}) == len(batch)
        assert [int(f.id) for f in batch] == sorted(int(f.id) for f in batch), "a batch keeps the order of its facts"
    per_subject = [
        [int(f.id) for batch in batches for f in batch if f.subject == s] for s in {f.subject for f in facts}
    ]
    assert all(ids == sorted(ids) for ids in per_subject), "facts about one subject are written in their order"
    if size is None:
        most = max((subjects.count(s) for s in subjects), default=0)
        assert len(batches) == most, "more batches than the most frequent subject needs"


def test_a_subject_twice_is_written_in_successive_batches(statistics):
    editor = make_editor(statistics=statistics)
    done = edit(editor, (FACTS[0], OTHER[0], FACTS[1]))
    assert [[f.id for f in batch.facts] for batch in done.patch.batches] == [["1", "2"], ["o1"]]
    assert done.facts == (FACTS[0], OTHER[0], FACTS[1])
    assert set(done.patch.facts) == set(done.facts)


@pytest.mark.parametrize(
    ("recipe", "size", "expected"), [("memit", 1, [1, 1, 1]), ("memit", 2, [2, 1]), ("rome", None, [1, 1, 1])]
)
def test_batch_size(recipe, size, expected, statistics):
    done = edit(make_editor(statistics=statistics), FACTS, recipe, batch_size=size)
    assert [len(batch.facts) for batch in done.patch.batches] == expected


def test_a_single_fact_needs_no_list(statistics):
    assert edit(make_editor(statistics=statistics), FACTS[0]).facts == (FACTS[0],)


# facts the model already says


def test_facts_that_the_model_says_already(statistics):
    editor = make_editor(statistics=statistics)
    known = said_fact(editor)
    before = bits(editor.model)
    text = (
        f"the model already says 1 of 2 facts: {known.text!r} => {known.target!r}. Leave them out, choose another target, "
        "or pass known='skip' (--known skip) to drop them or 'edit' to strengthen them"
    )
    with pytest.raises(FactError, match=f"^{re.escape(text)}$"):
        edit(editor, (known, FACTS[0]), known="refuse")
    with pytest.raises(FactError, match=r"^the model already says 1 of 1 facts: "):
        edit(editor, known, known="skip")
    with pytest.raises(RecipeError, match=r"^known is 'skp'; did you mean 'skip'\?$"):
        edit(editor, known, known="skp")
    assert same_bits(editor.model, before)
    assert edit(editor, (known, FACTS[0]), known="skip").facts == (FACTS[0],)
    editor.undo()
    done = edit(editor, (known, FACTS[0]), known="edit", report=True)
    assert done.facts == (known, FACTS[0])
    assert [fact.says_before for fact in done.report.facts] == [True, False]


# refusals: a sentence, and nothing changed


def refused(editor, error, text, facts=FACTS, recipe="alphaedit-blue", **options):
    before, state = bits(editor.model), flags(editor)
    with pytest.raises(error, match=text) as caught:
        edit(editor, facts, recipe, **options)
    assert same_bits(editor.model, before)
    assert flags(editor) == state
    assert editor.edits == ()
    return str(caught.value)


def test_facts_that_cannot_all_hold(statistics):
    editor = make_editor(statistics=statistics)
    refused(editor, FactError, r"^no facts were given; pass at least one Fact$", facts=[])
    again = Fact(FACTS[1].prompt, subject=FACTS[1].subject, target="Rome")
    text = refused(editor, FactError, "are the same", facts=[*FACTS, again])
    assert text == "facts 2 and 4 are the same ('The capital of France is' => 'Rome'); keep one"
    other = Fact(FACTS[1].prompt, subject=FACTS[1].subject, target="Berlin")
    text = refused(editor, FactError, "contradict", facts=[*FACTS, other, again])
    assert text == (
        "facts 2 and 4 contradict each other: 'The capital of France is' => 'Rome' and 'Berlin'; keep one\n"
        "facts 2 and 5 are the same ('The capital of France is' => 'Rome'); keep one"
    )


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        (
            {"settings": {"layers": [1, 7]}},
            ModelError,
            "layer 7 is out of range: this model has layers 0 to 4; set 'layers' to existing ones",
        ),
        ({"settings": {"layers": [-1, 2]}}, ModelError, "layer -1 is out of range: this model has layers 0 to 4; "),
        ({"settings": {"layers": []}}, RecipeError, "--set: layers must be one or more ascending layer numbers"),
        ({"recipe": "alphaedit-bleu"}, RecipeError, "unknown recipe 'alphaedit-bleu'; did you mean 'alphaedit-blue'"),
        (
            {"settings": {"preserve.lambda": -1, "objective.stesp": 3}},
            RecipeError,
            "--set: preserve.lambda is -1; it must be above 0\n"
            "--set: unknown option 'objective.stesp'; did you mean 'objective.steps'",
        ),
        ({"batch_size": 0}, RecipeError, "batch_size is 0; it must be at least 1"),
        ({"batch_size": -3}, RecipeError, "batch_size is -3; it must be at least 1"),
        ({"settings": {"contexts.count": 11}}, RecipeError, "contexts.count is 11; there are 10 neutral prefixes"),
        (
            {"settings": {"preserve.unit": "absolute", "preserve.threshold": 1e-12}},
            StatisticsError,
            "the null space of layer 1 is empty: 0 of 48 eigenvalues of C ",
        ),
        (
            {"settings": {"preserve.threshold": 1.0}},
            StatisticsError,
            "the null space of layer 1 is everything: 48 of 48 ",
        ),
    ],
)
def test_requests_that_cannot_be_carried_out(options, error, text, statistics):
    refused(make_editor(statistics=statistics), error, "^" + re.escape(text), **options)


def test_a_prompt_longer_than_the_context(statistics):
    long = Fact("word " * 300 + "{} is", subject="France", target="Rome")
    refused(
        make_editor(statistics=statistics),
        FactError,
        r"^a prompt of \d+ tokens is longer than the 256 LlamaForCausalLM can read; shorten it$",
        facts=[long],
    )


def test_too_few_tokens_for_statistics():
    editor = make_editor(tokens=20)
    refused(
        editor, StatisticsError, r"^the corpus self gives 32 tokens, but statistics of 48-dimensional keys need more"
    )


@BOTH
def test_nan_in_a_weight_that_is_to_be_written(family):
    editor = make_editor(family)
    editor.lm.projection(3).matrix()[2, 5:7] = torch.tensor([float("nan"), float("inf")])
    editor = Editor(editor.model, editor.lm.tokenizer, tokens=480)  # of the model as it came
    name = PROJECTIONS[family].format(3)
    with pytest.raises(ModelError) as caught:
        edit(editor, FACTS)
    assert str(caught.value) == (
        f"{name} holds 2 NaN or infinite values of 1536; the model is damaged, load it again from a sound checkpoint"
    )
    assert editor.edits == ()


@pytest.mark.parametrize(("recipe", "layer"), [(r, i) for r in ("memit", "alphaedit-blue") for i in (0, 1)])
def test_nan_in_a_weight_that_is_not_written(recipe, layer):
    """Whatever notices it says so in a sentence."""
    editor = make_editor()
    with torch.no_grad():
        editor.model.model.layers[layer].mlp.up_proj.weight[0, 0] = float("nan")
    with pytest.raises((ModelError, StatisticsError, EditError), match=r"NaN|not finite|singular"):
        edit(Editor(editor.model, editor.lm.tokenizer, tokens=480), FACTS, recipe)


# what comes back


def test_the_report_is_what_the_model_says_before_and_after(statistics):
    from bluedit.evaluate import report
    from bluedit.evaluate.answers import perplexity
    from bluedit.evaluate.report import read_facts_in

    editor = make_editor(statistics=statistics)
    before, drift_before = read_facts_in(editor.lm, FACTS), perplexity(editor.lm, report.ordinary_passages(), 1200)
    done = edit(editor, FACTS, report=True)
    after, drift_after = read_facts_in(editor.lm, FACTS), perplexity(editor.lm, report.ordinary_passages(), 1200)
    assert [f.p_new_before for f in done.report.facts] == [r.new.probability for r in before]
    assert [f.p_new_after for f in done.report.facts] == [r.new.probability for r in after]
    assert [f.p_old_after for f in done.report.facts] == [r.old.probability for r in after]
    assert (done.report.perplexity_before, done.report.perplexity_after) == (drift_before, drift_after)
    assert drift_before != drift_after
    assert "perplexity of ordinary text" in done.summary()
    assert (
        edit(editor, OTHER).summary()
        == "2 facts written with alphaedit-blue into layers 1, 3; not measured (report=False)"
    )


def test_the_targets_become_more_likely(statistics):
    """The main loop on a toy: with a free hand every target's probability rises."""
    editor = make_editor(statistics=statistics)
    done = edit(
        editor,
        FACTS,
        "memit-blue",
        report=True,
        settings={"preserve.lambda": 1e-3, "objective.steps": 25, "contexts.count": 0},
    )
    assert all(f.p_new_after > f.p_new_before for f in done.report.facts)


def test_the_manifest_says_where_the_patch_comes_from(statistics):
    editor = make_editor(statistics=statistics, bos=True, name="toy")
    info = edit(editor, FACTS, "memit-blue").patch.info
    assert info["model"] == "toy"
    assert info["fingerprint"] == editor.base_fingerprint
    assert info["dtype"] == "float64"
    assert info["recipe"] == "memit-blue"
    assert info["leading_special_token"] is True
    assert info["settings"]["objective.steps"] == 4
    assert info["settings"]["layers"] == [1, 2, 3]
    assert info["modules"] == {"1": "model.layers.1.mlp.down_proj", "3": "model.layers.3.mlp.down_proj"}
    assert info["statistics"]["tokens"] == 480
    assert make_editor().recipe("memit-blue", info["settings"]).settings() == info["settings"]


def test_the_manifest_gives_the_ranks_of_its_own_recipe(statistics):
    editor = make_editor(statistics=statistics)
    free = edit(editor, FACTS[0], "alphaedit-blue").patch.info["free_dimensions"]
    assert free.keys() == {"1", "3"}
    assert all(0 < rank < 48 for rank in free.values())
    assert edit(editor, FACTS[1], "memit-blue").patch.info["free_dimensions"] == {}
    assert edit(editor, FACTS[2], "memit-seq-blue").patch.info["free_dimensions"] == {"1": 48, "3": 48}
