"""Facts that stand in each other's way: by their texts, by their keys, and against what is edited already."""

import json
from dataclasses import replace

import pytest
import torch
from editing_help import edit, make_editor, moments_of

from bluedit import Fact, Patch
from bluedit.errors import FactError, PatchError
from bluedit.evaluate.asked import Reply, Way, ask_facts
from bluedit.evaluate.respondents import LiveRespondent
from bluedit.explain._conflict_data import Kind, Source, entries_of
from bluedit.explain._conflict_keys import _keys, _parallel
from bluedit.explain._edit_sentence import shortened
from bluedit.explain.conflicts import ADVICE, KINDS, find_conflicts
from bluedit.writing.batch import Batch, Origin
from bluedit.writing.keys import batch_rows, read_keys
from toys import FACTS

CAPITAL = Fact("The capital of {} is", "France", "Rome")
SEAT = Fact("{}'s capital city is", "France", "Berlin")
LANGUAGE = Fact("The official language of {} is", "france", "German")


def kinds(found):
    return {kind: count for kind, count in found.counts.items()}  # noqa: C416


def patch_of(*batches, said=True):
    """A patch without weights, whose report says whether its facts are said."""
    report = {"facts": [{"prompt": f.text, "target": f.target, "says_after": said} for b in batches for f in b]}
    return Patch(batches=tuple(Batch(tuple(facts), (), origin=Origin("memit", report=report)) for facts in batches))


def test_the_kinds_each_have_an_advice():
    assert set(KINDS) == set(ADVICE)


def test_facts_that_get_on_with_each_other():
    found = find_conflicts(FACTS)
    assert (found.facts, found.found) == (3, ())
    assert "keys were not compared" in found.notes[0]


def test_one_prompt_with_two_targets_and_the_same_fact_twice():
    found = find_conflicts([CAPITAL, replace(CAPITAL, target="Berlin"), replace(CAPITAL, target="Berlin ")])
    assert kinds(found) == {"contradiction": 1, "repeated": 1}
    first, second = found.found
    assert [(f.source, f.number, f.target) for f in first.facts] == [("facts 1", 1, "Rome"), ("facts 1", 2, "Berlin")]
    assert first.why == "both answer 'The capital of France is', with 'Rome' and 'Berlin'"
    assert second.why == "the fact is given twice"


def test_one_relation_in_two_wordings():
    found = find_conflicts([CAPITAL], [SEAT])
    assert kinds(found) == {"contradiction": 1}  # that they are about one subject goes without saying
    assert found.found[0].why == "both give the capital of 'France', with 'Rome' and 'Berlin'"
    assert [f.source for f in found.found[0].facts] == ["facts 1", "facts 2"]
    (found,) = find_conflicts([CAPITAL, replace(SEAT, target="Rome"), FACTS[0]]).found
    assert (found.kind, found.why) == ("repeated", "the fact is given twice, in other words")


def test_a_phrasing_that_contradicts():
    other = Fact("I think {} has the capital", "France", "Oslo", phrasings=("The capital of {} is",))
    assert "contradiction" in kinds(find_conflicts([CAPITAL, other]))


def test_one_subject_in_several_forms():
    (found,) = find_conflicts([CAPITAL, LANGUAGE, *FACTS[::2]]).found
    assert (found.kind, [f.number for f in found.facts]) == ("same subject", [1, 2])
    assert "subjects=unit" in found.advice


def test_edits_that_a_later_fact_overwrites():
    patch = patch_of([CAPITAL], [FACTS[0]])
    found = find_conflicts([SEAT], patch)  # patches come first, in whatever order they are given
    assert kinds(found) == {"overwritten": 1}
    assert [(f.source, f.number) for f in found.found[0].facts] == [("patch 2", 1), ("facts 1", 1)]
    assert kinds(find_conflicts(patch, [CAPITAL])) == {"repeated": 1}
    assert kinds(find_conflicts([SEAT], patch, [LANGUAGE])) == {"overwritten": 1, "same subject": 1}
    assert kinds(find_conflicts(patch_of([CAPITAL], [CAPITAL]))) == {}  # taught again by the recipe


def test_edits_that_a_later_edit_has_overwritten():
    (found,) = find_conflicts(patch_of([CAPITAL], [SEAT])).found
    assert (found.kind, [f.number for f in found.facts]) == ("replaced", [1, 2])
    assert found.advice.startswith("nothing, if the later one is meant")
    assert kinds(find_conflicts(patch_of([CAPITAL]), patch_of([SEAT]))) == {"replaced": 1}
    missed = patch_of([CAPITAL], [SEAT], said=False)
    assert kinds(find_conflicts(missed)) == {"replaced": 1, "unsaid": 1}  # the replaced one need not be said
    assert kinds(find_conflicts(patch_of([CAPITAL, SEAT]))) == {"contradiction": 1}  # one batch


