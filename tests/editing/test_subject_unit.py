"""Several facts about one subject: they share a target, also over several edits, and lost ones are taught again."""

from dataclasses import replace

import pytest
import torch
from editing_help import bits, edit, make_editor, same_bits

from bluedit import Fact, Patch
from bluedit.evaluate.answers import score
from bluedit.methods.subjects import Split, Unit
from bluedit.writing.edit_run import standing_facts

FIRST = Fact("{} is made in", subject="Danielle Darrieux", target="Berlin")
SECOND = Fact("The library of {} is in", subject="danielle darrieux", target="Italian")
OTHER = Fact("The capital of {} is", subject="France", target="Rome")
LEARN = {"objective.steps": 15, "objective.clamp": 20.0, "preserve.lambda": 0.1, "subjects": "unit"}


def log_p(editor, *facts):
    return sum(answer.mean_logprob for answer in score(editor.lm, [(fact.text, fact.target) for fact in facts]))


def test_facts_about_one_subject_share_a_column():
    assert Unit().columns([FIRST, OTHER, SECOND]) == [0, 1, 0]


def test_a_later_fact_about_a_subject_is_written_together_with_the_earlier_one(statistics):
    editor, unedited = (make_editor("llama", statistics=statistics) for _ in range(2))
    second = Fact("{} is made by", subject="Danielle Darrieux", target="London")
    for fact in (FIRST, OTHER, second):
        edit(editor, fact, "memit-seq-blue", settings=LEARN)
    assert [batch.held for batch in editor.journal.batches] == [(), (), (FIRST,)]
    assert [batch.updates[0].R.shape[1] for batch in editor.journal.batches] == [1, 1, 1]
    assert log_p(editor, FIRST, second) > log_p(unedited, FIRST, second) + 1


def test_a_new_value_replaces_the_old_one(statistics):
    editor = make_editor("gpt2", statistics=statistics)
    again = Fact(FIRST.prompt, subject=FIRST.subject, target="London")
    for fact in (FIRST, again):
        edit(editor, fact, "memit-seq-blue", settings=LEARN)
    assert editor.journal.batches[-1].held == ()
    assert log_p(editor, again) > log_p(editor, FIRST)


def test_a_correction_in_other_words_replaces_it_too(statistics):
    """Otherwise the old answer would be taught again, beside the new one."""
    editor = make_editor("gpt2", statistics=statistics)
    first = replace(OTHER, phrasings=("{}'s capital is",))
    again = Fact("{}'s capital is", subject="France", target="Berlin")
    for fact in (first, replace(FIRST, subject="France"), again):
        edit(editor, fact, "memit-seq-blue", settings=LEARN)
    assert editor.journal.batches[-1].held == (replace(FIRST, subject="France"),)
    assert standing_facts(editor.journal.batches) == [replace(FIRST, subject="France"), again]


def test_old_keys_of_a_subject_leave_the_memory(statistics):
    editor = make_editor("gpt2", statistics=statistics)
    for fact in (FIRST, OTHER, SECOND):
        edit(editor, fact, "memit-seq-blue", settings=LEARN)
    batches = editor.journal.batches
    recipe, memory = editor.edits[-1].recipe, editor._writer.memory
    layer = recipe.written[-1]
    found = memory.operators([layer], batches, recipe.subjects)[layer]
    expected = memory.operators([layer], batches[1:], Split())[layer]
    keys = torch.randn(batches[0].updates[0].keys.shape[0], 2, dtype=torch.float64)
    assert torch.allclose(found.apply(keys), expected.apply(keys))


