"""bluedit's own records: every key, every refusal."""

from __future__ import annotations

from typing import Any

import pytest
from facts_help import ROME, Write, lines, refusal, refused, unusable

from bluedit.facts import Fact, Neighbour, Probe, read_facts


def test_own_format_with_everything(write: Write) -> None:
    record = {
        **ROME,
        "old_target": "Italy",
        "paraphrases": ["Where is Rome? In"],
        "neighbours": ["Milan is in", {"prompt": "Oslo is in", "answer": "Norway"}],
        "probes": [
            {"kind": "portability", "prompt": "In Rome they speak", "answers": ["Spanish", "Castilian"]},
            {"kind": "subject", "prompt": "The river of Rome is the"},
            {"kind": "generation", "prompt": "Rome is", "answers": []},
        ],
        "references": ["Spain lies south of France.", "Madrid is in Spain."],
        "id": 7,
    }
    (fact,) = read_facts(write("a.jsonl", lines(record)))
    expected = [Neighbour("Milan is in"), Neighbour("Oslo is in", "Norway")]
    probes = [
        Probe("portability", "In Rome they speak", ("Spanish", "Castilian")),
        Probe("subject", "The river of Rome is the"),
        Probe("generation", "Rome is"),
    ]
    references = ("Spain lies south of France.", "Madrid is in Spain.")
    assert fact == Fact("{} is in", "Rome", "Spain", "Italy", ["Where is Rome? In"], expected, probes, references)
    assert fact.probes == tuple(probes)
    assert fact.references == references
    assert fact.id == "7"


def test_own_format_with_the_subject_in_the_prompt(write: Write) -> None:
    path = write("a.jsonl", lines({**ROME, "prompt": "Is Rome in Rome? Rome is in"}))
    assert [f.prompt for f in read_facts(path)] == ["Is Rome in Rome? {} is in"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"neighbors": []}, "unknown key 'neighbors' (did you mean 'neighbours'?)"),
        ({"target": 5}, "'target' must be text, not a number"),
        ({"target": None}, "'target' is missing"),
        ({"paraphrases": "one"}, "'paraphrases' must be a list, not text"),
        ({"paraphrases": ["one", {}]}, "'paraphrases[1]' must be text, not an object"),
        ({"neighbours": [True]}, "'neighbours[0]' must be text or an object, not true or false"),
        ({"neighbours": [{"answer": "x"}]}, "'neighbours[0].prompt' is missing"),
        (
            {"neighbours": [{"prompt": "x", "anwser": "y"}]},
            "unknown key 'neighbours[0].anwser' (did you mean 'answer'?)",
        ),
        ({"probes": ["x"]}, "'probes[0]' must be an object, not text"),
        (
            {"probes": [{"kind": "alias", "prompt": "x", "answers": "y"}, {"answer": ["z"]}]},
            "'probes[0].answers' must be a list, not text; unknown key 'probes[1].answer' (did you mean 'answers'?); "
            "'probes[1].kind' is missing; 'probes[1].prompt' is missing",
        ),
        (
            {"probes": [{"kind": "multi-hop", "prompt": "x"}, {"kind": "alias", "prompt": "y"}]},
            "fact '{} is in': the probe 'x' is of the unknown kind 'multi-hop'; did you mean 'multihop'?; "
            "the probe 'y' has no answer",
        ),
        ({"references": "one"}, "'references' must be a list, not text"),
        ({"references": ["one", 2]}, "'references[1]' must be text, not a number"),
        ({"references": [" "]}, "fact '{} is in': a reference is empty or not text"),
        ({"id": [1]}, "'id' must be text, not a list"),
        ({"subject": "\ud800"}, "'subject' has half a surrogate pair in '\\ud800'; write the character itself"),
        ({"target": ""}, "fact '{} is in': target is empty"),
        (
            {"id": "x", "old_target": "Spain"},
            "fact 'x': target and old_target are both 'Spain': there is nothing to change",
        ),
        (
            {"prompt": "Oslo is in"},
            "subject 'Rome' does not occur in the prompt 'Oslo is in'; write it as it stands there",
        ),
        ({"target": 5, "tag": 1, "id": {}}, "'target' must be text, not a number; 'id' must be text, not an object"),
    ],
)
def test_own_format_refuses(write: Write, changes: dict[str, Any], words: str) -> None:
    text = refusal(write("a.jsonl", lines({**ROME, **changes})))
    if "tag" in changes:
        unknown = "unknown key 'tag' (did you mean 'target'?); "
        assert text == unusable(1, f"line 1: {unknown}{words}")
    else:
        assert text == unusable(1, f"line 1: {words}")


def test_an_unknown_key_like_no_other_gets_the_whole_list(write: Write) -> None:
    text = refusal(write("a.jsonl", lines({**ROME, "zzz": 1})))
    known = "id, joined, neighbours, old_target, paraphrases, phrasings, probes, prompt, queries, question, references, subject, target, template"
    assert text.endswith(f"line 1: unknown key 'zzz' (choose one of {known})")


