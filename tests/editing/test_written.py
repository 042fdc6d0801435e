"""What an edit writes: which weights, how they are made of the stored factors, and which facts are written together."""

import pytest
import torch
from editing_help import OTHER, bits, changed, edit, make_editor, same_bits
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bluedit import Fact
from bluedit.methods.subjects import Merge, Split
from toys import FACTS

BOTH = pytest.mark.parametrize("family", ["llama", "gpt2"])
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
        ("ft", (1,)),
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


def test_sampled_prefixes_are_those_of_the_unedited_model(statistics):
    editor, settings = make_editor(statistics=statistics), {"contexts": "sampled", "contexts.count": 2}
    first = edit(editor, FACTS[0], settings={**settings, "objective.clamp": 50.0})
    second = edit(editor, FACTS[1], settings=settings)
    prefixes = first.patch.batches[0].origin.prefixes
    assert prefixes == second.patch.batches[0].origin.prefixes
    assert len(prefixes) == 2 and all(prefix.endswith(".") for prefix in prefixes)


# batches


def _fact(subject: int, number: int) -> Fact:
    return Fact(f"Saying {number} of {{}} is", subject=f"subject {subject}", target="Rome", id=str(number))


@given(st.lists(st.integers(0, 5), max_size=25), st.one_of(st.none(), st.integers(1, 7)))
@hypothesis_settings(deadline=None, max_examples=200)
def test_batches_hold_every_fact_once_and_no_subject_twice(subjects, size):
    facts = [_fact(subject, number) for number, subject in enumerate(subjects)]
    batches = Split().batches(facts, size)
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


@given(st.lists(st.integers(0, 5), max_size=25), st.one_of(st.none(), st.integers(1, 7)))
@hypothesis_settings(deadline=None, max_examples=50)
def test_merged_facts_need_no_batches_of_their_own(subjects, size):
    facts = [_fact(subject, number) for number, subject in enumerate(subjects)]
    expected = [facts[i : i + (size or 99)] for i in range(0, len(facts), size or 99)]
    assert Merge().batches(facts, size) == expected


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
    editor, other = (make_editor(statistics=statistics) for _ in range(2))
    assert edit(editor, FACTS[0]).facts == (FACTS[0],)
    edit(other, [FACTS[0]])
    assert same_bits(editor.model, bits(other.model))
