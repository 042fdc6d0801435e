"""Edits with a history: facts at the start of a text, written again, filtered, on top of others. Every number against the loop's own."""

from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch
from editing_help import Recorder, bits, edit, make_editor, same_bits, weight

from bluedit import Fact, Patch
from bluedit.errors import PatchError
from bluedit.evaluate.answers import score
from bluedit.explain.edit import Position, When, explain_edit
from bluedit.methods.filters import Filter
from toys import FACTS

# the toy tokenizer makes one token of "You", and puts none before a text
FIRST = Fact(
    "{} are in the", "You", "library", old_target="city", paraphrases=("Now you are in the", "You stay in the")
)
ABOUT = Fact("The library of {} is in", "France", "Berlin")


@pytest.fixture
def halved():
    """A filter for one test."""

    @dataclass(frozen=True)
    class Halved(Filter, kind="halved"):
        """As PRUNE, shows another sum than the one that later batches build on."""

        shown_only = True

        def apply(self, W0, before, total):
            return 0.5 * total

    yield
    del Filter.choices["halved"]


@pytest.fixture(scope="module")
def statistics(tmp_path_factory):
    return tmp_path_factory.mktemp("statistics")


def made(statistics, facts, recipe, *, batch_size=None, **settings):
    """An editor that carries these facts, and what the loop did."""
    recorder = Recorder()
    editor = make_editor(statistics=statistics, trace=recorder)
    edit(editor, facts, recipe, batch_size=batch_size, settings=settings)
    return editor, recorder


@pytest.fixture(scope="module")
def first(statistics):
    """A fact whose prompt starts with its subject, with another one."""
    editor, recorder = made(statistics, [FIRST, FACTS[0]], "memit-seq-blue")
    return editor, recorder, explain_edit(editor, 1)


def test_a_fact_at_the_start_of_its_text_has_two_positions(first):
    editor, recorder, found = first
    assert editor.journal.batches[0].updates[0].R.shape[1] == 3  # the fact, the other one, and the prompt's own column
    wanted = {(one.layer, one.position): one.wanted for one in found.arrivals}
    for layer in (1, 3):
        write = next(write for write in recorder.writes if write.step.target == layer)
        assert wanted[layer, Position.SUBJECT] == pytest.approx(float(write.missing[:, 0].norm()))
        assert wanted[layer, Position.NEXT] == pytest.approx(float(write.missing[:, 2].norm()))
    rounds = [one for one in found.written if one.position is Position.NEXT and one.residual]
    assert [one.layer for one in rounds] == [write.step.layer for write in recorder.writes if write.due[2]]
    assert [one.reach for one in rounds] == [
        pytest.approx(float(write.reach[2])) for write in recorder.writes if write.due[2]
    ]


def test_each_text_is_measured_against_the_residual_of_its_position(first):
    editor, _, found = first
    prompt, inside, start = found.asked
    assert [one.position for one in found.asked] == [Position.NEXT, Position.SUBJECT, Position.NEXT]
    updates = [update for update in editor.journal.batches[0].updates if update.layer == 1]
    key = updates[0].keys[:, 2]
    r = updates[0].R[:, 2]
    at_key = sum(float(r @ update.R @ (update.A @ key)) for update in updates) / float(r @ r)
    assert prompt.delivered[1] == pytest.approx(at_key, abs=1e-8)
    assert prompt.match[1] == pytest.approx(1.0)  # the bare prompt alone makes the key of its column
    assert prompt.token == editor.lm.tokenizer.decode(editor.lm.tokenizer(FIRST.text)["input_ids"][1]).strip()
    assert inside.match[1] != pytest.approx(1.0)
    assert start.received is not None
    for position in (Position.SUBJECT, Position.NEXT):
        parts = [one.part for one in found.written if one.position is position]
        assert sum(parts) == pytest.approx(1.0, abs=0.03)  # writes of less than 0.005 are left out
    assert [one.prompt for one in found.others] == [FACTS[0].text]
    assert [one.number for one in explain_edit(editor, 2).others] == [1]  # once, though it has two columns


def test_a_fact_that_is_held_is_explained_where_it_was_written_last(statistics):
    """The second fact about France writes the first one again, in a column that they share."""
    editor, recorder = made(statistics, [FACTS[1], FACTS[0], ABOUT], "memit-seq-blue", batch_size=2, subjects="unit")
    assert [fact.text for fact in editor.journal.batches[1].held] == [FACTS[1].text]
    found = explain_edit(editor, 1)
    assert (found.number, found.batch, found.batches, found.writings) == (1, 2, 2, (1, 2))
    last = next(write for write in recorder.writes if write.missing.shape[1] == 1)
    assert found.arrivals[0].wanted == pytest.approx(float(last.missing[:, 0].norm()))
    assert {(one.prompt, one.when) for one in found.others} == {(FACTS[0].text, When.EARLIER)}
    assert found.moved_by["later"] == 0
    assert found.moved_by["itself, earlier"] != 0
    other = explain_edit(editor, 2)
    assert (other.batch, other.writings) == (1, (1,))
    numbers = {(one.number, one.when) for one in other.others}
    assert numbers == {(1, When.SAME), (1, When.LATER), (3, When.LATER)}


