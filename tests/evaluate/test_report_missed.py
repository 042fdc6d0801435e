"""Facts that are not said: a reason and what to try, from what is known."""

import json
import math

import pytest
import torch
from evaluate_help import answer
from report_help import chat_tokenizer

from bluedit.evaluate._missed import Evidence, missed, missed_elsewhere
from bluedit.evaluate.asked import Reply
from bluedit.evaluate.bystanders import Heard
from bluedit.evaluate.data import Answer
from bluedit.evaluate.ordinary import Ordinary
from bluedit.evaluate.report import Measurement, Reading, compare, measure
from bluedit.facts import Fact
from bluedit.model.editable import EditableModel
from toys import FACTS, toy_llama

FACT = Fact("The price of {} is", subject="Plover", target="$429 plus tax", old_target="$299")
PROMPT = "The price of Plover is"


def known(text, *, said=False, new=-4.0, forced=False, old=None, **rest):
    replies = (Reply("prompt", PROMPT, text, said),)
    return Evidence(FACT, answer(new, forced), None if old is None else answer(old), replies=replies, **rest)


def reason(*given, **evidence):
    found = missed(known(*given, **evidence))
    return found.reason, found.advice.partition(":")[0]


def test_a_fact_that_is_said_is_not_missed():
    assert missed(known("$429 plus tax.", said=True)) is None


@pytest.mark.parametrize(
    ("text", "evidence", "why", "advice"),
    [
        (
            "$429 plus taxes.",
            {"forced": True, "old": -1.0},
            "the answer goes on beyond it, as '$429 plus taxes'",
            "teaching the end of the answer, as the default recipe does (no --no-phrasings), or the answer as a whole sentence",
        ),
        (
            "$429 and more.",
            {"old": -1.0},
            "it begins as the target and ends otherwise, as '$429 and more'",
            "more steps",
        ),
        (
            "three hundred",
            {"forced": True, "old": -1.0},
            "each of its tokens is the first choice when those before it are given, but the model writes 'three hundred'",
            "another spacing",
        ),
        (
            "high",
            {"new": -4.0, "old": -2.75},
            "the old answer '$299' is still ahead by 2.5 nats",
            "a larger bound and more steps",
        ),
        (
            "high",
            {"new": -2.0, "old": -4.0, "before": "high"},
            "the answer is still 'high', as before the edit",
            "a larger bound and more steps",
        ),
        (
            "high",
            {"before": "low"},
            "the answer is 'high'",
            "a larger bound and more steps",
        ),
        ("", {"new": math.log(0.05)}, "its probability is 0.0025", "a larger bound and more steps"),
    ],
)
def test_reasons_from_what_is_measured(text, evidence, why, advice):
    assert reason(text, **evidence) == (why, advice)


@pytest.mark.parametrize(
    ("details", "why", "advice"),
    [
        ({}, "the answer is 'high'", "a larger bound and more steps"),
        ({"loss": 0.04, "bound": False, "reach": 0.9}, "the answer is 'high'", "a larger bound and more steps"),
        ({"loss": 1.296}, "the answer is 'high'; its loss ended at 1.30 nats a token", "more steps"),
        (
            {"bound": True, "loss": 2.0},
            "the answer is 'high'; its value reached the bound; its loss ended at 2.00 nats a token",
            "a larger bound",
        ),
        ({"reach": 0.31}, "the answer is 'high'; the weights took only 31% of the change", "a weaker preservation"),
        (
            {"lost_to": "'Plover weighs'"},
            "the answer is 'high'; a later fact took its place: 'Plover weighs'",
            "writing both facts in one edit, with subjects=unit",
        ),
    ],
)
def test_reasons_from_how_it_was_written(details, why, advice):
    assert reason("high", details=details) == (why, advice)


def test_without_generated_text_the_first_choices_count():
    assert missed(Evidence(FACT, answer(-0.1, said=True))) is None
    assert missed(Evidence(FACT, answer(math.log(0.05)))).reason == "its probability is 0.0025"


def elsewhere(*replies):
    return missed_elsewhere(Evidence(FACT, answer(-0.1, said=True), replies=replies))