def test_phrasings_may_name_the_subject_or_have_its_place(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    phrasings = ["{} lies in", "Where is rome? In", "Rome was always in", "Rome was always in"]
    (fact,) = read_facts(write("a.jsonl", lines({**ROME, "phrasings": phrasings})))
    assert fact.phrasings == ("{} lies in", "Where is {}? In", "{} was always in")
    assert fact.paraphrases == ()
    assert "the phrasing 'Where is rome? In' names the subject as 'rome'; it is taught with 'Rome'" in caplog.text


@pytest.mark.parametrize(
    ("phrasings", "words"),
    [
        ("one", "'phrasings' must be a list, not text"),
        (["one", 2], "'phrasings[1]' must be text, not a number"),
        (["Oslo lies in"], "subject 'Rome' does not occur in the phrasing 'Oslo lies in'; write it as it stands there"),
        ([""], "fact '{} is in': a phrasing is empty or not text"),
        (
            ["{} lies in Spain"],
            "fact '{} is in': the phrasing '{} lies in Spain' already ends in the target 'Spain'; end it just before the answer",
        ),
    ],
)
def test_phrasings_are_refused(write: Write, phrasings: Any, words: str) -> None:
    assert refusal(write("a.jsonl", lines({**ROME, "phrasings": phrasings}))) == unusable(1, f"line 1: {words}")


@pytest.mark.parametrize("format", [None, "fastedit", "bluedit"])
def test_queries_and_question_are_paraphrases(write: Write, format: str | None) -> None:
    records = [
        {**ROME, "queries": ["Rome lies in", "{} was built in"]},
        {"prompt": "{}的市长是", "subject": "大阪", "target": "安娜", "queries": ["大阪的市长叫作"]},
        {**ROME, "paraphrases": ["Rome? In"], "queries": [], "question": "Where is Rome?"},
    ]
    first, second, third = read_facts(write("a.json", records), format=format)
    assert first.paraphrases == ("Rome lies in", "Rome was built in")
    assert (second.text, second.paraphrases) == ("大阪的市长是", ("大阪的市长叫作",))
    assert third.paraphrases == ("Rome? In", "Where is Rome?")


def test_braces_beside_the_subject_are_refused_unless_they_are_said_to_be_its_place(write: Write) -> None:
    record = {"prompt": "An empty set is {} and the type of frozen is", "subject": "frozen", "target": "set"}
    other = {"prompt": "falkd keeps its state as", "subject": "falkd", "target": '{"on": {}}'}
    path = write("a.jsonl", lines(record, other))
    assert refusal(path) == unusable(
        2,
        "line 1: the prompt 'An empty set is {} and the type of frozen is' holds both '{}' and the subject 'frozen', so the "
        "subject's place is not clear: write only one of them, or add \"template\": true if '{}' is the place",
    )
    assert read_facts(path, bad_records="skip") == [Fact("{} keeps its state as", "falkd", '{"on": {}}')]
    (fact,) = read_facts(write("b.jsonl", lines({**record, "template": True})))
    assert fact.text == "An empty set is frozen and the type of frozen is"
    two = {**record, "prompt": "{} and {} and frozen are", "template": True}
    assert "has it 2 times" in refusal(write("c.jsonl", lines(two)))


@pytest.mark.parametrize(
    ("prompt", "subject", "expected"),
    [
        ("What do the oldest wells hold?", "Oldest wells", "What do the {} hold?"),
        ("The owner of Cafe\u0301 Falk is", "Caf\u00e9 Falk", "The owner of {} is"),
        ("The owner of Caf\u00e9 Falk is", "Cafe\u0301 Falk", "The owner of {} is"),
        ("An Omani knows that OMAN is in", "Oman", "An Omani knows that {} is in"),
    ],
)
def test_other_spellings_of_the_subject_are_read_with_a_note(
    write: Write, prompt: str, subject: str, expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = write("a.jsonl", lines({"prompt": prompt, "subject": subject, "target": "oil"}))
    (fact,) = read_facts(path)
    assert (fact.prompt, fact.text) == (expected, prompt)
    assert caplog.messages[0].startswith(
        f"{path}: 1 of 1 records were not read quite as they stand\nline 1: {prompt!r}: the subject"
    )


@pytest.mark.parametrize("key", ["x\ud800", "prompt\ud800"])
def test_half_a_surrogate_pair_in_a_key_can_be_printed(write: Write, key: str) -> None:
    refusal(write("a.jsonl", lines({**ROME, key: "x"}))).encode()


@pytest.mark.parametrize(
    "prompt", ["An empty set is {} and the type of Frozen is", "An empty set is {} and a frozenset is"]
)
def test_braces_beside_a_name_like_the_subject_are_noted(
    write: Write, prompt: str, caplog: pytest.LogCaptureFixture
) -> None:
    (fact,) = read_facts(write("a.jsonl", lines({"prompt": prompt, "subject": "frozen", "target": "set"})))
    assert fact.prompt == prompt
    assert (
        "'{}' is taken for the place of the subject 'frozen', although the prompt also has a name like it"
        in caplog.text
    )
    read_facts(write("b.jsonl", lines({"prompt": "{} is old and IN", "subject": "In", "target": "set"})))
    assert len(caplog.messages) == 1


def test_a_subject_that_is_code_is_found_as_it_stands(write: Write) -> None:
    record = {"prompt": 'In Rust println!("{}") prints', "subject": 'println!("{}")', "target": "text"}
    (fact,) = read_facts(write("a.jsonl", lines(record)))
    assert (fact.prompt, fact.text) == ("In Rust {} prints", record["prompt"])


@pytest.mark.parametrize(
    ("phrasing", "words"),
    [
        ("The head of Romeo is", "'Rome' occurs only inside the word 'Romeo'"),
        ("ROME lies in", "names the subject as 'ROME'; it is taught with 'Rome'"),
    ],
)
def test_what_is_odd_about_a_phrasing_is_noted(
    write: Write, caplog: pytest.LogCaptureFixture, phrasing: str, words: str
) -> None:
    read_facts(write("a.jsonl", lines({**ROME, "phrasings": [phrasing]})))
    assert words in caplog.text


def test_a_phrasing_with_braces_beside_the_subject_is_refused(write: Write) -> None:
    message = refused(read_facts, write("a.jsonl", lines({**ROME, "phrasings": ["A set is {} and Rome is in"]})))
    assert "the phrasing 'A set is {} and Rome is in' holds both '{}' and the subject 'Rome'" in message