def test_a_fact_that_is_taught_again_is_no_later_edit_of_itself(statistics):
    editor, _ = made(statistics, FACTS[:2], "memit-seq-blue", reteach=1)
    assert len(editor.journal.batches) == 2  # four steps teach the toy nothing
    for number in (1, 3):
        found = explain_edit(editor, number)
        assert (found.number, found.batch, found.writings) == (number, 2, (1, 2))
        assert {one.prompt for one in found.others} == {FACTS[1].text}
        assert found.sentence == explain_edit(editor, 1).sentence


@torch.no_grad()
@pytest.mark.parametrize(
    ("recipe", "settings"),
    [
        ("rect", {}),
        ("rect-seq", {"filters.rect.keep": 0.2}),
        ("prune", {"filters": "halved"}),
    ],
)
def test_filters_and_their_feedback_count(recipe, settings, statistics, halved):
    """The change of the fact's batch, and of those around it, are those of the weights as they were."""
    editor, recorder = made(statistics, FACTS, recipe, batch_size=1, **settings)
    batches = editor.journal.batches
    found = explain_edit(editor, 2)
    weights = []  # layer 2 without edits and after each batch
    for count in range(4):
        other = make_editor(statistics=None)
        if count:
            other.apply(Patch(editor.journal.base, batches[:count]))
        weights.append(weight(other, 2))
    write = next(write for write in recorder.writes[len(recorder.writes) // 3 :] if write.step.layer == 2)
    r, key = write.residual[:, 0], batches[1].updates[1].keys[:, 0]
    along = [float(r @ (after - before) @ key / (r @ r)) for before, after in pairwise(weights)]
    written = next(one for one in found.written if one.layer == 2)
    assert written.residual == pytest.approx(float(r.norm()))
    assert written.reach == pytest.approx(float(write.reach[0]))
    assert written.delivered == pytest.approx(along[1], abs=1e-8)
    assert abs(written.delivered - written.reach) > 1e-3
    assert found.filters is not None and abs(found.filters) > 1e-3
    assert sum(one.part for one in found.written) + found.filters == pytest.approx(1.0)
    first = next(write for write in recorder.writes[len(recorder.writes) // 3 :] if write.step.target == 3)
    assert found.arrivals[0].wanted == pytest.approx(float(first.missing[:, 0].norm()))
    assert "Filters changed the weights" in found.reading_note
    assert_all_is_accounted_for(found, editor, batches, recorder)


def assert_all_is_accounted_for(found, editor, batches, recorder):
    """What others add, what filters did and what the fact's own column added make up the whole change at its key."""
    per_batch = len(recorder.writes) // 3
    own = recorder.writes[per_batch : 2 * per_batch]
    whole = sum(float(w.residual[:, 0] @ w.residual[:, 0]) for w in own)
    total = mine = 0.0
    for write, update in zip(own, batches[1].updates, strict=True):
        r, key, layer = write.residual[:, 0], update.keys[:, 0], update.layer
        with editor.unedited():
            before = weight(editor, layer)
        total += float(r @ (weight(editor, layer) - before) @ key) / whole
        mine += float(r @ update.R @ (update.A @ key)) / whole
    assert sum(found.moved_by.values()) + mine == pytest.approx(total, abs=1e-8)


def test_a_patch_on_top_of_edits_is_numbered_by_itself(statistics):
    editor, _ = made(statistics, FACTS[:2], "memit-seq-blue")
    state = {name: value.clone() for name, value in editor.model.state_dict().items()}
    second = edit(editor, [FACTS[2], ABOUT], "memit-seq-blue").patch
    whole = explain_edit(editor, 3)
    editor.undo()
    assert all(torch.equal(value, state[name]) for name, value in editor.model.state_dict().items())
    found = explain_edit(editor, 1, second)
    assert (found.number, found.batch, found.batches) == (1, 1, 1)
    assert found.fact == FACTS[2]
    assert {(one.prompt, one.number) for one in found.others} == {
        *((fact.text, None) for fact in FACTS[:2]),
        (ABOUT.text, 2),
    }
    assert found.arrivals == whole.arrivals
    assert found.asked[0].target_after == pytest.approx(whole.asked[0].target_after)
    with pytest.raises(PatchError, match="made for other weights"):
        explain_edit(make_editor(statistics=statistics), 1, second)
    forced = explain_edit(make_editor(statistics=statistics), 1, second, force=True)
    assert forced.batches == 1


def test_explaining_leaves_an_editor_as_it_was(statistics):
    """Its last edit is undone from its own snapshot, also after a foreign patch was explained with it."""
    patch = made(statistics, [ABOUT], "memit-seq-blue")[0].patch
    editor = make_editor(statistics=statistics)
    unedited = bits(editor.model)
    edit(editor, FACTS[:2], "memit-seq-blue")
    edited, entries = bits(editor.model), editor.journal.entries
    assert (
        explain_edit(editor, 1, patch).fact == ABOUT
    )  # it stands on the unedited weights, whatever the editor carries
    explain_edit(editor, 1)
    assert same_bits(editor.model, edited)
    assert editor.journal.entries == entries
    assert editor.journal.entries[-1].snapshot is not None
    editor.verify()
    editor.undo()
    assert same_bits(editor.model, unedited)


def test_the_old_answer_is_joined_as_the_new_one_is(statistics):
    fact = replace(FACTS[1], prompt="The capital of {} is (", joined=True, target="Rome)", old_target="(Paris)")
    editor, _ = made(statistics, [fact], "memit-seq-blue")
    prompt = explain_edit(editor, 1).asked[0]
    (joined,) = score(editor.lm, [(fact.text, "(Paris)", True)])
    assert prompt.rival_after == pytest.approx(joined.logprob)
