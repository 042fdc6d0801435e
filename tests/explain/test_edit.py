"""Why an edit succeeds or fails: every number against another way to get it, on toy models."""

import json
from dataclasses import replace

import pytest
import torch
from editing_help import Recorder, edit, make_editor, moments_of

from bluedit import Editor, Patch
from bluedit.errors import FactError, PatchError
from bluedit.evaluate.answers import score
from bluedit.explain._edit_lens import lens
from bluedit.explain._edit_match import LayerChange, matches, whitened_rows
from bluedit.explain.edit import explain_edit, find_fact, write_edit
from bluedit.text.prompts import encode_answer
from bluedit.writing.memory import Memory
from families import FAMILIES
from toys import FACTS, toy_tokenizer


@pytest.fixture(scope="module")
def statistics(tmp_path_factory):
    return tmp_path_factory.mktemp("statistics")


@pytest.fixture(scope="module")
def made(statistics):
    """An editor that carries two facts in one batch and a third in a later one, what the loop did, and the first fact's explanation."""
    recorder = Recorder()
    editor = make_editor(statistics=statistics, trace=recorder)
    edit(editor, FACTS, "memit-seq", batch_size=2)
    return editor, recorder, explain_edit(editor, 1)


def test_what_is_delivered_at_the_own_key_is_the_recorded_reach(made):
    _, recorder, found = made
    writes = [write for write in recorder.writes if len(write.reach) == 2]
    assert [(w.layer, w.target) for w in found.written] == [(1, 3), (2, 3), (3, 3)]
    for written, write in zip(found.written, writes, strict=True):
        assert written.share == write.step.share
        assert written.residual == pytest.approx(float(write.residual[:, 0].norm()))
        assert written.reach == pytest.approx(float(write.reach[0]))
        assert written.delivered == pytest.approx(float(write.reach[0]), abs=1e-9)


def test_the_parts_of_the_move_add_up_and_the_wanted_residual_is_the_first_that_was_missing(made):
    _, recorder, found = made
    assert sum(written.part for written in found.written) == pytest.approx(1.0)
    first = recorder.writes[0].missing[:, 0]
    (arrival,) = found.arrivals
    assert (arrival.layer, arrival.wanted) == (3, pytest.approx(float(first.norm())))
    last = next(write for write in recorder.writes if write.step.layer == 3)
    before = first - last.missing[:, 0]  # moved by the time layer 3 was written
    assert arrival.arrived > float(before @ first / (first @ first))


def test_a_softened_batch_is_measured_against_its_whole_target(statistics):
    """What is wanted is what was optimised, not the share of it that a guard let stay."""
    editor = make_editor(statistics=statistics, trace=(recorder := Recorder()))
    edit(editor, FACTS[:2], "memit-seq")
    limit = 0.4 * editor._baseline.passage_kl()
    editor.undo()
    recorder.writes.clear()
    made = edit(editor, FACTS[:2], "memit-seq", guard=f"kl={limit}")
    share = made.patch.batches[0].guard["share"]
    assert 0 < share < 1
    found = explain_edit(editor, 1)
    (arrival,) = found.arrivals
    assert arrival.wanted == pytest.approx(float(recorder.writes[0].missing[:, 0].norm()), rel=1e-3)
    assert f"A guard let {share:.0%} of the batch's change stay." in found.reading_note


def test_the_residual_multiplier_of_a_family_counts(statistics):
    recorder, model = Recorder(), next(one for one in FAMILIES if one.kind == "granite").make()
    editor = Editor(model, toy_tokenizer(), tokens=480, statistics=statistics, trace=recorder)
    edit(editor, FACTS[:1], "memit-seq-blue", settings={"layers": [1, 2]})
    found = explain_edit(editor, 1)
    assert found.arrivals[0].wanted == pytest.approx(float(recorder.writes[0].missing[:, 0].norm()), rel=1e-3)


def test_the_whitened_match_is_that_of_the_statistics_and_memory(made, statistics):
    """The factors give K^T G; Memory gives G itself, from the same statistics."""
    editor, _, _ = made
    recipe = editor.edits[0].recipe
    batches = editor.journal.batches
    memory = Memory(editor.lm)
    memory.missing(recipe.update.preserve, recipe.written)
    with editor.unedited():
        memory.build(moments_of(editor, recipe.written, statistics))
    G = memory.operators(recipe.written, batches[:1], recipe.subjects)
    keys = torch.randn(48, 5, dtype=torch.float64)
    for update in batches[1].updates:
        expected = update.keys.double().T @ G[update.layer].apply(keys)
        own = (update.keys.double() * G[update.layer].apply(update.keys)).sum(dim=0)
        rows = whitened_rows(update, 1.0)
        assert torch.allclose(matches(rows, update.keys, keys), expected / own[:, None], atol=1e-8)
    change = LayerChange.of(1, [(batches[0].updates[0], batches[0].updates[0].R[:, 1])], 1, 1.0)
    assert float(change.match(change.stored[:, None])[0]) == pytest.approx(1.0)


