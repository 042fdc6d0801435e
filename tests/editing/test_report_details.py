"""The report says why a fact was missed, from how it was written; and the spacing of a target is honoured where it is scored."""

from dataclasses import replace

import pytest
from editing_help import Recorder, edit, make_editor

from bluedit import Fact
from bluedit.editing._details import WriteDetails
from bluedit.errors import FactError
from bluedit.evaluate.answers import score
from bluedit.writing.target import Targets
from bluedit.writing.trace import Trace
from toys import FACTS

ABOUT = (
    Fact("{} is made in", subject="Danielle Darrieux", target="Berlin"),
    Fact("The library of {} is in", subject="Danielle Darrieux", target="Italian"),
)


def reasons(statistics, facts, recipe, **settings):
    """The reason and the advice for each fact that is missed."""
    done = edit(make_editor(statistics=statistics), facts, recipe, report=True, settings=settings)
    assert done.report, done.report_error
    assert done.report.missed
    return {one.prompt: (one.reason, one.advice) for one in done.report.missed}


@pytest.mark.parametrize("recipe", ["memit", "memit-seq-blue"])
def test_a_tiny_bound_is_reached(recipe, statistics):
    for reason, advice in reasons(statistics, FACTS, recipe, **{"objective.clamp": 0.001}).values():
        assert "its value reached the bound" in reason and "its loss ended at" in reason
        assert advice == "a larger bound: --set objective.clamp=NUMBER"


def test_the_bound_of_a_shared_target_grows(statistics):
    shared = {"subjects": "unit", "objective.clamp": 0.001, "objective.clamp_growth": 0.5}
    for reason, _ in reasons(statistics, ABOUT, "memit", **shared).values():
        assert "its value reached the bound" in reason


@pytest.mark.parametrize("recipe", ["memit", "memit-seq-blue"])
def test_too_much_preservation_lets_little_through(recipe, statistics):
    for reason, _ in reasons(statistics, FACTS, recipe, **{"preserve.lambda": 1e6}).values():
        assert "the weights took only 0% of the change" in reason
        assert "bound" not in reason


def test_one_step_leaves_the_loss_high(statistics):
    for reason, advice in reasons(statistics, FACTS, "memit-seq-blue", **{"objective.steps": 1}).values():
        assert "its loss ended at" in reason and "bound" not in reason
        assert advice == "more steps: --set objective.steps=NUMBER"


def test_a_later_fact_about_the_subject(statistics):
    weak = {"objective.clamp": 0.001}
    lost = "a later fact took its place: 'The library of Danielle Darrieux is in' => 'Italian'"
    first, second = reasons(statistics, ABOUT, "memit-seq-blue", subjects="split", **weak).values()
    assert lost in first[0] and first[1] == "writing both facts in one edit, with subjects=unit"
    assert "later fact" not in second[0]
    for subjects in ("unit", "merge"):
        for reason, _ in reasons(statistics, ABOUT, "memit-seq-blue", subjects=subjects, **weak).values():
            assert "later fact" not in reason


def details_of(recipe, facts, statistics, **settings):
    """What is noted of an edit, and what another trace was told."""
    told = Recorder()
    notes = WriteDetails(told)
    editor = make_editor(statistics=statistics, trace=notes)
    done = edit(editor, facts, recipe, settings=settings)
    return notes.of(editor.lm.tokenizer, done.recipe, done.patch.batches), told


def test_details_are_those_of_the_loop(statistics):
    found, told = details_of("memit-seq-blue", FACTS, statistics)
    (_, targets), write = told.targets[-1], told.writes[-1]
    assert [found[fact.text]["loss"] for fact in FACTS] == targets.loss.tolist()
    assert [found[fact.text]["reach"] for fact in FACTS] == pytest.approx(write.reach.tolist())


def test_reach_counts_all_writes_towards_a_target(statistics):
    """MEMIT writes a share at each layer; what is left in the end is what none of them delivered."""
    found, told = details_of("memit", FACTS, statistics)
    first, last = told.writes[0].missing.norm(dim=0), told.writes[-1].missing.norm(dim=0)
    expected = 1 - (1 - told.writes[-1].reach) * last / first
    assert [found[fact.text]["reach"] for fact in FACTS] == pytest.approx(expected.tolist())


def test_a_batch_that_is_taught_again_replaces(statistics):
    found, told = details_of("memit-seq-blue", FACTS[:1], statistics, reteach=1, **{"objective.steps": 2})
    assert len(told.batches) == 2
    assert found[FACTS[0].text]["loss"] == float(told.targets[-1][1].loss)


def test_fine_tuning_has_no_targets(statistics):
    assert details_of("ft", FACTS, statistics)[0] == {fact.text: {} for fact in FACTS}


def test_a_failed_edit_leaves_no_notes(statistics):
    class Stops(Trace):
        def on_batch(self, batch):
            raise KeyboardInterrupt

    editor = make_editor(statistics=statistics, trace=Stops())
    with pytest.raises(KeyboardInterrupt):
        edit(editor, FACTS)
    editor._details.inner = Trace()
    done = edit(editor, FACTS, report=True)
    assert done.report, done.report_error


# spacing


def joined_fact(editor):
    """A fact with joined=True whose target the model says after a space, and not without one."""
    tokens = [editor.lm.tokenizer.decode([i]) for i in range(2, len(editor.lm.tokenizer))]
    words = sorted({token[1:] for token in tokens if token.startswith(" ") and token[1:].isalpha()})
    for subject in ("rain", "capital", "library", "tower", "weather", "tongue", "Rome", "Berlin", "London", "Paris"):
        for prompt in ("The {} of", "{} is in", "It is {} and"):
            text = prompt.replace("{}", subject)
            asked = score(editor.lm, [(text, word, joined) for word in words for joined in (False, True)])
            for word, spaced, tight in zip(words, asked[::2], asked[1::2], strict=True):
                if spaced.said and not tight.said:
                    return Fact(prompt, subject=subject, target=word, joined=True)
    pytest.fail("the toy says no word of its vocabulary after a space")


def test_a_joined_target_is_not_known_when_only_the_spaced_one_is_said(statistics):
    editor = make_editor(statistics=statistics)
    fact = joined_fact(editor)
    with pytest.raises(FactError, match="the model already says 1 of 1 facts"):
        edit(editor, replace(fact, joined=False), known="refuse")
    assert edit(editor, fact, known="refuse").facts == (fact,)


def test_an_edit_of_many_batches_keeps_no_targets(statistics):
    """Only a number for each column is kept, in main memory: targets would fill the model's device."""
    editor = make_editor(statistics=statistics)
    edit(editor, FACTS, "memit-seq-blue", batch_size=1)
    assert len(editor._details._done) == 3
    for columns in editor._details._done:
        kept = [columns.loss, columns.size, *columns.first.values(), *columns.taken.values()]
        assert {(tuple(one.shape), str(one.device)) for one in kept} == {((1,), "cpu")}
        assert not any(isinstance(value, Targets) for value in vars(columns).values())
