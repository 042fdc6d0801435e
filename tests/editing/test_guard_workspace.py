"""A guard in a workspace: what it decided is in the history, also what it refused, and later entries are solved again under it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from editing_help import OTHER, SETTINGS, bits, edit, make_editor, same_bits

from bluedit import Workspace
from bluedit.errors import GuardError, WorkspaceError
from toys import FACTS, fitting


@pytest.fixture
def workspace(tmp_path, statistics):
    return Workspace.create(tmp_path / "w", make_editor(statistics=statistics))


def write(workspace, facts, recipe="memit-seq-blue", **options):
    settings = fitting(recipe, SETTINGS)
    return workspace.edit(facts, recipe, settings=settings, **({"known": "edit", "report": False} | options))


def reopened(workspace, statistics):
    return Workspace.open(workspace.folder, editor=make_editor(statistics=statistics))


def limit_of(facts, statistics, share):
    """A limit on the KL that an edit with these facts breaks."""
    editor = make_editor(statistics=statistics)
    edit(editor, facts, "memit-seq-blue")
    return f"kl={share * editor._baseline.passage_kl()}"


def test_a_softened_entry_is_kept_undone_and_brought_back_bit_for_bit(workspace, statistics):
    unedited = bits(workspace.editor.model)
    write(workspace, FACTS, guard=limit_of(FACTS, statistics, 0.4))
    softened = bits(workspace.editor.model)
    write(workspace, OTHER)
    both = bits(workspace.editor.model)
    again = reopened(workspace, statistics)
    assert same_bits(again.editor.model, both) and again.verify() == []
    again.undo()
    assert same_bits(again.editor.model, softened)
    again.undo()
    assert same_bits(again.editor.model, unedited)
    again.redo()
    again.redo()
    assert same_bits(again.editor.model, both)
    first, second = again.log()
    assert first.guard.startswith("softened to 0.") and second.guard == ""


def test_facts_that_were_left_out_are_not_the_entrys(workspace, statistics, monkeypatch):
    monkeypatch.setattr("bluedit.editing._guarded.MOST_LOSS", 100.0)  # toys converge badly

    class Poisoned:
        def get(self, lm, rows, site, objective, optimise):
            targets = optimise()
            if targets.z.shape[1] == 3:
                targets.z[:, 1] = float("nan")
            return targets

    workspace.editor._writer.__dict__["source"] = Poisoned()
    made = write(workspace, FACTS, skip_failed=True)
    (entry,) = workspace.log()
    assert entry.facts == made.facts == (FACTS[0], FACTS[2]) and entry.guard == "1 left out"
    assert reopened(workspace, statistics).log()[0].facts == made.facts


def test_what_is_refused_is_in_the_history_and_changes_nothing(workspace, statistics):
    write(workspace, OTHER)
    write(workspace, FACTS[0])
    workspace.undo()
    before = bits(workspace.editor.model)
    with pytest.raises(GuardError):
        write(workspace, FACTS, guard="kl=0.0001", on_violation="reject")
    assert same_bits(workspace.editor.model, before)
    event = workspace.events[-1]
    assert (event.kind, event.add, event.about["guard"]["asked"]["rules"]) == ("refused", (), {"kl": 0.0001})
    again = reopened(workspace, statistics)
    assert len(again.log()) == 2 and again.verify() == []
    again.redo()  # still what was undone before the refused edit
    assert [one.number for one in again.log() if one.standing] == [1, 2]
    write(again, FACTS[1])
    assert again.log()[-1].number == 3


def test_later_entries_are_solved_again_under_their_guard(workspace, statistics):
    write(workspace, OTHER)
    guard = limit_of(FACTS, statistics, 0.4)
    limit = float(guard.partition("=")[2])
    write(workspace, FACTS, guard=[f"kl={10 * limit}"])
    (record,) = [batch.guard for batch in workspace.entry_patch(2).batches]
    assert record["action"] == "kept"
    workspace.undo(1)
    (batch,) = workspace.entry_patch(2).batches
    assert batch.guard["asked"] == record["asked"] and batch.guard["action"] == "kept"
    plain = make_editor(statistics=statistics)
    edit(plain, FACTS, "memit-seq-blue")
    assert same_bits(workspace.editor.model, bits(plain.model))


def test_an_entry_that_its_guard_refuses_now_stops_the_undo(workspace, statistics, monkeypatch):
    write(workspace, OTHER)
    write(workspace, FACTS, guard="kl=9", on_violation="reject")
    before = bits(workspace.editor.model)
    monkeypatch.setattr(workspace.editor._baseline, "passage_kl", lambda: 10.0)
    with pytest.raises(
        WorkspaceError, match=r"^entry 2 cannot be written again: the guard refuses the edit: KL on ordinary text"
    ):
        workspace.undo(1)
    assert same_bits(workspace.editor.model, before)
    assert [one.number for one in workspace.log() if one.standing] == [1, 2]


def test_a_guard_survives_a_fact_that_is_written_again(workspace):
    write(workspace, FACTS, guard="kl=9")
    write(workspace, replace(FACTS[1], target="Berlin"), guard="kl=9")
    assert [one.guard for one in workspace.log()] == ["kept", "kept"]