def test_keys_that_are_met_exactly_leave_the_metric_unknown_unless_there_is_one(made):
    update = made[0].journal.batches[0].updates[0]
    assert whitened_rows(update, 0.0) is None
    single = made[0].journal.batches[1].updates[0]
    assert torch.equal(whitened_rows(single, 0.0), single.A.double())


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_last_layer_of_the_lens_is_the_models_own_output(family, statistics):
    lm = make_editor(family, statistics=statistics).lm
    pairs = [("The capital of France is", "Rome"), ("Élise Müller plays the", "drum kit"), ("A", "b")]
    found = lens(lm, [encode_answer(lm.tokenizer, *pair) for pair in pairs])
    for values, answer in zip(found, score(lm, pairs), strict=True):
        assert len(values) == lm.anatomy.n_layers
        assert values[-1] == pytest.approx(answer.probability, rel=1e-9)


@torch.no_grad()
def test_the_lens_of_an_inner_layer_is_norm_and_head_of_its_state(statistics):
    lm = make_editor(statistics=statistics).lm
    prompt, answer = encode_answer(lm.tokenizer, "The capital of France is", "a")
    states = lm.model(torch.tensor([prompt]), output_hidden_states=True).hidden_states[2][0, -1]
    expected = lm.model.lm_head(lm.model.model.norm(states)).softmax(dim=-1)[answer[0]]
    assert lens(lm, [(prompt, answer[:1])])[0][1] == pytest.approx(float(expected), rel=1e-9)


def test_texts_are_asked_before_and_after(made):
    editor, _, found = made
    assert [one.form for one in found.asked] == ["prompt", "paraphrase", "neighbour"]
    prompt, paraphrase, neighbour = found.asked
    fact = FACTS[0]
    after = score(editor.lm, [(fact.text, "English"), (fact.text, "French"), (paraphrase.prompt, "English")])
    with editor.unedited():
        (before,) = score(editor.lm, [(fact.text, "English")])
    assert prompt.target_after == pytest.approx(after[0].logprob)
    assert prompt.target_before == pytest.approx(before.logprob)
    assert prompt.ahead == pytest.approx(after[1].logprob - after[0].logprob)
    assert paraphrase.target_after == pytest.approx(after[2].logprob)
    assert prompt.lens.after[-1] == pytest.approx(after[0].probability)
    assert (neighbour.rival, neighbour.lens) == ("French", None)
    assert set(prompt.match) == {1, 2, 3}


@torch.no_grad()
def test_what_a_text_receives_is_the_change_at_its_key(made):
    """dW k of the first batch at the paraphrase's key, from the weights themselves."""
    editor, _, found = made
    other = make_editor(statistics=None)
    other.apply(Patch(editor.journal.base, editor.journal.batches[:1]))
    with other.unedited():
        original = other.lm.projection(1).matrix().clone()
    dW = other.lm.projection(1).matrix() - original
    seen = {}
    paraphrase = found.asked[1]
    ids, _ = encode_answer(other.lm.tokenizer, paraphrase.prompt, "a")
    hook = other.lm.projection(1).module.register_forward_pre_hook(lambda _m, args: seen.update(key=args[0][0]))
    other.model(torch.tensor([ids]))
    hook.remove()
    end = len(other.lm.tokenizer(FACTS[0].subject)["input_ids"]) - 1
    r = editor.journal.batches[0].updates[0].R[:, 0]
    assert paraphrase.delivered[1] == pytest.approx(float(r @ dW @ seen["key"][end] / (r @ r)), abs=1e-8)


def test_other_edits_and_what_they_do_to_each_other(made):
    editor, _, found = made
    assert {(one.number, one.when) for one in found.others} == {(2, "same batch"), (3, "later")}
    own, later = editor.journal.batches
    adds = weights = takes = sizes = 0.0
    for mine, theirs in zip(own.updates, later.updates, strict=True):
        r, s = mine.R[:, 0], theirs.R[:, 0]
        adds += float((r @ s) * (theirs.A[0] @ mine.keys[:, 0]))
        takes += float((r @ s) * (mine.A[0] @ theirs.keys[:, 0]))
        weights, sizes = weights + float(r @ r), sizes + float(s @ s)
    other = next(one for one in found.others if one.when == "later")
    assert other.adds == pytest.approx(adds / weights)
    assert other.takes == pytest.approx(takes / sizes)
    assert found.moved_by["later"] == pytest.approx(other.adds)
    assert found.moved_by["earlier"] == 0
    last = explain_edit(editor, 3)
    assert {one.when for one in last.others} == {"earlier"}
    assert last.moved_by["later"] == 0


