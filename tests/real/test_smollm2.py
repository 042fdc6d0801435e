"""The main use on the embedded model, SmolLM2-135M: an edit takes, the rest stays, undo and patches are exact."""

from __future__ import annotations

import json
import time

import pytest
import torch

from bluedit import Editor, Fact
from bluedit.errors import ModelError
from bluedit.evaluate.answers import perplexity, score
from bluedit.evaluate.generate import ask
from bluedit.evaluate.model_queries import ModelQueries
from bluedit.evaluate.passages import ordinary_passages
from bluedit.evaluate.report_text import report_parts
from bluedit.evaluate.tables import as_text
from bluedit.methods.schedules import Own
from bluedit.model.loading import EMBEDDED, embedded_file, load

pytestmark = pytest.mark.real

FACT = Fact(
    "The mother tongue of {} is",
    subject="Danielle Darrieux",
    target="English",
    paraphrases=("Danielle Darrieux spoke as a child",),
)
UNRELATED = "The capital of France is"


@pytest.fixture(scope="module")
def editor():
    """One editor for all tests of this file."""
    try:
        embedded_file("smollm2")
    except ModelError:
        pytest.skip(f"the package {EMBEDDED['smollm2'].package} is not installed; run: {EMBEDDED['smollm2'].install}")
    return Editor.load("smollm2", device="cpu")


@pytest.fixture(scope="module")
def original(editor):
    return bits(editor)


@pytest.fixture(scope="module")
def spoken_before(editor):
    return says(editor)


@pytest.fixture(scope="module")
def edit(editor, original, spoken_before):
    """The edit that all tests look at; the last test undoes it."""
    return editor.edit(FACT)


def test_a_beginning_is_read_as_it_stands(editor):
    """Two line ends are one token before nothing and two before a word."""
    beginning = "Review: a bad film\nSentiment: negative\n\nReview: a fine film\nSentiment: positive\n\n"
    pairs = [(f"Review: {text}\nSentiment:", word) for text in ("dull", "a joy") for word in ("negative", "positive")]
    fast = ModelQueries(editor.lm, editor.unedited).score_after(beginning, pairs)
    slow = score(editor.lm, [(beginning + prompt, word) for prompt, word in pairs])
    assert [a.logprob for a in fast] == pytest.approx([a.logprob for a in slow], abs=1e-3)


def bits(editor: Editor) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in editor.model.state_dict().items()}


def same(editor: Editor, expected: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(tensor, expected[name]) for name, tensor in editor.model.state_dict().items())


def says(editor: Editor) -> tuple[str, str]:
    return tuple(answer.text.strip() for answer in ask(editor.lm, [FACT.text, UNRELATED], tokens=4))


def test_it_does_not_know_yet(spoken_before):
    assert not spoken_before[0].startswith("English")
    assert spoken_before[1].startswith("Paris")


def test_the_edit_takes_and_the_rest_stays(editor, edit):
    after = says(editor)
    assert after[0].startswith("English")
    assert after[1].startswith("Paris")
    assert edit.report.totals()["facts"] == (1, 1)
    assert edit.report.facts[0].p_new_after > 0.5 > edit.report.facts[0].p_new_before


def test_ordinary_text_hardly_drifts(edit):
    assert abs(edit.report.drift) < 0.05


def test_the_report_has_what_the_model_says_when_asked(edit):
    [fact] = edit.report.facts
    forms = [reply.form for reply in fact.asked]
    assert forms[0] == "prompt" and {"question", "paraphrase", "chat"} <= set(forms)
    assert fact.text_before and not fact.says_before and fact.says_after
    assert all("\n" not in reply.text for reply in fact.asked if reply.form != "chat")
    assert not edit.report.missed


def test_ordinary_answers_stay(edit):
    report = edit.report
    asked, same = report.bystanders.asked, report.bystanders.same
    assert sum(asked.values()) >= 60 and min(asked.values()) > 30
    assert sum(same.values()) >= 0.75 * sum(asked.values())
    assert 0 <= report.bystanders.kl < 0.1
    assert abs(report.chat_perplexity_after / report.chat_perplexity_before - 1) < 0.02
    assert report.chat_perplexity_before == pytest.approx(8.81, abs=0.05)


def test_the_report_can_be_stored_and_shown(edit):
    found = edit.report.as_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    text = as_text(report_parts(found, details=True))
    assert "What the model says when asked" in text and "perplexity of chat text: 8.8" in text


def test_only_the_critical_layers_changed(editor, edit, original):
    assert edit.recipe.schedule == Own() and edit.recipe.tuning == "smollm2-135m"
    names = {name for name, tensor in editor.model.state_dict().items() if not torch.equal(tensor, original[name])}
    assert names == {f"model.layers.{layer}.mlp.down_proj.weight" for layer in edit.recipe.layers}


def loaded_in():
    """The model, and how long loading it took the processor on one thread: threads that wait for each other on a busy machine count, too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        started = time.process_time()
        return load("smollm2", device="cpu"), time.process_time() - started
    finally:
        torch.set_num_threads(threads)


def test_a_saved_patch_gives_the_same_bits_in_another_process_of_the_model(editor, edit, tmp_path):
    edit.save(tmp_path / "patch")
    lm, seconds = loaded_in()
    fresh = Editor(lm)
    fresh.apply(tmp_path / "patch")
    assert same(fresh, bits(editor))
    assert seconds < 3, f"loading the converted model took {seconds:.1f} s"


def test_the_model_is_known_by_its_fingerprint(editor, edit, original):
    assert edit.patch.base == editor.journal.base
    assert Editor(load("smollm2", device="cpu")).journal.base.fingerprint == editor.journal.base.fingerprint


def test_undo_is_exact(editor, edit, original, spoken_before):
    assert not same(editor, original)
    edit.undo()
    assert same(editor, original)
    assert says(editor) == spoken_before


def test_a_subject_of_one_token_that_begins_its_text(editor, original, spoken_before):
    """Its hidden state, and that of the next token, are attention sinks: four times as long as others."""

    def perplexed() -> float:
        return perplexity(editor.lm, ordinary_passages(), tokens=1000)

    fact, before = Fact.parse("{Brazil} is a country on the continent of => Asia"), perplexed()
    shorter = {
        "objective.steps": 14,
        "objective.learning_rate": 0.16,
        "wordings.statements": 2,
        "wordings.questions": 1,
    }
    editor.edit(fact, settings=shorter, known="edit", report=False)
    assert ask(editor.lm, [fact.text], tokens=4)[0].text.strip().startswith("Asia")
    assert abs(perplexed() / before - 1) < 0.04
    editor.undo()
    assert same(editor, original) and says(editor) == spoken_before
