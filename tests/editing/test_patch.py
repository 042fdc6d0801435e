"""Patches: equal to the live edit bit for bit, and refused where they do not belong."""

import json
from dataclasses import replace

import pytest
import torch
from editing_help import OTHER, Recorder, bits, dense, edit, make_editor, moments_of, same_bits, same_patch

from bluedit import Editor, Fact, Neighbour, Patch, Probe
from bluedit.errors import EditError, PatchError
from toys import FACTS

BOTH = pytest.mark.parametrize("family", ["llama", "gpt2"])
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=["f64", "f32", "bf16"])


# there and back


def test_a_saved_patch_reads_back_bit_for_bit(patch, tmp_path):
    assert patch.save(tmp_path / "deep" / "er" / "patch") == tmp_path / "deep" / "er" / "patch"
    again = Patch.load(tmp_path / "deep" / "er" / "patch")
    assert same_patch(again, patch)
    assert [f.id for f in again.facts] == ["1", "2", "3"]
    assert again.facts[0].neighbours == FACTS[0].neighbours
    assert again.base == patch.base and again.state == patch.state
    assert [replace(batch.origin, report=None) for batch in again.batches] == [
        replace(batch.origin, report=None) for batch in patch.batches
    ]
    assert again.batches[-1].origin.report == json.loads(json.dumps(patch.batches[-1].origin.report))
    assert again.batches[-1].origin.report["facts"] and again.batches[0].origin.report is None
    assert again.layers == (1, 3)
    names = sorted(f.name for f in (tmp_path / "deep" / "er" / "patch").iterdir())
    assert len(names) == 7 and names[-1] == "manifest.json"
    assert [name[:5] for name in names[:-1]] == ["0000-", "0000-", "0001-", "0001-", "0002-", "0002-"]


def test_facts_with_everything_read_back(patch, tmp_path):
    rich = Fact(
        "{} is in",
        subject="Rome",
        target="Asia",
        neighbours=(Neighbour("Oslo is in"), Neighbour("Paris is in", "Europe")),
        probes=(Probe("portability", "Rome's continent is", ("Asia",)), Probe("subject", "Rome's mayor is")),
        references=("a continent",),
        id="1",
    )
    Patch(patch.base, (replace(patch.batches[0], facts=(rich,)),)).save(tmp_path / "p")
    assert Patch.load(tmp_path / "p").batches[0].facts == (rich,)


def test_numbers_derived_from_the_factors(patch):
    for batch in patch.batches:
        for update in batch.updates:
            product = update.R.double() @ update.A.double()
            assert update.norm == pytest.approx(float(product.norm()), rel=1e-6)
            weight = (update.R.double() ** 2).sum(0)
            assert update.mean_reach == pytest.approx(float((update.reach * weight).sum() / weight.sum()), rel=1e-5)


@BOTH
@DTYPES
def test_applied_to_a_fresh_copy_it_equals_the_live_edit(family, dtype, statistics, tmp_path):
    live = make_editor(family, statistics=statistics, dtype=dtype)
    edit(live, FACTS, "alphaedit", batch_size=2)
    edit(live, OTHER, "rect-seq-blue", batch_size=1)
    live.patch.save(tmp_path / "patch")
    fresh = make_editor(family, dtype=dtype)
    assert not same_bits(fresh.model, bits(live.model))
    fresh.apply(tmp_path / "patch")
    assert same_bits(fresh.model, bits(live.model))
    fresh.undo()
    assert same_bits(fresh.model, bits(make_editor(family, dtype=dtype).model))


def test_apply_takes_a_patch_in_memory_too(patch, statistics):
    one, two = make_editor(dtype=torch.float32), make_editor(dtype=torch.float32)
    assert one.apply(patch) is patch
    edit(two, FACTS, batch_size=1)
    assert same_bits(one.model, bits(two.model))
    assert one.edits == ()
    assert same_patch(one.patch, patch)


# where a patch belongs


def refused(editor: Editor, patch, text: str, error=PatchError, **options) -> None:
    before = bits(editor.model)
    with pytest.raises(error) as caught:
        editor.apply(patch, **options)
    assert str(caught.value).startswith(text), str(caught.value)
    assert same_bits(editor.model, before)
    with pytest.raises(EditError, match="nothing to undo"):
        editor.undo()


def test_other_weights_are_refused_unless_forced(patch):
    editor = make_editor(dtype=torch.float32, seed=1)
    made_for, here = patch.base.fingerprint, editor.journal.base.fingerprint
    assert made_for != here
    text = (
        f"the patch was made for other weights: LlamaForCausalLM with fingerprint {made_for}, while LlamaForCausalLM has {here}. "
        "Load that model, or pass force=True (--force) to use the patch anyway"
    )
    refused(editor, patch, text)
    before = editor.lm.projection(1).matrix().clone()
    editor.apply(patch, force=True)
    total = sum(u.R.double() @ u.A.double() for b in patch.batches for u in b.updates if u.layer == 1)
    assert torch.equal(editor.lm.projection(1).matrix(), (before.double() + total).float())