def test_held_facts_are_in_the_patch_and_later_edits_go_on_from_it(statistics, tmp_path):
    live = make_editor("gpt2", statistics=statistics)
    for fact in (FIRST, SECOND):
        edit(live, fact, "memit-seq-blue", settings=LEARN)
    fresh = make_editor("gpt2", statistics=statistics)
    fresh.apply(Patch.load(live.patch.save(tmp_path / "patch")))
    assert same_bits(fresh.model, bits(live.model))
    third = Fact("{} plays the", subject="Danielle Darrieux", target="violin")
    for editor in (live, fresh):
        edit(editor, third, "memit-seq-blue", settings=LEARN)
    assert live.journal.batches[-1].held == fresh.journal.batches[-1].held == (FIRST, SECOND)
    assert same_bits(fresh.model, bits(live.model))


def test_lost_facts_are_taught_again(statistics):
    """A fact that is not said is written once more; at most as often as the recipe says."""
    weak = LEARN | {"objective.steps": 2, "objective.clamp": 0.01}
    for rounds in (0, 2):
        editor = make_editor("gpt2", statistics=statistics)
        made = edit(editor, [FIRST, OTHER], "memit-seq-blue", settings=weak | {"reteach": rounds})
        assert len(made.patch.batches) == 1 + rounds
        assert all(set(batch.facts) == {FIRST, OTHER} for batch in made.patch.batches)


def test_what_took_a_lost_facts_place_is_taught_again_with_it(statistics, monkeypatch):
    first = replace(OTHER, subject="Berlin France")
    rival, other = replace(OTHER, subject="the London france"), replace(OTHER, subject="France London")
    editor = make_editor("gpt2", statistics=statistics)
    quick = LEARN | {"objective.steps": 2}
    edit(editor, first, "memit-seq-blue", settings=quick)
    monkeypatch.setattr(type(editor._writer), "_lost", lambda *_: [first])
    made = edit(editor, [other, rival], "memit-seq-blue", settings=quick | {"reteach": 1})
    assert [batch.facts for batch in made.patch.batches] == [(other, rival), (first, rival)]
    monkeypatch.setattr(type(editor._writer), "_lost", lambda *_: [rival])
    made = edit(editor, [replace(first, target="London"), rival], "memit-seq-blue", settings=quick | {"reteach": 1})
    assert made.patch.batches[-1].facts == (rival,), "facts of one batch took no place of each other"


def test_a_lost_fact_gets_more_room(statistics):
    """Its target may be longer when it is taught again; the batch records the clamp of the edit, so that a replay begins with it."""
    weak = LEARN | {"objective.steps": 12, "objective.clamp": 0.01, "reteach": 1}
    lengths = {}
    for factor in (1.0, 3.0):
        editor = make_editor("gpt2", statistics=statistics)
        made = edit(editor, [FIRST], "memit-seq-blue", settings=weak | {"objective.clamp_again": factor})
        first, again = made.patch.batches
        assert first.origin.settings == again.origin.settings
        assert again.origin.settings["objective.clamp"] == 0.01
        lengths[factor] = [float(batch.updates[0].R.norm()) for batch in made.patch.batches]
    assert lengths[1.0][0] == lengths[3.0][0]
    assert lengths[3.0][1] == pytest.approx(3 * lengths[1.0][1], rel=0.05)


def test_natural_wordings_learn_save_and_undo(statistics, tmp_path):
    editor = make_editor("gpt2", statistics=statistics)
    before = bits(editor.model)
    fact = Fact("The capital of {} is", subject="France", target="Rome", phrasings=("What is the capital of {}?",))
    made = edit(editor, fact, "natural-blue", settings={"objective.steps": 24, "objective.rotate": False, "reteach": 0})
    assert log_p(editor, fact) > log_p(make_editor("gpt2", statistics=statistics), fact) + 1
    question = [("Question: What is the capital of France?\nAnswer:", "Rome")]
    unedited = make_editor("gpt2", statistics=statistics)
    assert score(editor.lm, question)[0].mean_logprob > score(unedited.lm, question)[0].mean_logprob + 0.1
    unedited.apply(Patch.load(made.patch.save(tmp_path / "patch")))
    assert same_bits(unedited.model, bits(editor.model))
    made.undo()
    assert same_bits(editor.model, before)
