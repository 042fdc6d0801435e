"""RippleEdits: edits given as sentences, with test queries."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest
from facts_help import Write, refusal, unusable

from bluedit.facts import Fact, Probe, read_facts, write_facts


def query(prompt: str, *answers: list[str]) -> dict[str, Any]:
    """A test query; an answer is its value and its aliases."""
    return {
        "prompt": prompt,
        "answers": [{"value": value, "aliases": aliases} for value, *aliases in answers],
        "query_type": "regular",
        "phrase": None,
    }


def case(*queries: dict[str, Any]) -> dict[str, Any]:
    asked = [query("This was asked before the edit", ["and is no probe"])]
    return {"test_queries": list(queries), "test_condition": "OR", "condition_queries": asked}


def ripple(new: str, old: str | None = None, **tests: list[dict[str, Any]]) -> dict[str, Any]:
    about = {"subject_id": "Q90", "relation": "CAPITAL"}
    before = {} if old is None else {"original_fact": {"prompt": old, **about, "target_id": "Q3"}}
    edited = {"prompt": new, **about, "target_id": "Q4", **before}
    return {"example_type": "popular", "edit": edited, "Forgetfulness": [], **tests}


ROME = "The name of the capital city of France is Rome."
PARIS = "The name of the capital city of France is Paris."


def test_rippleedits(write: Write) -> None:
    record = ripple(
        ROME,
        PARIS,
        Logical_Generalization=[case(query("The name of the country which Rome is the capital of is", ["France"]))],
        Compositionality_I=[
            case(query("The river through the capital of France is the", ["Tiber", "Tevere"])),
            case(query("The river through the capital of France is the", ["Aniene"], ["Tiber", "T", "7", ""])),
        ],
        Compositionality_II=[case(query("The seat of the Louvre's country is", ["Rome", " Roma "]))],
        Subject_Aliasing=[
            case(query("The capital of the French Republic is", ["Rome"]), query("The capital of Gaul is", ["Rome"]))
        ],
        Relation_Specificity=[case(query("The currency of France is", ["euro"]), query("Its anthem is"))],
        Forgetfulness=[case(query("Another capital of France is", ["", "?"]))],
    )
    (fact,) = read_facts(write("a.json", [record]))
    probes = [
        Probe("portability", "The name of the country which Rome is the capital of is", ("France",)),
        Probe("portability", "The river through the capital of France is the", ("Tiber", "Tevere")),
        Probe("portability", "The river through the capital of France is the", ("Aniene",), [("Tiber", "7")]),
        Probe("portability", "The seat of the Louvre's country is", ("Rome", "Roma")),
        Probe("alias", "The capital of the French Republic is", ("Rome",)),
        Probe("alias", "The capital of Gaul is", ("Rome",)),
        Probe("subject", "The currency of France is", ("euro",)),
    ]
    expected = Fact("The name of the capital city of {} is", "France", "Rome", "Paris", probes=probes)
    assert fact == expected
    assert fact.id == "Q90/CAPITAL"
    write_facts(again := write("b.jsonl", ""), [fact])
    assert read_facts(again) == [expected]


@pytest.mark.parametrize(
    ("sentence", "fact"),
    [
        ("The gender of Bank of Oslo is male.", Fact("The gender of {} is", "Bank of Oslo", "male")),
        (
            "The name of the country of citizenship of Jo of Ur is Peru.",
            Fact("The name of the country of citizenship of {} is", "Jo of Ur", "Peru"),
        ),
        (
            "The place of birth of Jo is Washington, D.C..",
            Fact("The place of birth of {} is", "Jo", "Washington, D.C."),
        ),
        (
            "The name of the head of state of the Isle of Man is Bo.",
            Fact("The name of the head of state of {} is", "the Isle of Man", "Bo"),
        ),
        (
            "The name of the author of list of kings in Ur is Bo.",
            Fact("The name of the author of {} is", "list of kings in Ur", "Bo"),
        ),
        (
            "The name of the author of Life is short is Bo.",
            Fact("The name of the author of {} is", "Life is short", "Bo"),
        ),
        ("The names of the siblings of Jo are Bo.", Fact("The names of the siblings of {} are", "Jo", "Bo")),
        (
            "The name of the continent which Peru is part of is Asia.",
            Fact("The name of the continent which {} is part of is", "Peru", "Asia"),
        ),
        (
            "The name of the sports team which Jo is a member of is FC Ur.",
            Fact("The name of the sports team which {} is a member of is", "Jo", "FC Ur"),
        ),
        (
            "The name of the country which list of things which sing is associated with is Peru.",
            Fact("The name of the country which {} is associated with is", "list of things which sing", "Peru"),
        ),
        (
            "The name of the league which Ur plays in is A.",
            Fact("The name of the league which {} plays in is", "Ur", "A"),
        ),
        (
            "The name of the award Jo won is Order of Ur.",
            Fact("The name of the award {} won is", "Jo", "Order of Ur"),
        ),
        (
            "The name of the position held by Jo is king of Ur.",
            Fact("The name of the position held by {} is", "Jo", "king of Ur"),
        ),
        ("The name of the currency in Ur is yen.", Fact("The name of the currency in {} is", "Ur", "yen")),
        ("The number of children Jo of Ur has is 3.", Fact("The number of children {} has is", "Jo of Ur", "3")),
        ("The list of kings is followed by Ur.", Fact("{} is followed by", "The list of kings", "Ur")),
        ("The Sound of Ur follows Ur is.", Fact("{} follows", "The Sound of Ur", "Ur is")),
    ],
)
def test_rippleedits_sentences(write: Write, sentence: str, fact: Fact) -> None:
    assert read_facts(write("a.json", [ripple(sentence)])) == [fact]


@pytest.mark.parametrize("key", ["original_fact", "previous_fact"])
def test_the_true_sentence_shows_where_the_target_begins(write: Write, key: str) -> None:
    start = "The name of the anthem of Ur is "
    record = ripple(start + "What is mine is yours.")
    record["edit"][key] = {"prompt": start + "Who is Bo."}
    (fact,) = read_facts(write("a.json", [record]))
    assert fact == Fact("The name of the anthem of {} is", "Ur", "What is mine is yours", "Who is Bo")


def test_targets_that_begin_alike_are_whole(write: Write) -> None:
    (fact,) = read_facts(
        write("a.json", [ripple("The gender of Jo is trans man.", "The gender of Jo is trans woman.")])
    )
    assert (fact.prompt, fact.target, fact.old_target) == ("The gender of {} is", "trans man", "trans woman")


def test_rippleedits_records_with_nothing_to_teach_are_left_out(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    idle = [
        ripple("The gender of Jo is ."),
        ripple("The gender of  is male."),
        ripple(" follows Ur."),
        ripple(ROME, ROME),
    ]
    path = write("a.json", [idle[0], ripple(ROME, PARIS), *idle[1:]])
    with caplog.at_level(logging.WARNING, "bluedit"):
        (fact,) = read_facts(path)
    assert fact.target == "Rome"
    assert caplog.messages == [
        f"{path}: 4 records have nothing to teach and are left out: record 1, record 3, record 4, record 5"
    ]
    assert refusal(write("b.json", idle)) == "FILE: none of the 4 records has anything to teach; read others"


def test_an_unnamed_truth_is_an_unknown_truth(write: Write) -> None:
    (fact,) = read_facts(write("a.json", [ripple("The gender of Jo is male.", "The gender of Jo is .")]))
    assert (fact.target, fact.old_target) == ("male", None)


CANNOT = "cannot tell the subject and the target in the edit"
ADVICE = "word it as RippleEdits does, e.g. 'The mother tongue of SUBJECT is TARGET.'"


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (ripple("Rome, the capital of France."), f"{CANNOT} 'Rome, the capital of France.'; {ADVICE}"),
        (ripple(""), f"{CANNOT} ''; {ADVICE}"),
        (
            ripple(ROME, "The gender of Jo is male."),
            f"{CANNOT} {ROME!r} (the true sentence is 'The gender of Jo is male.'); {ADVICE}",
        ),
        ({"edit": "x", "Forgetfulness": []}, "'edit' must be an object, not text"),
        (
            {"edit": {"original_fact": {}}, "Forgetfulness": {}},
            "'edit.prompt' is missing; 'edit.original_fact.prompt' is missing; 'Forgetfulness' must be a list, not an object",
        ),
        (
            ripple(ROME, Subject_Aliasing=[case(query("x", ["Rome"])), {"test_queries": [{"answers": ["Rome"]}, 3]}]),
            "'Subject_Aliasing[1].test_queries[1]' must be an object, not a number; "
            "'Subject_Aliasing[1].test_queries[0].prompt' is missing; "
            "'Subject_Aliasing[1].test_queries[0].answers[0]' must be an object, not text",
        ),
        (
            ripple(ROME, Forgetfulness=[case({"prompt": "x", "answers": [{"value": 3, "aliases": "y"}]})]),
            "'Forgetfulness[0].test_queries[0].answers[0].value' must be text, not a number; "
            "'Forgetfulness[0].test_queries[0].answers[0].aliases' must be a list, not text",
        ),
        (
            ripple(ROME, Forgetfulness=[case(query(" ", ["Rome"]))]),
            "fact 'Q90/CAPITAL': a probe is not a Probe with a prompt",
        ),
    ],
)
def test_rippleedits_refuses(write: Write, record: dict[str, Any], words: str) -> None:
    text = refusal(write("a.json", [record, ripple(ROME, PARIS)]))
    assert text == unusable(2, f"record 1: {words}")


@pytest.mark.parametrize(
    "sentence",
    ["The names of the " + "a of " * 16000, "is followed " * 8000, "The number of children " + "has " * 16000],
)
def test_a_long_sentence_takes_no_time(write: Write, sentence: str) -> None:
    path = write("a.json", [ripple(sentence)])
    start = time.perf_counter()
    assert CANNOT in refusal(path)
    assert time.perf_counter() - start < 1