def test_another_dtype_is_named(patch):
    editor = make_editor(dtype=torch.bfloat16)
    text = (
        f"the patch was made for other weights: LlamaForCausalLM with fingerprint {patch.base.fingerprint}, while LlamaForCausalLM "
        f"has {editor.journal.base.fingerprint}. It was made on float32 weights, these are bfloat16: load the model with that dtype. Load"
    )
    refused(editor, patch, text)


@pytest.mark.parametrize("force", [False, True])
def test_other_shapes_are_refused_even_by_force(patch, force):
    text = (
        "the patch changes 32 x 48 weights at layer 1, but LlamaForCausalLM has 32 x 32 there; "
        "it was made for another model (LlamaForCausalLM)"
    )
    refused(make_editor("llama-square", dtype=torch.float32), patch, text, force=force)


@pytest.mark.parametrize("force", [False, True])
def test_a_model_with_fewer_layers_is_refused(patch, force):
    text = "the patch changes layer 3, but LlamaForCausalLM has layers 0 to 1; it was made for another model (LlamaForCausalLM)"
    refused(make_editor(dtype=torch.float32, layers=2), patch, text, force=force)


def test_an_edited_model_is_refused(patch, other, statistics):
    editor = make_editor(statistics=statistics, dtype=torch.float32)
    editor.apply(patch)
    state = bits(editor.model)
    text = (
        "^this editor's model is edited already, and the patch was made for the unedited one; undo the edits first, or "
    )
    with pytest.raises(PatchError, match=text):
        editor.apply(other)
    assert same_bits(editor.model, state)
    editor.apply(other, force=True)
    assert not same_bits(editor.model, state)
    assert editor.patch.facts == (*patch.facts, *other.facts)
    editor.undo()
    assert same_bits(editor.model, state)
    editor.undo()
    assert same_bits(editor.model, bits(make_editor(dtype=torch.float32).model))


def test_the_patch_of_a_second_edit_alone_does_not_pass_for_one_of_the_unedited_model(statistics):
    editor = make_editor(statistics=statistics, dtype=torch.float32)
    edit(editor, FACTS[0])
    second = edit(editor, FACTS[1])
    with pytest.raises(PatchError):
        make_editor(dtype=torch.float32).apply(second.patch)


def test_the_patch_of_a_second_edit_follows_that_of_the_first(statistics, tmp_path):
    live, fresh = (make_editor(statistics=statistics, dtype=torch.float32) for _ in range(2))
    edit(live, FACTS[0]).save(tmp_path / "first")
    edit(live, FACTS[1]).save(tmp_path / "second")
    fresh.apply(tmp_path / "first")
    fresh.apply(tmp_path / "second")
    assert same_bits(fresh.model, bits(live.model))
    assert fresh.patch.base == live.patch.base == fresh.journal.base
    assert same_patch(fresh.patch, live.patch)


# going on from a patch


def test_edits_stand_on_an_applied_patch(patch, statistics, tmp_path):
    editor, live = (make_editor(statistics=statistics, dtype=torch.float32) for _ in range(2))
    patch.save(tmp_path / "first")
    editor.apply(tmp_path / "first")
    edit(live, FACTS, batch_size=1)
    for each in (editor, live):
        edit(each, OTHER)
    assert same_bits(editor.model, bits(live.model)), (
        "an edit on top of a patch is the edit on top of what the patch was made from"
    )
    assert editor.patch.facts == (*FACTS, *OTHER)
    assert len(editor.patch.batches) == 4
    assert same_patch(editor.patch, live.patch)
    editor.patch.save(tmp_path / "both")
    fresh = make_editor(dtype=torch.float32)
    fresh.apply(tmp_path / "both")
    assert same_bits(fresh.model, bits(live.model))
    editor.undo()
    editor.undo()
    assert same_bits(editor.model, bits(make_editor(dtype=torch.float32).model))


def test_the_keys_of_an_applied_patch_are_preserved(patch, statistics):
    trace = Recorder()
    editor = make_editor(statistics=statistics, dtype=torch.float32, trace=trace)
    C, eye = moments_of(editor, [1], statistics)[1].matrix, torch.eye(48, dtype=torch.float64)
    editor.apply(patch)
    update = edit(editor, OTHER[:1], "memit-seq-blue").patch.batches[0].updates[0]
    keys = torch.cat([u.keys for b in patch.batches for u in b.updates if u.layer == 1], dim=1)
    K = trace.writes[0].keys.double()
    expected = dense(C, eye, keys, K)
    assert torch.allclose(update.A.double(), expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))
    assert not torch.allclose(update.A.double(), dense(C, eye, None, K), rtol=1e-3)


def test_factors_that_are_not_finite_are_not_written(patch):
    (first, *_), base = patch.batches, patch.base
    R = first.updates[0].R.clone()
    R[0, 0] = float("nan")
    broken = Patch(base, (replace(first, updates=(replace(first.updates[0], R=R), *first.updates[1:])),))
    refused(make_editor(dtype=torch.float32), broken, "the update of layer 1 is not finite", error=EditError)
