"""Facts that stand in each other's way: by their texts, by their keys, and against what is edited already."""

import json
from dataclasses import replace

import pytest
import torch
from editing_help import edit, make_editor, moments_of

from bluedit import Fact, Patch
from bluedit.errors import FactError, PatchError
from bluedit.explain._conflict_keys import _parallel
from bluedit.explain.conflicts import ADVICE, KINDS, find_conflicts
from bluedit.writing.batch import Batch, Origin
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
    assert kinds(found)["contradiction"] == 1
    assert found.found[0].why == "both give the capital of 'France', with 'Rome' and 'Berlin'"
    assert [f.source for f in found.found[0].facts] == ["facts 1", "facts 2"]
    assert kinds(find_conflicts([CAPITAL, replace(SEAT, target="Rome")])) == {"same subject": 1}


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
    assert kinds(found) == {"overwritten": 1, "same subject": 1}
    assert [(f.source, f.number) for f in found.found[0].facts] == [("patch 2", 1), ("facts 1", 1)]
    assert kinds(find_conflicts(patch, [CAPITAL])) == {"repeated": 1}
    assert kinds(find_conflicts(patch_of([CAPITAL], [SEAT])))["overwritten"] == 1
    assert kinds(find_conflicts(patch_of([CAPITAL], [CAPITAL]))) == {}  # taught again by the recipe


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
    assert "no key statistics of layer 1, 2 yet" in plain.notes[0]
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


def test_no_facts():
    with pytest.raises(FactError, match="no facts to compare"):
        find_conflicts()


def test_json():
    record = json.loads(json.dumps(find_conflicts([CAPITAL, SEAT]).as_dict()))
    assert record["counts"] == {"contradiction": 1, "same subject": 1}
    assert record["found"][0]["facts"][0] == {
        "source": "facts 1",
        "number": 1,
        "prompt": "The capital of France is",
        "target": "Rome",
    }