def test_a_patch_that_another_one_begins_with_is_left_out():
    first, whole = patch_of([CAPITAL], said=False), patch_of([CAPITAL], [LANGUAGE])
    for given in ((first, whole), (whole, first)):
        found = find_conflicts(*given)
        assert (found.facts, kinds(found)) == (2, {"same subject": 1})
        assert found.notes[0].endswith("which is left out") and len(found.notes) == 2
    twice = find_conflicts(first, first)
    assert (twice.facts, kinds(twice)) == (1, {"unsaid": 1})
    assert find_conflicts(patch_of([CAPITAL]), patch_of([LANGUAGE])).facts == 2


def test_edits_that_were_written_as_one():
    """With subjects=unit facts about one subject share a target, also with those of earlier batches."""
    patch = patch_of([CAPITAL], [LANGUAGE])
    unit = Origin("natural-joint", settings={"subjects": "unit"})
    held = Patch(batches=tuple(replace(batch, origin=unit) for batch in patch.batches))
    assert find_conflicts(held).found == ()
    assert kinds(find_conflicts(held, [replace(LANGUAGE, prompt="{} is near", target="Spain")])) == {"same subject": 1}


def test_edits_that_were_not_said():
    found = find_conflicts(patch_of(FACTS[:1], FACTS[1:], said=False))
    assert kinds(found) == {"unsaid": 3}
    assert [f.facts[0].number for f in found.found] == [1, 2, 3]
    assert "bluedit explain edit" in found.found[0].advice
    again = patch_of(FACTS[:1], FACTS[:1], said=False)
    assert [f.facts[0].number for f in find_conflicts(again).found] == [2]  # the latest counts


def test_cosines_in_a_metric():
    """Hand-checked: in G = diag(1, 9) the keys (1, 0) and (1, 1/3) have the cosine 1 / sqrt 2."""

    class Metric:
        def apply(self, K):
            return torch.tensor([[1.0], [9.0]], dtype=torch.float64) * K

    keys = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 1 / 3, 1.0, 0.0]], dtype=torch.float64)
    found = {(i, j): cosine for i, j, cosine in _parallel(keys, Metric(), 0.5)}
    assert found == {(0, 1): pytest.approx(2**-0.5), (1, 2): pytest.approx(2**-0.5)}
    plain = {(i, j): cosine for i, j, cosine in _parallel(keys, None, 0.5)}
    assert plain == {(0, 1): pytest.approx(3 / 10**0.5)}


@pytest.fixture(scope="module")
def statistics(tmp_path_factory):
    return tmp_path_factory.mktemp("statistics")


def test_keys_of_a_model(statistics):
    """A key sees what stands up to the subject's last token: the first two facts have the same, the third another one."""
    facts = [
        Fact("The capital of {} is", "France", "Rome"),
        Fact("The capital {} was", "of France", "Berlin"),
        FACTS[0],
    ]
    editor = make_editor(statistics=statistics)
    recipe = editor.recipe("memit", {"layers": [1, 2], "contexts.count": 1, "preserve.lambda": 1})
    before = {name: value.clone() for name, value in editor.model.state_dict().items()}
    plain = find_conflicts(facts, editor=editor, recipe=recipe)
    assert "no key statistics of layers 1, 2 yet" in plain.notes[0]
    moments_of(editor, [1, 2], statistics)
    whitened = find_conflicts(facts, editor=editor, recipe=recipe)
    assert "cosines are whitened" in whitened.notes[0]
    for found in (plain, whitened):
        (one,) = found.found
        assert (one.kind, [f.number for f in one.facts], one.match) == ("parallel keys", [1, 2], pytest.approx(1.0))
    assert all(torch.equal(value, before[name]) for name, value in editor.model.state_dict().items())


def test_identical_keys_are_parallel(statistics):
    """Facts whose prompts are the same up to the subject's end differ in nothing that a key sees."""
    same = [Fact("{} is made in", "London", "Berlin"), Fact("{} plays the", "London", "violin")]
    editor = make_editor(statistics=statistics, bos=True)
    recipe = editor.recipe("memit", {"layers": [1], "contexts.count": 1, "preserve.lambda": 1})
    (found,) = find_conflicts(same, editor=editor, recipe=recipe).found
    assert (found.kind, found.layer) == ("same subject", 1)
    assert found.match == pytest.approx(1.0)
    moments_of(editor, [1], statistics)
    (whitened,) = find_conflicts(same, editor=editor, recipe=recipe).found
    assert whitened.match == pytest.approx(1.0)


