"""Which format a file is taken for: bluedit's own keys decide, and one bad record among the first does no harm."""

from __future__ import annotations

from typing import Any

import pytest
from facts_help import FACT, ROME, Write, lines, refusal, unusable

from bluedit.facts import Fact, Skipped, read_facts
from bluedit.facts.formats import FORMATS

OSLO = {"prompt": "{} is in", "subject": "Oslo", "target": "Peru"}
BOTH = [FACT, Fact("{} is in", "Oslo", "Peru")]
EDIT = {"prompt": "Rome is in", "subject": "Rome", "target_new": "Spain"}


@pytest.mark.parametrize(
    ("more", "unknown"),
    [
        ({"attribute": "city"}, ["attribute"]),
        ({"target_new": "Peru"}, ["target_new"]),
        ({"question": "Where is Rome?", "object": "city"}, ["object"]),
        ({"src": "a page about Rome", "alt": "x"}, ["src", "alt"]),
        ({"src": "a page about Rome", "answers": ["x"]}, ["src", "answers"]),
        ({"update": "2024 Rome", "ans": "x"}, ["update", "ans"]),
        ({"text": "Rome", "labels": "x", "concept": "Rome"}, ["text", "labels", "concept"]),
        ({"question": "Where is Rome?", "answer": "Rome", "para_question": "x"}, ["answer", "para_question"]),
        ({"requested_rewrite": {"prompt": "{} is", "subject": "x", "target_new": "y"}}, ["requested_rewrite"]),
        ({"edit": {"prompt": "x"}, "Forgetfulness": []}, ["edit", "Forgetfulness"]),
        ({"en": {"src": "x", "subject": "y"}}, ["en"]),
    ],
)
def test_more_keys_do_not_change_what_an_own_record_teaches(
    write: Write, more: dict[str, Any], unknown: list[str]
) -> None:
    text = refusal(write("a.jsonl", lines({**ROME, **more})))
    first, fault = text.split("\n")
    assert first == unusable(1, "").split("\n")[0]
    assert fault.startswith(f"line 1: unknown key {unknown[0]!r} (")
    assert [key for key in more if f"unknown key {key!r}" in fault] == unknown
    assert read_facts(write("b.jsonl", lines({**ROME, **more}, OSLO)), bad_records="skip") == BOTH[1:]


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("question,object", "unknown column 'object' (did you mean 'subject'?)"),
        ("update,ans", "unknown column 'update' (did you mean 'template'?); unknown column 'ans' (choose one of "),
    ],
)
def test_more_columns_do_not_change_what_an_own_table_teaches(write: Write, column: str, words: str) -> None:
    text = refusal(write("a.csv", f"prompt,subject,target,{column}\n{{}} is in,Rome,Spain,Where is Rome?,city\n"))
    assert text.startswith(f"FILE: the header in line 1 cannot be used: {words}")


def test_no_other_format_needs_the_keys_of_bluedits_own() -> None:
    own = {"prompt", "subject", "target"}
    assert [f.name for f in FORMATS if own <= f.keys] == ["csv", "bluedit"]


def test_a_record_without_a_target_is_still_of_the_other_format(write: Write) -> None:
    known = {"prompt": "Rome is in", "subject": "Rome", "attribute": "Spain"}
    assert read_facts(write("a.jsonl", lines(known))) == [FACT]
    assert read_facts(write("b.jsonl", lines(EDIT))) == [FACT]


@pytest.mark.parametrize(
    ("first", "fault"),
    [
        ({"prompt": "{} is in"}, "'subject' is missing; 'target' is missing"),
        ({"prompt": "Oslo is in", "subject": "Oslo"}, "'target' is missing"),
        ({}, "'prompt' is missing; 'subject' is missing; 'target' is missing"),
        (
            {"prompt": "Oslo is in", "subject": "Oslo", "attribute": "Peru"},
            "unknown key 'attribute' (choose one of id, joined, neighbours, old_target, paraphrases, phrasings, probes, "
            "prompt, queries, question, references, subject, target, template); 'target' is missing",
        ),
    ],
)
def test_a_bad_first_record_is_named_and_can_be_skipped(write: Write, first: dict[str, Any], fault: str) -> None:
    path = write("a.jsonl", lines(first, ROME, OSLO))
    assert refusal(path) == unusable(3, f"line 1: {fault}")
    skipped: list[Skipped] = []
    assert read_facts(path, bad_records="skip", skipped=skipped) == BOTH
    assert skipped == [Skipped("line 1", fault)]
    assert read_facts(write("a.json", [first, ROME, OSLO]), bad_records="skip") == BOTH


def test_a_leading_note_about_the_file_can_be_skipped(write: Write) -> None:
    path = write("a.jsonl", lines({"meta": "v1"}, ROME, OSLO))
    assert refusal(path).split("\n")[1].startswith("line 1: unknown key 'meta' (")
    assert read_facts(path, bad_records="skip") == BOTH


def test_a_bad_first_record_of_another_format(write: Write) -> None:
    """The first record has two of bluedit's own keys, but the others have all that EasyEdit's need."""
    path = write("a.jsonl", lines({"prompt": "Rome is in", "subject": "Rome"}, EDIT, {**EDIT, "case_id": 3}))
    assert refusal(path) == unusable(3, "line 1: 'target_new' is missing")
    assert read_facts(path, bad_records="skip") == [FACT, FACT]


def test_a_short_first_row_of_a_table(write: Write) -> None:
    path = write("a.csv", "prompt,subject,target\n{} is in\n{} is in,Rome,Spain\n")
    assert refusal(path) == unusable(2, "line 2: 'subject' is missing; 'target' is missing")
    assert read_facts(path, bad_records="skip") == [FACT]
    assert refusal(write("b.csv", "prompt,subject,target\n{} is in\n")) == unusable(
        1, "line 2: 'subject' is missing; 'target' is missing"
    )


@pytest.mark.parametrize(
    ("name", "first", "fault"),
    [
        ("a.jsonl", '["a"]', "a record must be a JSON object with named keys, not a list"),
        ("a.jsonl", '{"prompt": x}', "broken JSON at column 12: Expecting value"),
        ("a.json", '{"prompt": x}', "broken JSON at column 12: Expecting value"),
        ("a.txt", '{"prompt": "x",', "broken JSON at column 16: Expecting property name enclosed in double quotes"),
    ],
)
def test_a_first_line_that_is_no_record(write: Write, name: str, first: str, fault: str) -> None:
    path = write(name, f"{first}\n{lines(ROME, OSLO)}")
    assert refusal(path) == unusable(3, f"line 1: {fault}")
    assert read_facts(path, bad_records="skip") == BOTH


def test_a_broken_document_is_not_taken_for_lines(write: Write) -> None:
    text = '{"facts": [\n{"prompt": "{} is in", "subject": "Rome"},\n{"prompt": "x"}\n}'
    assert refusal(write("a.json", text)).startswith("FILE: broken JSON at line 4, column 1: ")


def test_most_of_the_first_records_decide(write: Write) -> None:
    assert read_facts(write("a.jsonl", lines(EDIT, ROME, OSLO)), bad_records="skip") == BOTH
    assert read_facts(write("b.jsonl", lines(EDIT, OSLO)), bad_records="skip") == [FACT], "of two, the first"