def test_said_at_the_prompt_and_not_in_chat():
    prompt = Reply("prompt", PROMPT, "$429 plus tax.", True)
    question = Reply("question", "What does Plover cost?", "$299", False)
    chat = Reply("chat", "What does Plover cost?", "I do not know.", False)
    found = elsewhere(prompt, question, chat)
    assert found.sentence == (
        "'The price of Plover is' => '$429 plus tax' is not said when asked 'What does Plover cost?' in chat: "
        "it is said at the prompt, but here the answer is 'I do not know'. "
        "Try a larger bound and more steps: --set objective.clamp=NUMBER and --set objective.steps=NUMBER."
    )
    assert elsewhere(prompt, chat).advice == "a phrasing that is a question: --phrasing 'Who ...?' (and no --no-chat)"
    assert elsewhere(prompt, question).form == "question"
    assert elsewhere(prompt, question, Reply("chat", "?", "$429 plus tax", True)) is None
    assert elsewhere(prompt) is None
    assert elsewhere(Reply("prompt", PROMPT, "x", False), chat) is None, "it is missed already"


def test_long_texts_are_cut():
    assert missed(known("no " * 80)).reason == f"the answer is '{'no ' * 19}no…'"


# the whole report


def measurement(facts, texts, *, heard=(), chat=None):
    """(texts by form, ...) of each fact."""
    replies = tuple(
        tuple(Reply(form, fact.text, text, text == fact.target) for form, text in own.items())
        for fact, own in zip(facts, texts, strict=True)
    )
    readings = tuple(Reading(Answer(-2.0, 2, True, 1, (1, 1), 1.0), None, (), ()) for _ in facts)
    return Measurement(tuple(facts), readings, Ordinary(20.0, chat, tuple(heard)), replies)


def test_a_report_names_the_facts_that_are_missed():
    lm = EditableModel.of(toy_llama(), chat_tokenizer())
    before = measurement(FACTS, [{"prompt": "French"}, {"prompt": "Paris"}, {"prompt": "violin"}], chat=10.0)
    after = measurement(
        FACTS, [{"prompt": "English", "chat": "French"}, {"prompt": "Romeo"}, {"prompt": "drum kit"}], chat=11.0
    )
    report = compare(lm, before, after, {FACTS[1].text: {"reach": 0.2}})
    assert [one.prompt for one in report.missed] == [FACTS[1].text]
    assert (
        report.missed[0].reason == "the answer goes on beyond it, as 'Romeo'; the weights took only 20% of the change"
    )
    assert [(one.prompt, one.form) for one in report.prompt_only] == [(FACTS[0].text, "chat")]
    assert [fact.says_after for fact in report.facts] == [True, False, True], "what is generated decides"
    assert [fact.says_before for fact in report.facts] == [False] * 3
    assert report.totals()["facts"] == (2, 3)
    assert [fact.text_before for fact in report.facts] == ["French", "Paris", "violin"]
    assert (report.chat_perplexity_before, report.chat_perplexity_after) == (10.0, 11.0)
    assert report.bystanders is None
    found = report.as_dict()
    assert found["facts"][0]["asked"][1] == {"form": "chat", "prompt": FACTS[0].text, "text": "French", "said": False}
    assert found["missed"][0]["target"] == "Rome" and json.loads(json.dumps(found, allow_nan=False)) == found


def test_numbers_that_are_not_finite_become_null():
    heard = [Heard("plain", "a", "x", torch.tensor([0.5, 0.5]).log())]
    ruled_out = [Heard("plain", "a", "x", torch.tensor([1.0, 0.0]).log())]
    lm = EditableModel.of(toy_llama(), chat_tokenizer())
    before = measurement(FACTS[:1], [{"prompt": "French"}], heard=heard)
    report = compare(lm, before, measurement(FACTS[:1], [{"prompt": "English"}], heard=ruled_out))
    assert report.bystanders.kl == math.inf
    assert report.as_dict()["bystanders"]["kl"] is None
    json.dumps(report.as_dict(), allow_nan=False)


def test_a_toy_is_measured():
    """All of it on a real forward pass; with the same weights nothing changes."""
    lm = EditableModel.of(toy_llama(), chat_tokenizer())
    lm.model.config.max_position_embeddings = 1024
    before = measure(lm, FACTS)
    after = measure(lm, FACTS)
    assert before.replies == after.replies
    assert [[reply.form for reply in own] for own in after.replies] == [
        ["prompt", "paraphrase", "chat"],
        ["prompt", "chat"],
        ["prompt", "chat"],
    ]
    report = compare(lm, before, after)
    assert report.bystanders.asked == report.bystanders.same and report.bystanders.kl == pytest.approx(0, abs=1e-9)
    assert set(report.bystanders.asked) == {"plain", "chat"} and len(report.bystanders.worst) == 3
    assert report.chat_perplexity_before == report.chat_perplexity_after > 1
    assert [one.prompt for one in report.missed] == [fact.text for fact in FACTS]
    assert report.facts[0].text_before == report.facts[0].asked[0].text
    json.dumps(report.as_dict(), allow_nan=False)
