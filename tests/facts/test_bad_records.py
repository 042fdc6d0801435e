"""Records that cannot be used: the file is refused, or they are skipped, named in the log and handed back."""

from __future__ import annotations

from typing import Any

import pytest
from facts_help import FACT, ROME, Write, lines, refusal, unusable

from bluedit.cli.common import gather, read_source
from bluedit.errors import FactError
from bluedit.facts import Fact, Skipped, read_facts

GOOD = [ROME, {"prompt": "The mayor of {} is", "subject": "Selden", "target": "Ada"}]
BAD = {"prompt": "The mayor of Seldan is", "subject": "Selden", "target": "Ada"}
WHY = "subject 'Selden' does not occur in the prompt 'The mayor of Seldan is'; did you mean 'Seldan'?"


def test_one_bad_record_refuses_the_file_and_the_remedy_is_named(write: Write) -> None:
    assert refusal(write("a.jsonl", lines(GOOD[0], BAD, GOOD[1]))) == (
        "FILE: 1 of 3 records cannot be used; fix them, or leave them out with bad_records='skip' (--bad-records skip)\n"
        f"line 2: {WHY}"
    )


def test_skipped_records_are_logged_and_handed_back(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    path = write("a.jsonl", lines(GOOD[0], BAD, GOOD[1]) + "{broken\n")
    skipped: list[Skipped] = []
    facts = read_facts(path, bad_records="skip", skipped=skipped)
    assert facts == [FACT, Fact("The mayor of {} is", "Selden", "Ada")]
    assert [one.where for one in skipped] == ["line 2", "line 4"]
    assert skipped[0] == Skipped("line 2", WHY) and str(skipped[0]) == f"line 2: {WHY}"
    assert caplog.messages == [
        f"{path}: 2 of 4 records cannot be used and are skipped\n{skipped[0]}\n{skipped[1]}",
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", [ROME, BAD, 3]),
        ("a.csv", "prompt,subject,target\n{} is in,Rome,Spain\n{} is in,Rome\na,b,c,d\n"),
        ("a.jsonl", lines(ROME, {**ROME, "target": 3}, {**ROME, "tag": 1})),
    ],
)
def test_every_kind_of_fault_of_a_record_can_be_skipped(write: Write, name: str, content: object) -> None:
    skipped: list[Skipped] = []
    assert read_facts(write(name, content), bad_records="skip", skipped=skipped) == [FACT]
    assert len(skipped) == 2


def test_at_most_twenty_are_logged_and_all_are_handed_back(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    skipped: list[Skipped] = []
    read_facts(write("a.json", [BAD] * 23 + [ROME]), bad_records="skip", skipped=skipped)
    assert len(skipped) == 23
    assert caplog.messages[0].count("\n") == 21 and caplog.messages[0].endswith("\n... and 3 more")


def test_records_with_nothing_to_teach_are_handed_back_as_well(write: Write) -> None:
    old = {"edit": {"prompt": "The gender of Jo is .", "subject_id": "Q1"}, "Forgetfulness": []}
    new = {"edit": {"prompt": "The gender of Jo is male.", "subject_id": "Q1"}, "Forgetfulness": []}
    skipped: list[Skipped] = []
    read_facts(write("a.json", [old, new]), skipped=skipped)
    assert skipped == [Skipped("record 1", "it has nothing to teach")]


def test_a_file_without_any_good_record_is_refused_all_the_same(write: Write) -> None:
    path = write("a.json", [BAD, BAD])
    assert refusal(path, bad_records="skip") == unusable(2, f"record 1: {WHY}", f"record 2: {WHY}")


def test_nothing_is_handed_back_where_the_file_is_refused(write: Write) -> None:
    skipped: list[Skipped] = []
    refusal(write("a.json", [BAD, ROME]), skipped=skipped)
    assert skipped == []


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ("skipp", "unknown choice 'skipp' for bad records; did you mean 'skip'?"),
        ("drop", "unknown choice 'drop' for bad records; choose one of refuse, skip"),
    ],
)
def test_the_choice_is_checked(write: Write, choice: Any, words: str) -> None:
    assert refusal(write("a.json", [ROME]), bad_records=choice) == words
    with pytest.raises(FactError, match=words.split(";")[0]):
        read_source("world:3", None, None, 0, 0, choice)


def test_the_command_line_passes_it_on(write: Write) -> None:
    path = str(write("a.jsonl", lines(GOOD[0], BAD)))
    assert read_source(path, None, None, 0, 0, "skip") == [FACT]
    line = 'falkd keeps {its state} as => {"on": true}'
    record = '{"prompt": "The {} costs €", "subject": "Falk 7", "target": "512", "joined": true}'
    expected = [
        Fact("falkd keeps {} as", "its state", '{"on": true}'),
        Fact("The {} costs €", "Falk 7", "512", joined=True),
        FACT,
    ]
    assert gather([line, record], path, None, None, 0, 0, "skip") == expected
    with pytest.raises(FactError, match="1 of 2 records cannot be used"):
        gather(None, path, None, None, 0, 0)