def test_a_patch_is_taken_back_and_explained_as_if_it_was_there(made, statistics, tmp_path):
    editor, _, found = made
    editor.patch.save(tmp_path / "patch")
    fresh = make_editor(statistics=statistics)
    before = {name: value.clone() for name, value in fresh.model.state_dict().items()}
    again = explain_edit(fresh, "1", tmp_path / "patch")
    assert again.sentence == found.sentence
    assert again.asked[0].target_after == pytest.approx(found.asked[0].target_after)
    assert not len(fresh.journal)
    assert all(torch.equal(value, before[name]) for name, value in fresh.model.state_dict().items())
    carried = editor.lm.projection(1).matrix().clone()
    explain_edit(editor, 1, editor.patch)
    assert len(editor.journal) == 1
    assert torch.equal(editor.lm.projection(1).matrix(), carried)
    editor.verify()


def test_fine_tuning_has_no_residual(statistics):
    editor = make_editor(statistics=statistics)
    edit(editor, FACTS[:1], "ft")
    found = explain_edit(editor, "Danielle")
    assert "fine-tuned" in found.reading_note
    assert (found.arrivals, found.others, found.asked[0].received) == ((), (), None)
    assert found.written[0].part == pytest.approx(1.0)
    assert found.sentence.startswith("The fact is")


def test_filters_change_what_is_delivered(statistics):
    editor = make_editor(statistics=statistics)
    edit(editor, FACTS[:2], "rect-blue")
    found = explain_edit(editor, 1)
    assert all(abs(written.delivered - written.reach) > 0.01 for written in found.written)


@pytest.mark.parametrize("name", ["revive-blue", "suit-keys-blue"])
def test_spared_directions_leave_the_metric_unknown(name, statistics):
    editor = make_editor(statistics=statistics)
    edit(editor, FACTS[:2], name)
    found = explain_edit(editor, 1)
    assert found.reading_note.startswith("Every write spared directions, or was solved for a part of the keys")
    assert found.filters is None and all(text.received is not None for text in found.asked)
    assert sum(written.part for written in found.written) == pytest.approx(1.0, abs=1e-6)


def test_facts_are_found_by_number_id_and_text():
    facts = (*FACTS, FACTS[1])
    assert find_fact(facts, 2) == 2
    assert find_fact(facts, "3") == 3
    assert find_fact(facts, "france is => rome") == 4
    with pytest.raises(
        FactError, match=r"^no fact has the number or id 'Spain' or holds this text; choose one"
    ) as error:
        find_fact(FACTS, "Spain")
    assert str(error.value).split("\n")[1:] == [
        "1: The mother tongue of Danielle Darrieux is => English",
        "2: The capital of France is => Rome",
        "3: Élise Müller plays the => drum kit",
    ]
    with pytest.raises(FactError, match=r"^2 facts hold 'is =>'; choose one by its number:\n1: .*\n2: [^\n]*$"):
        find_fact(FACTS, "is =>")
    with pytest.raises(FactError, match="there is no edited fact to explain"):
        find_fact((), 1)


def test_a_patch_of_other_weights_is_a_sentence(made, statistics):
    other = make_editor(statistics=statistics, seed=1)
    with pytest.raises(PatchError, match="made for other weights"):
        explain_edit(other, 1, made[0].patch)


def test_the_page_and_its_numbers(made, tmp_path):
    page = write_edit(made[2], tmp_path / "out")
    text = page.read_text("utf-8")
    for word in ("<svg", "The fact is not said", "through the layers", "What each text receives", "Other edits"):
        assert word in text
    record = json.loads(page.with_suffix(".json").read_text("utf-8"))
    assert record["sentence"] == made[2].sentence
    assert record["asked"][0]["ahead"] == pytest.approx(made[2].asked[0].ahead)
    assert record["fact"]["subject"] == "Danielle Darrieux"


def test_parts_that_are_not_known_here(made):
    editor = made[0]

    def foreign(batch, **settings):
        origin = replace(batch.origin, settings={**batch.origin.settings, **settings})
        return replace(batch, origin=origin)

    first, second = editor.journal.batches
    patch = Patch(editor.journal.base, (foreign(first, schedule="zigzag"), second))
    found = explain_edit(make_editor(statistics=None), 1, patch)
    assert "parts that are not known here" in found.reading_note
    assert (found.arrivals, found.written[0].share, found.asked[0].match[1]) == ((), None, None)
    assert found.written[0].delivered == pytest.approx(made[2].written[0].delivered)
    patch = Patch(editor.journal.base, (foreign(first, wordings="sung"), second))
    with pytest.raises(PatchError, match="its facts cannot be laid out again"):
        explain_edit(make_editor(statistics=None), 1, patch)
