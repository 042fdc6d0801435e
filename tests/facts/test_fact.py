"""`Fact`: what it accepts, and the words in which it refuses."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from bluedit.errors import FactError
from bluedit.facts import Fact, Neighbour, Probe, check_batch


def refusal(call: Any, *args: Any, **kwargs: Any) -> str:
    """The text of the FactError that a call must raise."""
    with pytest.raises(FactError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


def test_text_has_the_subject_in_the_prompt() -> None:
    assert Fact("The capital of {} is", "France", "Rome").text == "The capital of France is"


def test_lists_become_tuples_and_the_fact_is_frozen_and_hashable() -> None:
    fact = Fact(
        "{} is in",
        "Rome",
        "Italy",
        paraphrases=["Where is Rome? In"],
        neighbours=[Neighbour("Oslo is in")],
        probes=[Probe("subject", "The river of Rome is the", ["Tiber"])],
        references=["Italy is a country."],
    )
    assert fact.paraphrases == ("Where is Rome? In",)
    assert fact.neighbours == (Neighbour("Oslo is in", None),)
    assert fact.probes == (Probe("subject", "The river of Rome is the", ("Tiber",)),)
    assert fact.references == ("Italy is a country.",)
    assert hash(fact) == hash(dataclasses.replace(fact))
    with pytest.raises(dataclasses.FrozenInstanceError):
        fact.target = "Spain"  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("name", ["paraphrases", "references"])
def test_one_text_is_no_list_of_texts(name: str) -> None:
    expected = f"{name} must be a list of texts, not the text 'one'"
    assert refusal(Fact, "{} is in", "Rome", "Italy", **{name: "one"}) == expected


def test_the_id_does_not_count_in_comparisons() -> None:
    assert Fact("{} is in", "Rome", "Italy", id="a") == Fact("{} is in", "Rome", "Italy", id="b")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompt": " "}, "fact ' ': prompt is empty"),
        ({"subject": ""}, "fact '{} is in': subject is empty"),
        ({"target": "\n"}, "fact '{} is in': target is empty"),
        ({"target": 7}, "fact '{} is in': target must be text, not int"),
        ({"subject": "", "target": None}, "fact '{} is in': subject is empty; target must be text, not NoneType"),
        (
            {"prompt": "Rome is in"},
            "fact 'Rome is in': the prompt must contain '{}' exactly once, where the subject stands; "
            "'Rome is in' has it 0 times",
        ),
        (
            {"prompt": "{} and {} are in"},
            "fact '{} and {} are in': the prompt must contain '{}' exactly once, where the subject stands; "
            "'{} and {} are in' has it 2 times",
        ),
        (
            {"old_target": " Italy"},
            "fact '{} is in': target and old_target are both 'Italy': there is nothing to change",
        ),
        ({"paraphrases": ["fine", ""]}, "fact '{} is in': a paraphrase is empty or not text"),
        ({"paraphrases": [3]}, "fact '{} is in': a paraphrase is empty or not text"),
        (
            {"neighbours": ["Oslo is in"]},
            "fact '{} is in': a neighbour is not a Neighbour with a prompt and an answer that is text, not empty, or None",
        ),
        (
            {"neighbours": [Neighbour(" ")]},
            "fact '{} is in': a neighbour is not a Neighbour with a prompt and an answer that is text, not empty, or None",
        ),
        ({"references": ["fine", " "]}, "fact '{} is in': a reference is empty or not text"),
        ({"probes": ["Rome speaks"]}, "fact '{} is in': a probe is not a Probe with a prompt"),
        ({"probes": [Probe("subject", " ")]}, "fact '{} is in': a probe is not a Probe with a prompt"),
        (
            {"probes": [Probe("paraphrase", "x"), Probe("multihop", "y"), Probe("alias", "z")]},
            "fact '{} is in': the probe 'x' is of the unknown kind 'paraphrase'; choose one of alias, generation, "
            "multihop, portability, subject; the probe 'y' has no answer; the probe 'z' has no answer",
        ),
        ({"probes": [Probe("portability", "x")]}, "fact '{} is in': the probe 'x' has no answer"),
        (
            {"probes": [Probe("subject", "x", "Tiber")]},
            "fact '{} is in': the answers of the probe 'x' must be a list of texts, none of them empty",
        ),
        (
            {"probes": [Probe("subject", "x", ["Tiber", ""])]},
            "fact '{} is in': the answers of the probe 'x' must be a list of texts, none of them empty",
        ),
        (
            {"probes": [Probe("generation", "x", ["y"])]},
            "fact '{} is in': the probe 'x' is to be continued freely; it takes no answers",
        ),
        (
            {"subject": "Rome "},
            "fact '{} is in': the subject 'Rome ' begins or ends with white space; put that into the prompt, beside '{}'",
        ),
        ({"id": "17", "target": ""}, "fact '17': target is empty"),
        (
            {"old_target": "Italy", "paraphrases": [""]},
            "fact '{} is in': target and old_target are both 'Italy': there is nothing to change; "
            "a paraphrase is empty or not text",
        ),
    ],
)
def test_a_bad_fact_is_refused_with_all_its_faults(changes: dict[str, Any], words: str) -> None:
    good: dict[str, Any] = {"prompt": "{} is in", "subject": "Rome", "target": "Italy"}
    assert refusal(Fact, **{**good, **changes}) == words


def test_from_text_means_the_last_occurrence() -> None:
    fact = Fact.from_text("Paris, the Paris of France, is in", "Paris", "Italy", old_target="France", id="9")
    assert fact.prompt == "Paris, the {} of France, is in"
    assert (fact.text, fact.old_target, fact.id) == ("Paris, the Paris of France, is in", "France", "9")


def test_from_text_without_the_subject_is_refused() -> None:
    expected = "subject 'rome' does not occur in the prompt 'Rome is in'; write it exactly as it stands there"
    assert refusal(Fact.from_text, "Rome is in", "rome", "Italy") == expected


def test_from_text_with_an_empty_subject_is_refused() -> None:
    expected = "subject '' does not occur in the prompt 'Rome is in'; write it exactly as it stands there"
    assert refusal(Fact.from_text, "Rome is in", "", "Italy") == expected


def test_from_text_with_both_subject_and_braces_is_refused() -> None:
    expected = "prompt 'Rome {} is in' holds both the subject and '{}'; use one of them"
    assert refusal(Fact.from_text, "Rome {} is in", "Rome", "Italy") == expected


@pytest.mark.parametrize(
    ("line", "fact"),
    [
        ("The capital of {France} is => Rome", Fact("The capital of {} is", "France", "Rome")),
        ("  {Danielle Darrieux} speaks=>English \n", Fact("{} speaks", "Danielle Darrieux", "English")),
        ("Where is { Rome }? It is in => New Italy", Fact("Where is {}? It is in", "Rome", "New Italy")),
    ],
)
def test_parse(line: str, fact: Fact) -> None:
    assert Fact.parse(line) == fact


@pytest.mark.parametrize(
    "line",
    [
        "",
        "The capital of France is => Rome",
        "The capital of {France} is Rome",
        "The capital of {France} is => Rome => Oslo",
        "The {capital} of {France} is => Rome",
        "The capital of {} is => Rome",
        "The capital of France} is {=> Rome",
    ],
)
def test_parse_refuses_what_it_cannot_read(line: str) -> None:
    assert refusal(Fact.parse, line) == (
        f"cannot read the fact {line!r}; write it as 'The capital of {{France}} is => Rome': "
        "the subject in braces once, then '=>' and the new target"
    )


def test_parse_without_a_target_is_refused() -> None:
    assert refusal(Fact.parse, "The capital of {France} is =>") == "fact 'The capital of {} is': target is empty"


def test_check_batch_accepts_different_facts() -> None:
    check_batch([Fact("{} is in", "Rome", "Italy"), Fact("{} is in", "Oslo", "Norway"), Fact("{} is", "Rome", "old")])


def test_check_batch_refuses_no_facts() -> None:
    assert refusal(check_batch, []) == "no facts were given; pass at least one Fact"


def test_check_batch_names_all_repetitions_and_contradictions() -> None:
    facts = [
        Fact("{} is in", "Rome", "Italy"),
        Fact("{} is in", "Oslo", "Norway"),
        Fact("Rome is {}", "in", "Spain"),
        Fact("{} in", "Oslo is", " Norway"),
    ]
    assert refusal(check_batch, facts).split("\n") == [
        "facts 1 and 3 contradict each other: 'Rome is in' => 'Italy' and 'Spain'; keep one",
        "facts 2 and 4 are the same ('Oslo is in' => ' Norway'); keep one",
    ]


@pytest.mark.parametrize("facts", ["Rome is in Italy", ["Rome"], {"prompt": "{} is in"}])
def test_check_batch_refuses_what_is_no_fact(facts: Any) -> None:
    assert refusal(check_batch, facts).startswith("facts must be a list of Fact; make one with Fact(...)")


def test_check_batch_names_the_first_of_many_conflicts() -> None:
    lines = refusal(check_batch, [Fact("{} is in", "Rome", "Italy")] * 30).split("\n")
    assert len(lines) == 21
    assert lines[19:] == ["facts 1 and 21 are the same ('Rome is in' => 'Italy'); keep one", "and 9 more"]
