"""What comes back from an edit: its report, what happens when measuring fails, and where each batch says it comes from."""

import logging

import pytest
from editing_help import OTHER, Injected, bits, edit, make_editor, same_bits

import bluedit
from bluedit import Patch
from bluedit.errors import FactError
from bluedit.evaluate import report
from bluedit.evaluate.answers import perplexity
from bluedit.evaluate.passages import ordinary_passages
from bluedit.evaluate.report import read_facts_in
from toys import FACTS


def test_the_report_is_what_the_model_says_before_and_after(statistics):
    editor = make_editor(statistics=statistics)
    before, drift_before = read_facts_in(editor.lm, FACTS), perplexity(editor.lm, ordinary_passages(), 1200)
    done = edit(editor, FACTS, report=True)
    after, drift_after = read_facts_in(editor.lm, FACTS), perplexity(editor.lm, ordinary_passages(), 1200)
    assert [f.p_new_before for f in done.report.facts] == [r.new.probability for r in before]
    assert [f.p_new_after for f in done.report.facts] == [r.new.probability for r in after]
    assert [f.p_old_after for f in done.report.facts] == [r.old.probability for r in after]
    assert (done.report.perplexity_before, done.report.perplexity_after) == (drift_before, drift_after)
    assert drift_before != drift_after
    assert "perplexity of ordinary text" in done.summary()
    assert done.report_error is None
    assert done.patch.batches[-1].origin.report == done.report.as_dict()
    assert editor.patch.batches[-1].origin.report == done.report.as_dict()
    assert edit(editor, OTHER).summary() == "2 facts written with alphaedit-blue into layers 1, 3; not measured"


def test_targets_become_more_likely(statistics):
    """The main loop on a toy: with hardly anything to preserve every target's probability rises."""
    done = edit(
        make_editor(statistics=statistics),
        FACTS,
        "memit-blue",
        report=True,
        settings={"preserve.lambda": 1e-3, "objective.steps": 25, "contexts.count": 0},
    )
    assert all(f.p_new_after > f.p_new_before for f in done.report.facts)


# measuring is outside the transaction


@pytest.fixture
def measuring_fails(monkeypatch):
    """(when, exception) -> the nth measurement of an edit raises. Measuring is not a part that can be given, so it is replaced here."""

    def fail(nth, exception):
        calls = []

        def measure(*given, **named):
            calls.append(1)
            if len(calls) == nth:
                raise exception
            return report.measure(*given, **named)

        monkeypatch.setattr("bluedit.editing._measured.measure", measure)

    return fail


@pytest.mark.parametrize("nth", [1, 2])
def test_a_report_that_fails_leaves_the_edit_made(nth, statistics, measuring_fails, caplog, tmp_path):
    clean, editor = make_editor(statistics=statistics), make_editor(statistics=statistics)
    unedited = bits(editor.model)
    edit(clean, FACTS)
    measuring_fails(nth, Injected("the screen is on fire"))
    with caplog.at_level(logging.WARNING):
        done = edit(editor, FACTS, report=True)
    assert same_bits(editor.model, bits(clean.model))
    assert editor.edits == (done,)
    assert done.report is None and done.patch.batches[-1].origin.report is None
    assert done.report_error == "Injected: the screen is on fire"
    assert "the edit was made, but its report failed: Injected: the screen is on fire" in caplog.text
    assert done.summary() == (
        "3 facts written with alphaedit-blue into layers 1, 3; the report failed: Injected: the screen is on fire"
    )
    assert Patch.load(done.save(tmp_path / "patch")).facts == FACTS
    done.undo()
    assert same_bits(editor.model, unedited)


def test_an_error_of_ours_in_the_second_measurement_is_told_as_it_is(statistics, measuring_fails):
    measuring_fails(2, FactError("a prompt of 300 tokens is too long; shorten it"))
    done = edit(make_editor(statistics=statistics), FACTS[0], report=True)
    assert done.report_error == "a prompt of 300 tokens is too long; shorten it"


def test_facts_that_cannot_be_measured_are_refused_before_anything_is_changed(statistics, measuring_fails):
    editor = make_editor(statistics=statistics)
    before = bits(editor.model)
    measuring_fails(1, FactError("a prompt of 300 tokens is too long; shorten it"))
    with pytest.raises(FactError, match="shorten it"):
        edit(editor, FACTS[0], report=True)
    assert same_bits(editor.model, before) and editor.edits == ()


@pytest.mark.parametrize("nth", [1, 2])
def test_ctrl_c_while_measuring(nth, statistics, measuring_fails):
    """Before the edit nothing has happened yet; after it the edit is made and can be undone."""
    editor = make_editor(statistics=statistics)
    before = bits(editor.model)
    measuring_fails(nth, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        edit(editor, FACTS, report=True)
    assert len(editor.edits) == nth - 1
    assert same_bits(editor.model, before) == (nth == 1)
    if nth == 2:
        editor.undo()
        assert same_bits(editor.model, before)


# where a batch comes from


def test_a_batch_says_where_it_comes_from(statistics):
    editor = make_editor(statistics=statistics, bos=True, name="toy")
    patch = edit(editor, FACTS, "memit-blue", batch_size=2).patch
    assert patch.base == editor.journal.base
    assert (patch.base.model, patch.base.dtype, patch.base.leading_special_token) == ("toy", "float64", True)
    assert len(patch.base.fingerprint) == 24
    for batch in patch.batches:
        origin = batch.origin
        assert (origin.recipe, origin.paper) == ("memit-blue", "https://arxiv.org/abs/2210.07229")
        assert origin.tuning == "generic"
        assert origin.prefixes == ("The weather was mild that morning.",)
        assert origin.settings["objective.steps"] == 4
        assert origin.settings["layers"] == [1, 2, 3]
        assert origin.settings["schedule"] == "boundary"
        assert origin.about["modules"] == {"1": "model.layers.1.mlp.down_proj", "3": "model.layers.3.mlp.down_proj"}
        assert origin.about["statistics"]["tokens"] == 480
        assert origin.about["statistics"]["corpus_name"] == "self"
        assert origin.about["execution"] == {"precision": "auto", "tokens_per_step": 0, "statistics_device": ""}
        assert origin.about["versions"]["bluedit"] and origin.about["created"].endswith("Z")
        assert make_editor().recipe("memit-blue", origin.settings).settings() == origin.settings
    assert len(patch.origins) == 1, "the batches of one edit have one origin"


def test_each_edit_has_an_origin_of_its_own(statistics):
    editor = make_editor(statistics=statistics)
    edit(editor, FACTS[0], "alphaedit-blue", report=True)
    edit(editor, FACTS[1], "memit-blue")
    edit(editor, FACTS[2], "memit-seq-blue", report=True)
    origins = editor.patch.origins
    assert [origin.recipe for origin in origins] == ["alphaedit-blue", "memit-blue", "memit-seq-blue"]
    assert [origin.report is None for origin in origins] == [False, True, False]
    free = [origin.about["free_dimensions"] for origin in origins]
    assert free[0].keys() == {"1", "3"} and all(0 < rank < 48 for rank in free[0].values())
    assert free[1:] == [{"1": 48, "3": 48}] * 2
    assert [origin.paper for origin in origins] == [bluedit.recipes[origin.recipe].paper for origin in origins]
