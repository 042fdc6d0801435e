"""Facts that are taught again are written only as strongly as it takes to say as many of their texts."""

import pytest
import torch
from editing_help import bits, edit, make_editor, same_bits

from bluedit import Fact
from bluedit.writing import edit_run
from bluedit.writing.writer import FactWriter

FIRST = Fact("We all live in {}", subject="France", target="The")
SECOND = Fact("The library of {} is in", subject="London", target="The")
FACTS = [FIRST, SECOND]
SETTINGS = {"reteach": 1, "subjects": "unit"}


@pytest.fixture(autouse=True)
def lost(monkeypatch):
    """Both facts are taught again."""
    monkeypatch.setattr(FactWriter, "_lost", lambda self, recipe, batches: FACTS)


def says(monkeypatch, answers):
    """Answers to how many texts of each fact are said, in turn: in full, at 3/4, 1/2 and 1/4, as chosen, and as raised from there.

    A fact that needs the strength before is not asked at the next one; where none is left, a strength is not tried.
    """
    left, every = iter(answers), []

    def said(_lm, texts):
        every.extend(texts if not every else ())
        answer = next(left)
        return [answer[every.index(text)] for text in texts]

    monkeypatch.setattr(edit_run, "said_texts", said)


def taught(statistics, recipe="memit-seq-blue", **settings):
    """An edited editor, and the updates of facts that were taught again."""
    editor = make_editor(statistics=statistics)
    edit(editor, FACTS, recipe, settings=SETTINGS | settings)
    return editor, editor.patch.batches[1].updates


FULL = [[5, 5], [0, 0], [5, 5]]


@pytest.fixture
def in_full(statistics, monkeypatch):
    """What is written when nothing less says as much."""
    with monkeypatch.context() as patch:
        says(patch, FULL)
        return taught(statistics)


@pytest.mark.parametrize(
    ("answers", "strengths"),
    [
        ([[5, 5], [5, 5], [5, 5], [5, 5], [5, 5]], [0.25, 0.25]),
        ([[5, 5], [5, 6], [5, 4], [4, 5], [5, 5]], [0.5, 0.75]),
        ([[5, 5], [4, 5], [5, 5], [5, 4], [5, 5]], [1.0, 0.5]),
        ([[0, 5], [0, 5], [0, 5], [0, 4], [0, 6]], [0.25, 0.5]),
        ([[5, 5], [5, 5], [5, 5], [5, 4], [5, 4], [4, 4], [6, 4]], [0.5, 1.0]),
        ([[5, 5], [4, 5], [5, 5], [5, 5], [4, 5]], [1.0, 1.0]),
    ],
)
def test_each_fact_has_the_smallest_strength_that_says_as_much(answers, strengths, statistics, monkeypatch, in_full):
    _, full = in_full
    says(monkeypatch, answers)
    editor, eased = taught(statistics)
    for one, whole in zip(eased, full, strict=True):
        assert one.layer == whole.layer
        torch.testing.assert_close(one.R, whole.R * torch.tensor(strengths).to(whole.R))
        torch.testing.assert_close(one.reach, whole.reach * torch.tensor(strengths).to(whole.reach))
    again = make_editor(statistics=statistics)
    again.apply(editor.patch)
    assert same_bits(again.model, bits(editor.model)), "the weights are those that the patch says"


def test_only_facts_that_may_do_with_less_are_asked(statistics, monkeypatch):
    """The second fact needs 3/4, so only the first is asked at a quarter."""
    asked = []

    def said(_lm, texts):
        asked.append(len(texts))
        return [5, 4][: len(texts)] if len(asked) == 3 else [5] * len(texts)

    monkeypatch.setattr(edit_run, "said_texts", said)
    taught(statistics)
    assert asked == [2, 2, 2, 1, 2]


def test_one_strength_for_all_is_not_asked_twice(statistics, monkeypatch):
    asked = []
    monkeypatch.setattr(edit_run, "said_texts", lambda _lm, texts: asked.append(len(texts)) or [5] * len(texts))
    editor, _ = taught(statistics)
    assert asked == [2, 2, 2, 2]
    other = make_editor(statistics=statistics)
    other.apply(editor.patch)
    assert same_bits(other.model, bits(editor.model))


def test_without_a_weaker_strength_the_weights_are_those_of_the_full_one(statistics, monkeypatch, in_full):
    editor, _ = in_full
    says(monkeypatch, [[5, 5], [4, 5], [4, 5], [4, 5], [4, 5]])
    other, _ = taught(statistics)
    assert same_bits(other.model, bits(editor.model))


def test_facts_in_one_column_have_the_strength_of_the_stronger(statistics, monkeypatch):
    about = [FIRST, Fact("The food of {} is", subject="France", target="The")]
    monkeypatch.setattr(FactWriter, "_lost", lambda self, recipe, batches: about)
    found = []
    for answers in (FULL, [[5, 5], [5, 5], [4, 5], [4, 4], [5, 5]]):
        says(monkeypatch, answers)
        editor = make_editor(statistics=statistics)
        edit(editor, about, "memit-seq-blue", settings=SETTINGS)
        found.append(editor.patch.batches[1].updates)
    for whole, one in zip(*found, strict=True):
        assert one.R.shape[1] == 1
        torch.testing.assert_close(one.R, whole.R * 0.75)


def test_what_later_batches_preserve_is_read_after_it(statistics, monkeypatch, in_full):
    _, full = in_full
    says(monkeypatch, [[5, 5]] * 5)
    _, eased = taught(statistics)
    last = max(one.layer for one in eased)
    assert any(
        not torch.equal(one.keys, whole.keys) for one, whole in zip(eased, full, strict=True) if one.layer == last
    )


@pytest.mark.parametrize(("recipe", "settings"), [("memit-seq-blue", {"filters": "rect"}), ("ft", {})])
def test_updates_that_are_not_in_proportion_stay(recipe, settings, statistics, monkeypatch):
    monkeypatch.setattr(edit_run, "said_texts", lambda lm, texts: pytest.fail("asked"))
    taught(statistics, recipe, **settings)


def test_the_first_time_is_written_in_full(statistics, monkeypatch):
    monkeypatch.setattr(edit_run, "said_texts", lambda lm, texts: pytest.fail("asked"))
    edit(make_editor(statistics=statistics), FACTS, "memit-seq-blue", settings={"subjects": "unit"})


def test_the_prompt_counts_as_much_as_all_texts(monkeypatch):
    monkeypatch.setattr(edit_run, "says_targets", lambda lm, rows: [True, False, False, False, True, True, False])
    assert edit_run.said_texts(None, [["prompt", "a", "b"], ["prompt", "a", "b", "c"]]) == [3, 2]


def test_an_interruption_while_strengths_are_tried_leaves_the_weights(statistics, monkeypatch):
    def interrupted(lm, texts):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return [5, 5]

    calls = iter(range(10))
    monkeypatch.setattr(edit_run, "said_texts", interrupted)
    editor = make_editor(statistics=statistics)
    before = bits(editor.model)
    with pytest.raises(KeyboardInterrupt):
        edit(editor, FACTS, "memit-seq-blue", settings=SETTINGS)
    assert same_bits(editor.model, before) and not editor.edits
