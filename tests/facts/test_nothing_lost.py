"""Nothing that a record says is lost without a word, and what it leaves empty counts as absent."""

from __future__ import annotations

import json
from typing import Any

import pytest
from facts_help import FACT, ROME, Write, lines, refusal, refused, unusable

from bluedit.facts import Fact, Neighbour, Probe, fact_from_line, read_facts
from bluedit.facts._fields import Repeats

TWICE = '{"prompt": "{} is in", "subject": "Rome", "subject": "Oslo", "target": "Spain"}'
WORDS = "the key 'subject' occurs 2 times, with 'Rome' and 'Oslo'; keep one of them"
EASYEDIT = {"prompt": "Rome is in", "subject": "Rome", "target_new": "Spain"}
ZSRE = {"src": "Where is Rome?", "subject": "Rome", "alt": "Spain"}


@pytest.mark.parametrize(
    ("name", "text", "where"),
    [
        ("a.jsonl", f"{TWICE}\n{json.dumps(ROME)}\n", "line 1"),
        ("a.json", f"[{json.dumps(ROME)},\n{TWICE}]", "record 2"),
        ("a.json", f'{{"facts": [{TWICE}, {json.dumps(ROME)}]}}', "record 1"),
        ("a.json", f'{{"version": 1,\n"facts": [{TWICE}, {json.dumps(ROME)}]}}', "record 1"),
    ],
)
def test_a_key_that_occurs_twice_is_a_fault_of_its_record(write: Write, name: str, text: str, where: str) -> None:
    path = write(name, text)
    assert refusal(path) == unusable(2, f"{where}: {WORDS}")
    assert read_facts(path, bad_records="skip") == [FACT]


def test_keys_that_occur_twice_inside_a_record_around_the_records_and_in_a_line(write: Write) -> None:
    inner = (
        '{"prompt": "{} is in", "subject": "Rome", "target": "Spain", "neighbours": [{"prompt": "a", "prompt": "b"}]}'
    )
    words = "the key 'prompt' occurs 2 times, with 'a' and 'b'; keep one of them"
    assert refusal(write("a.json", inner)) == unusable(1, f"line 1: {words}")
    record = json.dumps(ROME)
    around = f'{{"facts": [{record}], "facts": [{record}, {record}]}}'
    assert refusal(write("b.json", around)) == "FILE: the key 'facts' occurs 2 times; keep one of them"
    assert refused(fact_from_line, TWICE) == f"cannot read the fact {TWICE!r}: {WORDS}"


def test_a_key_that_occurs_twice_with_one_value_is_read(write: Write) -> None:
    assert read_facts(write("a.jsonl", TWICE.replace("Oslo", "Rome"))) == [FACT]


def test_only_the_object_itself_is_to_blame() -> None:
    """An object inside a value that is overwritten is gone: no other may get its fault."""
    repeats = Repeats()
    text = '[{"a": {"x": 1, "x": 2}, "a": {"y": 3}}, {"b": [{"c": 1}]}, {"d": 1, "d": [2], "d": 3}]'
    first, second, third = json.loads(text, object_pairs_hook=repeats.pairs)
    assert repeats.within(first) == "the key 'a' occurs 2 times; keep one of them"
    assert repeats.within(second) == ""
    assert repeats.within([second, third]) == "the key 'd' occurs 3 times; keep one of them"
    assert repeats.within([third], deep=False) == ""


def test_easyedits_records_may_have_bluedits_own_optional_keys(write: Write) -> None:
    more = {
        "phrasings": ["Rome lies in", "{} was in"],
        "paraphrases": ["Rome? In"],
        "neighbours": ["Oslo is in", {"prompt": "Bern is in", "answer": "Peru"}],
        "joined": True,
        "old_target": "Italy",
        "probes": [{"kind": "generation", "prompt": "Rome is"}],
        "references": ["Madrid is in Spain."],
    }
    record = {**EASYEDIT, "rephrase_prompt": "Rome was in", "locality_prompt": "Milan is in", **more}
    (fact,) = read_facts(write("a.jsonl", lines(record)))
    assert fact == Fact(
        "{} is in",
        "Rome",
        "Spain",
        "Italy",
        ["Rome was in", "Rome? In"],
        [Neighbour("Milan is in"), Neighbour("Oslo is in"), Neighbour("Bern is in", "Peru")],
        [Probe("generation", "Rome is")],
        ["Madrid is in Spain."],
        phrasings=["{} lies in", "{} was in"],
        joined=True,
    )
    text = refusal(write("b.jsonl", lines({**EASYEDIT, "phrasings": "Rome lies in", "joined": "no"})))
    assert text == unusable(1, "line 1: 'joined' must be true or false, not text; 'phrasings' must be a list, not text")


