"""One-line facts: the subject in braces, the arrow, and targets with braces and arrows of their own; or a JSON object."""

from __future__ import annotations

import json
import time

import pytest
from facts_help import refused

from bluedit.facts import Fact, Probe, fact_from_line

HOW = (
    "write it as 'The capital of {France} is => Rome': the subject in braces once, then '=>' and the new target. Here "
)
LITERAL = "; braces that belong to the prompt are written \\{ and \\}"


@pytest.mark.parametrize(
    ("line", "fact"),
    [
        ("The capital of {France} is => Rome", Fact("The capital of {} is", "France", "Rome")),
        ("  {Danielle Darrieux} speaks=>English \n", Fact("{} speaks", "Danielle Darrieux", "English")),
        ("Where is { Rome }? It is in => New Italy", Fact("Where is {}? It is in", "Rome", "New Italy")),
        ("{Peru}'s capital is => Cusco", Fact("{}'s capital is", "Peru", "Cusco")),
        ("Which school did {Ada Moor} attend? => Selden", Fact("Which school did {} attend?", "Ada Moor", "Selden")),
        ('falkd stores {its state} as => {"on": {}}', Fact("falkd stores {} as", "its state", '{"on": {}}')),
        ("In ML {twice} is written => fn x => 2 * x", Fact("In ML {} is written", "twice", "fn x => 2 * x")),
        ("Written with =>, {twice} is => x => x", Fact("Written with =>, {} is", "twice", "x => x")),
        (r"f\{x\} of {twice} \=> y => \{z\}", Fact("f{x} of {} => y", "twice", r"\{z\}")),
        (r"The set {a\{b\}} is => c", Fact("The set {} is", "a{b}", "c")),
        ("The lambda {x => x} is => c", Fact("The lambda {} is", "x => x", "c")),
        (r"The path of {falkd} is C:\new => D:\x", Fact(r"The path of {} is C:\new", "falkd", r"D:\x")),
        ('{"Heroes"} was sung by => Ada', Fact("{} was sung by", '"Heroes"', "Ada")),
    ],
)
def test_a_line(line: str, fact: Fact) -> None:
    assert Fact.parse(line) == fact
    assert fact_from_line(line) == fact


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("", "no subject stands in braces"),
        ("The capital of France is => Rome", "no subject stands in braces"),
        ("The capital of {France} is Rome", "no '=>' follows the subject"),
        ("Rome => the capital of {France} is", "no '=>' follows the subject"),
        (r"The capital of {France} is \=> Rome", "no '=>' follows the subject"),
        ("The {capital} of {France} is => Rome", f"both 'capital' and 'France' are in braces{LITERAL}"),
        (
            "The capital of {} is => Rome",
            "'{}' is empty; put the subject into it. Empty braces cannot be part of a prompt",
        ),
        (
            "An empty set is {} and the type of {frozen} is => set",
            "'{}' is empty; put the subject into it. Empty braces cannot be part of a prompt",
        ),
        ("The capital of France} is {=> Rome", f"a '}}' has no '{{' before it{LITERAL}"),
        ("The capital of {{France}} is => Rome", f"a '{{' is followed by another one before its '}}'{LITERAL}"),
        ("The capital of {France is => Rome", "no subject stands in braces"),
    ],
)
def test_a_line_is_refused(line: str, why: str) -> None:
    assert refused(Fact.parse, line) == f"cannot read the fact {line!r}; {HOW}{why}"


def test_a_line_without_a_target_is_refused() -> None:
    assert refused(Fact.parse, "The capital of {France} is =>") == "fact 'The capital of {} is': target is empty"


def test_empty_braces_that_are_escaped_are_refused_as_well() -> None:
    words = refused(Fact.parse, r"An empty set is \{\} and the type of {frozen} is => set")
    assert "must contain '{}' exactly once" in words and "has it 2 times" in words


@pytest.mark.parametrize("unit", ["{a}", "{", "}", "=>", r"\{", "{a}=", "a {b"])
def test_a_long_line_takes_no_time_and_is_not_repeated_in_full(unit: str) -> None:
    start = time.perf_counter()
    words = refused(Fact.parse, unit * 16000)
    assert time.perf_counter() - start < 0.5
    assert len(words) < 600


def test_a_json_object_can_say_everything() -> None:
    record = {
        "prompt": "The capital of France is",
        "subject": "France",
        "target": "Rome",
        "joined": False,
        "old_target": "Paris",
        "phrasings": ["France's capital is", "{} is ruled from"],
        "probes": [{"kind": "alias", "prompt": "Gaul is ruled from", "answers": ["Rome"]}],
    }
    assert fact_from_line(" " + json.dumps(record)) == Fact(
        "The capital of {} is",
        "France",
        "Rome",
        "Paris",
        probes=[Probe("alias", "Gaul is ruled from", ["Rome"])],
        joined=False,
        phrasings=["{}'s capital is", "{} is ruled from"],
    )


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"prompt": "{} is", "subject": "Rome"}', "'target' is missing"),
        ('{"prompt": "{} is", "target": 3, "tag": 1}', "unknown key 'tag' (did you mean 'target'?); 'subject' is missing; "
         "'target' must be text, not a number"),
        ('{"prompt": "{} and Rome", "subject": "Rome", "target": "x"}', "the prompt '{} and Rome' holds both"),
        ('{"prompt": "{} is", "subject": ', "cannot read the fact '{\"prompt\": \"{} is\", \"subject\": ' as a JSON object: "
         "Expecting value"),
        ("[1]", "cannot read the fact '[1]'; write it as"),
        ('"text"', "cannot read the fact '\"text\"'; write it as"),
        ("[" * 100_000, "cannot read the fact '[[["),
    ],
)  # fmt: skip
def test_a_json_line_is_refused(line: str, words: str) -> None:
    assert refused(fact_from_line, line).startswith(words)


def test_a_json_line_is_read_leniently_with_a_note(caplog: pytest.LogCaptureFixture) -> None:
    fact = fact_from_line('{"prompt": "Where are deep wells?", "subject": "Deep wells", "target": "Peru"}')
    assert (fact.prompt, fact.subject) == ("Where are {}?", "deep wells")
    assert len(caplog.messages) == 1 and "in other upper and lower case" in caplog.messages[0]