def test_the_model_is_asked_with_the_patch_and_left_as_it_was(statistics):
    made = make_editor(statistics=statistics)
    edit(made, FACTS[:2], "memit")
    editor = make_editor(statistics=statistics)
    found = find_conflicts(made.patch, editor=editor)
    assert kinds(found) == {"unsaid": 2}  # four steps on random weights teach nothing
    assert not len(editor.journal)
    editor.verify()
    with pytest.raises(PatchError, match="made for other weights"):
        find_conflicts(made.patch, editor=make_editor(statistics=statistics, seed=1))


def test_a_patch_that_stands_on_another_or_on_edits(statistics):
    editor = make_editor(statistics=statistics)
    edit(editor, FACTS[:1], "memit")
    first = editor.patch
    second = edit(editor, FACTS[1:2], "memit").patch
    snapshot, state = editor.journal.entries[-1].snapshot, editor.journal.state
    fresh = make_editor(statistics=statistics)
    both = find_conflicts(second, first, editor=fresh)
    assert [one.facts[0].source for one in both.found] == ["patch 1", "patch 2"]
    assert kinds(find_conflicts(second, first, editor=editor)) == {"unsaid": 2}
    assert (editor.journal.entries[-1].snapshot, editor.journal.state) == (snapshot, state)
    editor.verify()
    with pytest.raises(PatchError, match="made for other weights"):
        find_conflicts(second, editor=fresh)
    assert kinds(find_conflicts(second, editor=fresh, force=True)) == {"unsaid": 1}


def test_what_the_model_says_instead_is_said_as_everywhere(statistics, monkeypatch):
    """A long target counts as said if the model writes it, not if it would choose each of its tokens."""
    editor = make_editor(statistics=statistics)
    edit(editor, FACTS[:1], "memit")
    (found,) = find_conflicts(editor.patch, editor=editor).found
    (reply,) = ask_facts(LiveRespondent(editor.lm), FACTS[:1], only_prompts=True)[0]
    assert found.why == f"the model with this patch writes {shortened(reply.text)}"
    monkeypatch.setattr(Way, "reply", lambda way, text: Reply(way.form, way.prompt, text, said=True))
    assert find_conflicts(editor.patch, editor=editor).found == ()


def test_edits_are_compared_in_the_wordings_they_were_written_in(statistics):
    """The recipe of a later comparison does not teach an edit's phrasings after the fact."""
    fact = Fact("The capital of {} is", "France", "Rome")
    made = make_editor(statistics=statistics)
    edit(made, [fact], "memit")
    editor = make_editor(statistics=statistics)
    recipe = editor.recipe("memit", {"layers": [1], "contexts.count": 1, "preserve.lambda": 1, "wordings": "natural"})
    entries = entries_of([Source.of(made.patch), Source.of([fact])])
    keys, owners = _keys(editor, entries, recipe, [1])
    assert owners == [0, 1]
    batch = made.patch.batches[0]
    with editor.unedited():
        rows = batch_rows(editor.lm.tokenizer, [fact], batch.origin.prefixes, made.edits[0].recipe).rows
        stored = read_keys(editor.lm, rows, [1], 1)[1]
    assert torch.allclose(keys[1][:, 0], stored[:, 0])
    assert not torch.allclose(keys[1][:, 1], stored[:, 0])


def test_facts_at_the_start_of_their_texts_are_compared_where_they_are_written(statistics):
    """Behind "You" as the first token both prompts are read at the token after it, and there they are the same."""
    facts = [Fact("{} are in the", "You", "library"), Fact("{} are of", "You", "Rome"), FACTS[0]]
    editor = make_editor(statistics=statistics)
    recipe = editor.recipe("memit", {"layers": [1], "contexts.count": 1, "preserve.lambda": 1})
    keys, owners = _keys(editor, entries_of([Source.of(facts)]), recipe, [1])
    assert owners == [0, 1, 2, 0, 1]
    assert torch.allclose(keys[1][:, 3], keys[1][:, 4])
    (found,) = (o for o in find_conflicts(facts, editor=editor, recipe=recipe).found if o.kind is Kind.SAME_SUBJECT)
    assert [f.number for f in found.facts] == [1, 2]
    assert found.why == "all are about 'You' (cosine of keys 1.00 at layer 1)"


def test_files_are_read_as_asked(tmp_path):
    source = Source.of("anything", read=lambda name: [CAPITAL] if name == "anything" else [])
    assert (source.name, source.facts, source.patch) == ("anything", (CAPITAL,), None)


def test_no_facts():
    with pytest.raises(FactError, match="no facts to compare"):
        find_conflicts()


def test_json():
    record = json.loads(json.dumps(find_conflicts([CAPITAL, SEAT]).as_dict()))
    assert record["counts"] == {"contradiction": 1}
    assert record["found"][0]["facts"][0] == {
        "source": "facts 1",
        "number": 1,
        "prompt": "The capital of France is",
        "target": "Rome",
    }