def test_easyedits_two_rewordings_are_both_asked(write: Write) -> None:
    both = {"rephrase_prompt": "Rome was in", "rephrase": ["Rome lies in", "Rome was in"]}
    (fact,) = read_facts(write("a.jsonl", lines({**EASYEDIT, **both})))
    assert fact.paraphrases == ("Rome was in", "Rome lies in")


KNOWN = {"prompt": "Rome is in", "subject": "Rome", "attribute": "Spain"}


@pytest.mark.parametrize(
    ("format", "record"),
    [
        ("zsre", ZSRE),
        ("counterfact", {"requested_rewrite": {"prompt": "{} is", "subject": "Rome", "target_new": {"str": "x"}}}),
        ("mquake", {"requested_rewrite": [{"prompt": "{} is", "subject": "Rome", "target_new": {"str": "x"}}]}),
        ("wikibigedit", {"update": "Where is Rome?", "subject": "Rome", "ans": "Spain"}),
        ("hallueditbench", {"question": "Where is Rome?", "subject": "Rome", "object": "Spain"}),
        ("known", KNOWN),
        ("mzsre", {"en": ZSRE}),
    ],
)
@pytest.mark.parametrize(("key", "value"), [("phrasings", ["Rome is in"]), ("joined", False), ("old_target", "Peru")])
def test_other_formats_refuse_them(write: Write, format: str, record: dict[str, Any], key: str, value: object) -> None:
    text = refusal(write("a.jsonl", lines({**record, key: value})))
    assert text == unusable(
        1,
        f"line 1: {key!r} is a key of bluedit's own format, which {format} does not read; leave it out, or convert the file "
        "with `bluedit facts FILE --out facts.jsonl` and add it there",
    )
    for empty in (None, "", [], float("nan")):
        assert len(read_facts(write("b.jsonl", lines({**record, key: empty})))) == 1


@pytest.mark.parametrize("empty", ["", " ", None])
def test_an_empty_question_beside_the_edit_counts_as_absent(write: Write, empty: str | None) -> None:
    absent = {"loc": empty, "loc_ans": empty, "rephrase": empty}
    assert read_facts(write("a.jsonl", lines({**ZSRE, **absent}))) == [Fact("Where is {}?", "Rome", "Spain")]
    other = {"locality_prompt": empty, "locality_ground_truth": empty, "rephrase_prompt": empty}
    assert read_facts(write("b.jsonl", lines({**EASYEDIT, **other}))) == [FACT]


def test_empty_lists_of_tests_count_as_absent(write: Write) -> None:
    assert read_facts(write("a.jsonl", lines({**EASYEDIT, "portability": [], "locality": []}))) == [FACT]
    wikibio = {"text": "Anna Vell was born.", "labels": "She sang.", "concept": "Anna Vell", "locality": []}
    assert read_facts(write("b.json", [wikibio]))[0].probes == ()


@pytest.mark.parametrize(
    ("record", "where"),
    [
        ({**ROME, "neighbours": ["Oslo is in", " "]}, "neighbours[1]"),
        ({**ROME, "neighbours": [{"prompt": ""}]}, "neighbours[0]"),
        (
            {
                "requested_rewrite": {"prompt": "{} is", "subject": "Rome", "target_new": {"str": "x"}},
                "neighborhood_prompts": [""],
            },
            "neighborhood_prompts[0]",
        ),
    ],
)
def test_an_empty_neighbour_is_named_by_its_key(write: Write, record: dict[str, Any], where: str) -> None:
    text = refusal(write("a.jsonl", lines(record)))
    assert text == unusable(1, f"line 1: the prompt of '{where}' is empty; write it, or leave the item out")
