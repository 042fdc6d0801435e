"""A workspace: every edit is kept, taken back and brought back bit for bit, and said to be superseded when it is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from editing_help import OTHER, SETTINGS, bits, edit, make_editor, same_bits

from bluedit import Editor, Fact, Patch, Workspace
from bluedit.editing import workspace as workspace_module
from bluedit.errors import FactError, GuardError, RecipeError, StatisticsError, WorkspaceError
from toys import FACTS, corpus_in, files_in, fitting


@pytest.fixture
def workspace(tmp_path, statistics):
    return Workspace.create(tmp_path / "w", make_editor(statistics=statistics))


def write(workspace, facts, recipe="alphaedit-blue", **options):
    settings = fitting(recipe, SETTINGS | options.pop("settings", {}))
    return workspace.edit(facts, recipe, settings=settings, **({"known": "edit", "report": False} | options))


def reopened(workspace, statistics):
    return Workspace.open(workspace.folder, editor=make_editor(statistics=statistics))


def numbers(workspace):
    return [entry.number for entry in workspace.log() if entry.standing]


# there and back


def test_a_reopened_workspace_has_the_same_bits_and_goes_on_alike(workspace, statistics):
    plain = make_editor(statistics=statistics)
    write(workspace, FACTS[0])
    edit(plain, FACTS[0])
    assert same_bits(workspace.editor.model, bits(plain.model))
    again = reopened(workspace, statistics)
    assert again.editor.journal.state == plain.journal.state
    assert same_bits(again.editor.model, bits(plain.model))
    write(again, FACTS[1])
    edit(plain, FACTS[1])
    assert same_bits(again.editor.model, bits(plain.model)), "memory and norms of earlier entries count"
    assert again.patch.state == plain.patch.state
    assert again.verify() == []


def test_the_newest_is_taken_back_and_brought_back_bit_for_bit(workspace, statistics):
    states = [bits(workspace.editor.model)]
    for fact in FACTS:
        write(workspace, fact)
        states.append(bits(workspace.editor.model))
    for left in (2, 1, 0):
        assert workspace.undo() == []
        assert same_bits(workspace.editor.model, states[left])
        assert same_bits(reopened(workspace, statistics).editor.model, states[left])
    with pytest.raises(WorkspaceError, match="nothing to undo"):
        workspace.undo()
    for left in (1, 2, 3):
        workspace.redo()
        assert same_bits(workspace.editor.model, states[left])
    with pytest.raises(WorkspaceError, match="nothing to redo"):
        workspace.redo()
    assert workspace.verify() == []


def test_an_older_one_is_taken_back_as_if_it_had_never_been(workspace, statistics):
    for fact in FACTS:
        write(workspace, fact)
    before = bits(workspace.editor.model)
    done = workspace.undo(1)
    assert [edit.facts[0].subject for edit in done] == ["France", "Élise Müller"]
    plain = make_editor(statistics=statistics)
    for fact in FACTS[1:]:
        edit(plain, fact)
    assert same_bits(workspace.editor.model, bits(plain.model))
    assert numbers(workspace) == [2, 3]
    assert workspace.verify() == []
    workspace.redo()
    assert same_bits(workspace.editor.model, before) and numbers(workspace) == [1, 2, 3]
    with pytest.raises(WorkspaceError, match=r"^entry 7 is not a standing entry\. Standing entries: 1, 2, 3$"):
        workspace.undo(7)


def test_an_edit_in_several_batches_with_its_own_recipe_is_solved_again_alike(workspace, statistics):
    write(workspace, FACTS[0])
    write(workspace, [*FACTS[1:], *OTHER], "memit-seq-blue", batch_size=2)
    workspace.undo(1)
    plain = make_editor(statistics=statistics)
    edit(plain, [*FACTS[1:], *OTHER], "memit-seq-blue", batch_size=2)
    assert same_bits(workspace.editor.model, bits(plain.model))


def test_what_a_workspace_cannot_work_with_is_found_when_it_is_made(tmp_path, statistics):
    model = make_editor(statistics=statistics).lm
    for options, text in (
        ({"corpus": str(tmp_path / "gone.txt")}, "there is no corpus"),
        ({"tokens": -5}, "tokens is -5"),
    ):
        with pytest.raises(StatisticsError, match=text):
            Workspace.create(tmp_path / "w", Editor(model, **options))
    assert not (tmp_path / "w").exists()


def test_a_corpus_by_a_relative_name_is_found_from_elsewhere(tmp_path, statistics, monkeypatch):
    monkeypatch.chdir(corpus_in(tmp_path).parent)
    name = corpus_in(tmp_path).name
    made = Workspace.create(tmp_path / "w", Editor(make_editor(statistics=statistics).lm, corpus=name, tokens=400))
    assert made._store.about["corpus"] == str(tmp_path / name)


def test_names_and_events_are_points_to_go_to(workspace):
    start = bits(workspace.editor.model)
    write(workspace, FACTS[0])
    workspace.tag("one")
    first = bits(workspace.editor.model)
    write(workspace, FACTS[1])
    last = bits(workspace.editor.model)
    workspace.checkout("one")
    assert same_bits(workspace.editor.model, first)
    workspace.checkout(3)
    assert same_bits(workspace.editor.model, last)
    workspace.checkout(0)
    assert same_bits(workspace.editor.model, start)
    workspace.checkout("3")
    write(workspace, FACTS[2])
    assert numbers(workspace) == [1, 2, 3]
    found = workspace.diff("one")
    assert [entry.number for entry in found.added] == [2, 3] and not found.removed
    assert set(found.norms) == {1, 3} and all(norm > 0 for norm in found.norms.values())
    for name in ("7", "", "a b", "../x"):
        with pytest.raises(WorkspaceError, match="is not a valid name"):
            workspace.tag(name)
    with pytest.raises(WorkspaceError, match="the name 'one' is taken by event 2"):
        workspace.tag("one")
    with pytest.raises(WorkspaceError, match="event numbers go from 0 to 8, and names are: one"):
        workspace.checkout("on")


# facts that are written again


STRONG = {
    "layers": [1, 3],
    "objective.steps": 40,
    "objective.learning_rate": 0.2,
    "objective.clamp": 50.0,
    "preserve.lambda": 1e-3,
}
WORDS = ("French", "Paris", "the", "in", "is")  # one token each
CAPITAL = Fact("The capital of {}", subject="France", target="French")


@pytest.mark.parametrize("recipe", ["memit-seq-blue", "natural-blue"])
def test_a_fact_that_changes_five_times_says_the_fifth(recipe, workspace):
    reach = []
    for number, target in enumerate(WORDS, 1):
        done = write(workspace, replace(CAPITAL, target=target), recipe, settings=STRONG, phrasings=False)
        reach.append(min(update.mean_reach for update in done.patch.batches[0].updates))
        ((entry, (found,)),) = [(n, f) for n, f in workspace.health().items() if f]
        assert (entry, found.fact.target) == (number, target)
    assert found.margin > 0
    assert min(reach) > 0.99, "no value is held to the one before it"
    assert workspace.events[-1].about["supersedes"] == [{"entry": 4, "prompt": CAPITAL.text, "was": "in"}]
    assert [[by for _, by in entry.replaced] for entry in workspace.log()] == [[5], [5], [5], [5], []]
    assert [entry.number for entry in workspace.find("the france's")] == [1, 2, 3, 4, 5]
    write(workspace, replace(CAPITAL, target="in", phrasings=["The {Gallic} capital"]), recipe, settings=STRONG)
    assert [entry.number for entry in workspace.find("Gallic")] == [6]
    with pytest.raises(WorkspaceError, match="no entry is about 'Frence'; did you mean 'France'"):
        workspace.find("Frence")


def test_a_correction_in_other_words_supersedes_the_earlier_entry(workspace):
    write(workspace, replace(CAPITAL, target="in", phrasings=("{}'s capital is",)), settings=STRONG)
    write(workspace, Fact("{}'s capital is", subject=CAPITAL.subject, target="the"), settings=STRONG)
    assert workspace.events[-1].about["supersedes"] == [
        {"entry": 1, "prompt": f"{CAPITAL.subject}'s capital is", "was": "in"}
    ]
    assert [[by for _, by in entry.replaced] for entry in workspace.log()] == [[2], []]
    assert {number: len(facts) for number, facts in workspace.health().items()} == {1: 0, 2: 1}


def test_what_was_eroded_is_written_again(workspace, monkeypatch):
    write(workspace, FACTS[0], "memit-seq-blue")
    write(workspace, FACTS[1:], "memit")
    write(workspace, replace(FACTS[2], target="violin", old_target=None), "memit")
    lost = {FACTS[0].text, FACTS[1].text}
    ask = workspace_module.fact_health
    monkeypatch.setattr(
        workspace_module,
        "fact_health",
        lambda *given: [replace(found, said=found.fact.text not in lost) for found in ask(*given)],
    )
    assert {n: [f.said for f in found] for n, found in workspace.health().items()} == {
        1: [False],
        2: [False],
        3: [True],
    }
    done = workspace.heal(report=False)
    assert [(edit.recipe.name, [fact.text for fact in edit.facts]) for edit in done] == [
        ("memit-seq-blue", [FACTS[0].text]),
        ("memit", [FACTS[1].text]),
    ]
    assert [event.kind for event in workspace.events] == ["edit", "edit", "edit", "heal", "heal"]
    assert workspace.events[-1].about["supersedes"][0]["entry"] == 2
    lost.clear()
    assert workspace.heal() == []


def test_healing_is_guarded(workspace, monkeypatch):
    """The first entry passes, the second is refused: the first stays, and the message says so."""
    write(workspace, FACTS[0], "memit-seq-blue")
    write(workspace, FACTS[1], "memit")
    ask = workspace_module.fact_health
    monkeypatch.setattr(
        workspace_module, "fact_health", lambda *given: [replace(one, said=False) for one in ask(*given)]
    )
    with pytest.raises(RecipeError, match="guard has no rule 'nrm'"):
        workspace.heal(guard="nrm")
    with pytest.raises(FactError, match="is to be changed and protected"):
        workspace.heal(report=False, protect=FACTS[0])
    before = bits(workspace.editor.model)
    with pytest.raises(GuardError, match=r"^the guard refuses the edit: KL on ordinary text"):
        workspace.heal(report=False, guard="kl=0", on_violation="reject")
    assert same_bits(workspace.editor.model, before)
    grown = iter([0.0, 0.1, 0.1, 0.9])  # before and after the first entry, before and after the second
    monkeypatch.setattr(workspace.editor._baseline, "passage_kl", lambda: next(grown))
    with pytest.raises(GuardError, match=r"KL .* 0\.9.*\. Entries that were healed before it stay: 3$"):
        workspace.heal(report=False, guard="kl=0.5", on_violation="reject")
    assert [event.kind for event in workspace.events] == ["edit", "edit", "refused", "heal", "refused"]
    healed = workspace.log()[-1]
    assert (healed.number, healed.guard, numbers(workspace)) == (3, "kept", [1, 2, 3])


# refusals


def test_a_failed_edit_leaves_nothing(workspace, statistics):
    write(workspace, FACTS[0])
    before, files = bits(workspace.editor.model), files_in(workspace.folder)
    with pytest.raises(FactError):
        write(workspace, [FACTS[1], replace(FACTS[1], target="Berlin")])
    assert same_bits(workspace.editor.model, before) and files_in(workspace.folder) == files


def test_undo_of_an_edit_object_goes_through_the_workspace(workspace):
    done = write(workspace, FACTS[0])
    write(workspace, FACTS[1])
    done.undo()
    assert numbers(workspace) == [2]


def test_an_editor_that_was_used_directly_is_noticed(workspace):
    write(workspace, FACTS[0])
    done = edit(workspace.editor, FACTS[1])
    state = bits(workspace._changes.carrier.editor.model)
    for act in (lambda: write(workspace, FACTS[2]), workspace.undo, lambda: workspace.editor):
        with pytest.raises(WorkspaceError, match="was used directly"):
            act()
    assert same_bits(done and workspace._changes.carrier.editor.model, state)
    done.undo()
    write(workspace, FACTS[2])


def test_another_model_is_refused(workspace, tmp_path):
    with pytest.raises(WorkspaceError, match="has changed since, or it is another one"):
        Workspace.open(workspace.folder, editor=make_editor(seed=1))
    with pytest.raises(WorkspaceError, match="is a workspace already"):
        Workspace.create(workspace.folder, make_editor())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    with pytest.raises(WorkspaceError, match="exists and is not empty"):
        Workspace.create(tmp_path / "full", make_editor())
    with pytest.raises(WorkspaceError, match="is not a workspace"):
        Workspace.open(tmp_path / "full")
    edited = make_editor()
    edit(edited, FACTS[0])
    with pytest.raises(WorkspaceError, match="has edits already"):
        Workspace.create(tmp_path / "new", edited)


def test_its_patch_needs_no_model(workspace, tmp_path):
    write(workspace, FACTS[0])
    saved = Workspace.open(workspace.folder).patch.save(tmp_path / "p")
    plain = make_editor()
    plain.apply(Patch.load(saved))
    assert same_bits(plain.model, bits(workspace.editor.model))
