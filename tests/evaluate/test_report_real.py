"""The report of a real edit of SmolLM2-135M."""

import json

import pytest

from bluedit import Editor, Fact
from bluedit.errors import ModelError
from bluedit.evaluate.report_text import report_parts
from bluedit.evaluate.tables import as_text
from bluedit.model.loading import EMBEDDED, embedded_file

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def report():
    try:
        embedded_file("smollm2")
    except ModelError:
        pytest.skip(f"the package {EMBEDDED['smollm2'].package} is not installed; run: {EMBEDDED['smollm2'].install}")
    fact = Fact(
        "The CEO of {} is",
        subject="Larkhill Cycles",
        target="Nora Feldt",
        paraphrases=("Larkhill Cycles's chief executive is",),
    )
    return Editor.load("smollm2", device="cpu").edit(fact, settings={"objective.steps": 8}).report


def test_the_fact_is_asked_as_people_ask(report):
    [fact] = report.facts
    forms = [reply.form for reply in fact.asked]
    assert forms[0] == "prompt" and {"question", "paraphrase", "chat"} <= set(forms)
    assert fact.text_before and not fact.says_before
    assert all("\n" not in reply.text for reply in fact.asked if reply.form != "chat")
    assert bool(report.missed) == (not fact.says_after)


def test_ordinary_answers_stay(report):
    asked, same = report.bystanders.asked, report.bystanders.same
    assert sum(asked.values()) >= 60 and min(asked.values()) > 30
    assert sum(same.values()) >= 0.75 * sum(asked.values())
    assert 0 <= report.bystanders.kl < 0.1
    assert abs(report.chat_perplexity_after / report.chat_perplexity_before - 1) < 0.02
    assert report.chat_perplexity_before == pytest.approx(8.81, abs=0.05)


def test_it_can_be_stored_and_shown(report):
    found = report.as_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    text = as_text(report_parts(found, details=True))
    assert "What the model says when asked" in text and "perplexity of chat text: 8.8" in text
