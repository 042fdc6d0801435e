"""Edits are undone bit for bit, in order, and whatever would not be is refused."""

import pytest
import torch
from editing_help import (
    OTHER,
    FaultAt,
    Injected,
    bits,
    edit,
    make_editor,
    same_bits,
)

from bluedit import Editor, Trace
from bluedit.errors import EditError
from toys import FACTS

BOTH = pytest.mark.parametrize("family", ["llama", "gpt2"])


@pytest.mark.parametrize(
    ("recipe", "family"),
    [
        ("memit-seq", "llama"),
        ("alphaedit-blue", "gpt2"),
        ("rect", "gpt2"),
        ("rect-seq", "llama"),
        ("prune-blue", "gpt2"),
        ("ft-local", "llama"),
    ],
)
def test_undo_restores_every_bit_step_by_step(recipe, family, statistics):
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


@pytest.mark.parametrize("recipe", ["alphaedit-blue", "rect-seq", "prune-blue"])
def test_an_edit_after_an_undo_is_the_edit_without_the_undone_one(recipe, statistics):
    """What filters owe to the next batch, and what they hide, goes back with the weights."""
    editor, clean = (make_editor(statistics=statistics) for _ in range(2))
    for each in (editor, clean):
        edit(each, FACTS[0], recipe)
    edit(editor, FACTS[1], recipe).undo()
    for each in (editor, clean):
        edit(each, FACTS[2], recipe)
    assert same_bits(editor.model, bits(clean.model))
    editor.undo()
    editor.undo()  # this one repeats what the journal holds
    edit(editor, FACTS[1], recipe)
    alone = make_editor(statistics=statistics)
    edit(alone, FACTS[1], recipe)
    assert same_bits(editor.model, bits(alone.model))


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
    assert [entry.snapshot is None for entry in editor.journal.entries] == [True, True, False]
    editor.undo()
    assert [entry.snapshot is None for entry in editor.journal.entries] == [True, True]


def test_undo_that_would_not_give_the_same_bits_is_refused(statistics):
    editor = make_editor(statistics=statistics)
    unedited = bits(editor.model)
    for fact in FACTS:
        edit(editor, fact)
    editor.undo()
    state = bits(editor.model)
    editor.journal.entries[0].batches[0].updates[0].R.mul_(1.01)
    with pytest.raises(EditError, match="did not give the same bits"):
        editor.undo()
    assert same_bits(editor.model, state), "a refused undo changes nothing"
    assert len(editor.edits) == 2
    editor.reset()
    assert same_bits(editor.model, unedited)


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
    with pytest.raises(EditError, match=r"^1 later edit was made on top of this one; undo it first$"):
        first.undo()
    third = edit(editor, FACTS[2])
    with pytest.raises(EditError, match=r"^2 later edits were made on top of this one; undo them, the last one first$"):
        first.undo()
    third.undo()
    assert same_bits(editor.model, state), "a refused undo changes nothing"
    second.undo()
    with pytest.raises(EditError, match=r"^this edit was already undone$"):
        second.undo()
    first.undo()
    with pytest.raises(EditError, match="nothing to undo"):
        editor.undo()


# weights changed by somebody else


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
        editor.reset,
        editor.verify,
        lambda: edit(editor, FACTS[2]),
        lambda: editor.apply(theirs.patch, force=True),
    ):
        with pytest.raises(EditError, match=text):
            act()
        assert same_bits(editor.model, state)
    theirs.undo()
    first.undo()  # now the weights are its own again


def test_an_edit_of_weights_that_another_editor_changed_first_is_refused(statistics):
    editor = make_editor(statistics=statistics)
    other = Editor(editor.model, editor.lm.tokenizer, tokens=480, statistics=statistics)
    patch = edit(other, FACTS[1]).patch
    state = bits(editor.model)
    for act in (lambda: edit(editor, FACTS[0]), lambda: editor.apply(patch)):
        with pytest.raises(EditError, match=r"down_proj\.weight was changed outside this editor since it was made; "):
            act()
        assert same_bits(editor.model, state)
    assert not editor.edits
    other.undo()
    edit(editor, FACTS[0])


def test_a_weight_that_two_layers_share_is_not_taken_for_a_changed_one(statistics):
    editor = make_editor(statistics=statistics)
    layers = editor.model.model.layers
    layers[2].mlp.down_proj.weight = layers[1].mlp.down_proj.weight
    shared = Editor(editor.model, editor.lm.tokenizer, tokens=480, statistics=statistics)
    shared._weights.check_untouched((1, 2))


@pytest.mark.parametrize("edits", [0, 1])
def test_verify_notices_any_weight_that_somebody_else_changed(edits, statistics):
    editor = make_editor(statistics=statistics)
    for fact in FACTS[:edits]:
        edit(editor, fact)
    editor.verify()
    for name, parameter in [
        ("attention", editor.model.model.layers[4].self_attn.q_proj.weight),
        ("norm", editor.model.model.norm.weight),
    ]:
        before = parameter.detach().clone()
        state = bits(editor.model)
        with torch.no_grad():
            parameter.view(-1)[3] += 1e-9
        with pytest.raises(EditError) as caught:
            editor.verify()
        assert str(caught.value) == (
            "weights of LlamaForCausalLM were changed outside this editor since it was made; "
            "make a new Editor for the model as it is now"
        ), name
        with torch.no_grad():
            parameter.copy_(before)
        assert same_bits(editor.model, state)
        editor.verify()


# interrupted while taking back


class FailsAtTheEnd(Trace):
    """Once it has a fault, it makes an edit fail when its batch is complete, and arms the fault for the return to the weights before."""

    fault: FaultAt | None = None

    def on_batch(self, batch):
        if self.fault:
            self.fault.armed = True
            raise Injected


@pytest.mark.parametrize("what", ["undo", "reset", "failed edit", "unedited"])
@pytest.mark.parametrize("nth", [1, 2])
def test_an_interrupted_return_to_earlier_weights_is_seen_and_can_be_finished(what, nth, statistics):
    trace = FailsAtTheEnd()
    editor = make_editor(statistics=statistics, trace=trace)
    unedited = bits(editor.model)
    edit(editor, FACTS[0], "memit")
    edit(editor, FACTS[1], "memit")
    fault = FaultAt(nth, KeyboardInterrupt, "copy_")

    def failed_edit():
        trace.fault, fault.armed = fault, False
        edit(editor, FACTS[2], "memit")

    def use_unedited():
        fault.armed = False
        with editor.unedited():
            fault.armed = True

    act = {"undo": editor.undo, "reset": editor.reset, "failed edit": failed_edit, "unedited": use_unedited}[what]
    with fault, pytest.raises(KeyboardInterrupt):
        act()
    trace.fault = None
    for act in (editor.undo, editor.verify, lambda: edit(editor, OTHER[0])):
        with pytest.raises(EditError, match="was interrupted half-way"):
            act()
    editor.reset()
    assert same_bits(editor.model, unedited)
    edit(editor, FACTS[0])
