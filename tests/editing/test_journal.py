"""The history of an editor: states chained batch by batch, and patches that fit where they were made."""

import pytest
from editing_help import OTHER, edit, make_editor

from bluedit.errors import PatchError
from bluedit.model.fingerprint import chain, weights_fingerprint
from toys import FACTS


def test_states_are_chained_from_the_unedited_model(statistics):
    editor = make_editor(statistics=statistics)
    base = editor.journal.base.fingerprint
    assert base == weights_fingerprint(editor.model) == editor.journal.state
    edit(editor, FACTS, batch_size=1)
    edit(editor, OTHER[0], "memit")
    state = base
    for batch in editor.journal.batches:
        state = chain(state, batch.digest)
    assert editor.journal.state == editor.patch.state == state != base
    assert [len(entry.batches) for entry in editor.journal.entries] == [3, 1]
    assert editor.journal.entries[1].state == state
    first, second = (edit.patch for edit in editor.edits)
    assert (first.base.fingerprint, first.state) == (base, second.base.fingerprint)
    assert second.state == state
    editor.undo()
    assert editor.journal.state == first.state
    editor.undo()
    assert editor.journal.state == base
    editor.verify()


def test_a_state_depends_on_everything_that_the_weights_depend_on(statistics):
    editor = make_editor(statistics=statistics)
    states = [editor.journal.base.fingerprint]
    for recipe, facts, settings in (
        ("memit", FACTS[0], {}),
        ("memit", FACTS[1], {}),
        ("memit", FACTS[0], {"preserve.lambda": 2}),
        ("rect", FACTS[0], {}),
        ("rect", FACTS[0], {"filters.rect.keep": 0.41}),
    ):
        states.append(edit(editor, facts, recipe, settings=settings).patch.state)
        editor.undo()
    assert len(set(states)) == len(states)
    again = edit(editor, FACTS[0], "memit", report=True).patch
    assert again.state == states[1], "but not on a report, the time or the versions"


def test_the_same_edits_lead_to_the_same_state_however_they_were_made(statistics, tmp_path):
    live, fresh = (make_editor(statistics=statistics) for _ in range(2))
    first = edit(live, FACTS[0]).save(tmp_path / "first")
    second = edit(live, FACTS[1]).save(tmp_path / "second")
    with pytest.raises(PatchError, match=r"^the patch was made for other weights: "):
        fresh.apply(second)
    fresh.apply(first)
    with pytest.raises(
        PatchError, match=r"^this editor's model is edited already, and the patch was made for the unedited"
    ):
        fresh.apply(first)
    fresh.apply(second)
    assert fresh.journal.state == live.journal.state
    assert len(fresh.journal) == 2 and fresh.edits == ()


def test_an_edit_that_failed_is_not_in_the_journal(statistics):
    editor = make_editor(statistics=statistics)
    edit(editor, FACTS[0])
    state = editor.journal.state
    with pytest.raises(PatchError):
        editor.apply(make_editor(seed=1).patch)
    assert (editor.journal.state, len(editor.journal)) == (state, 1)
    assert editor.journal.place_of(editor.edits[0]) == 0
