"""The space between prompt and target belongs to the user: a leading space, one at the prompt's end, or `joined`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from facts_help import Write, lines, refused

from bluedit.facts import Fact, fact_from_line, read_facts, write_facts
from bluedit.facts.records import fact_record, read_record

PRICE = {"prompt": "The Falk 7 costs €", "subject": "Falk 7", "target": "512"}


def test_by_default_the_text_decides() -> None:
    fact = Fact("{} runs on", "Falk 7", ".NET")
    assert (fact.target, fact.joined) == (".NET", None)


@pytest.mark.parametrize("target", [" .NET", "  .NET", "\u00a0.NET", " .NET\n"])
def test_a_leading_space_of_the_target_asks_for_one(target: str) -> None:
    fact = Fact("{} runs on", "Falk 7", target)
    assert (fact.target, fact.joined) == (".NET", False)
    assert fact == Fact("{} runs on", "Falk 7", ".NET", joined=False)


def test_a_line_break_before_the_target_asks_for_nothing() -> None:
    fact = Fact("{} runs on", "Falk 7", "\n.NET ")
    assert (fact.target, fact.joined) == (".NET", None)


@pytest.mark.parametrize("prompt", ["{} runs on ", "{} runs on   ", "{} runs on\u00a0"])
def test_a_space_at_the_prompts_end_moves_before_the_target(prompt: str, caplog: pytest.LogCaptureFixture) -> None:
    fact = Fact(prompt, "Falk 7", "steam")
    assert (fact.prompt, fact.target, fact.joined) == ("{} runs on", "steam", False)
    assert caplog.messages == [
        f"the prompt {prompt!r} ends in a space, which is moved before the target: '{{}} runs on'"
    ]


@pytest.mark.parametrize("prompt", ["{}\n", "{}:\t", "Q: {}?\nA:\n"])
def test_other_white_space_at_the_prompts_end_stays(prompt: str, caplog: pytest.LogCaptureFixture) -> None:
    fact = Fact(prompt, "Falk 7", "steam")
    assert (fact.prompt, fact.joined) == (prompt, None)
    assert not caplog.messages


def test_phrasings_lose_the_space_at_their_end(caplog: pytest.LogCaptureFixture) -> None:
    fact = Fact("{} runs on", "Falk 7", "steam", phrasings=["What moves {}? ", "{} is moved by"])
    assert fact.phrasings == ("What moves {}?", "{} is moved by")
    assert fact.joined is None, "it concerns the prompt only"
    assert caplog.messages == ["the phrasing 'What moves {}? ' ends in a space, which is dropped"]


@pytest.mark.parametrize(
    ("prompt", "target", "asked"),
    [("{} costs €", " 512", "the target begins with a space"), ("{} costs € ", "512", "the prompt ends in a space")],
)
def test_a_space_and_joined_contradict_each_other(prompt: str, target: str, asked: str) -> None:
    words = refused(Fact, prompt, "Falk 7", target, joined=True)
    assert words == f"fact '{{}} costs €': {asked}, but joined=True asks for none; drop one of them"


@pytest.mark.parametrize("joined", [True, False, None])
def test_joined_survives_records_files_lines_and_replacement(tmp_path: Path, joined: bool | None) -> None:
    fact = Fact("{} costs €", "Falk 7", "512", joined=joined)
    assert ("joined" in fact_record(fact)) == (joined is not None)
    write_facts(tmp_path / "a.jsonl", [fact])
    line = (tmp_path / "a.jsonl").read_text()
    changed = dataclasses.replace(fact, target="513")
    assert {fact} == {read_record(fact_record(fact)), *read_facts(tmp_path / "a.jsonl"), fact_from_line(line)}
    assert changed.joined is joined


def test_records_say_it_in_all_three_ways(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    records = [PRICE, PRICE | {"joined": True}, PRICE | {"target": " 512"}, PRICE | {"prompt": "The Falk 7 costs € "}]
    path = write("a.jsonl", lines(*records))
    facts = read_facts(path)
    assert [(f.prompt, f.target, f.joined) for f in facts] == [
        ("The {} costs €", "512", joined) for joined in (None, True, False, False)
    ]
    assert caplog.messages == [
        f"{path}: 1 of 4 records were not read quite as they stand\n"
        "line 4: the prompt 'The {} costs € ' ends in a space, which is moved before the target"
    ]
    phrasing = "For the Falk 7 one pays "
    assert read_facts(write("b.jsonl", lines(PRICE | {"phrasings": [phrasing]})))[0].phrasings == (
        "For the {} one pays",
    )
    assert "line 1: the phrasing 'For the {} one pays ' ends in a space, which is dropped" in caplog.messages[-1]


def test_tables_say_it_with_a_column_or_a_quoted_space(write: Write) -> None:
    path = write(
        "a.csv",
        'prompt,subject,target,joined\n{} costs €,A, 512 ,\n{} costs €,B," 512",\n{} costs €,C,512,no\n{} costs €,D,512,TRUE\n'
        "{} costs € ,E,512,\n",
    )
    assert [(f.target, f.joined) for f in read_facts(path)] == [("512", j) for j in (None, False, False, True, None)]
    path = write("b.csv", "prompt,subject,target,joined\n{} costs €,A,512,maybe\n")
    assert refused(read_facts, path).endswith("line 2: 'joined' must be true or false, not text")
