"""`Fact` and lists of facts: what they accept, and the text of each refusal."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from facts_help import refused

from bluedit.errors import FactError
from bluedit.facts import Fact, Neighbour, Probe, check_batch


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
def test_a_text_is_not_a_list_of_texts(name: str) -> None:
    expected = f"{name} must be a list of texts, not the text 'one'"
    assert refused(Fact, "{} is in", "Rome", "Italy", **{name: "one"}) == expected


def test_comparisons_ignore_the_id() -> None:
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
            "fact '{} is in': the probe 'x' is continued freely; it takes no answers",
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
    assert refused(Fact, **{**good, **changes}) == words


def test_phrasings_are_templates_without_repetitions() -> None:
    fact = Fact("{} is in", "Rome", "Italy", phrasings=["Where is {}? In", "{} is in", "{} lies in", "Where is {}? In"])
    assert fact.phrasings == ("Where is {}? In", "{} lies in")
    assert Fact("{} is in", "Rome", "Italy").phrasings == ()


@pytest.mark.parametrize(
    ("phrasings", "words"),
    [
        ("one", "phrasings must be a list of texts, not the text 'one'"),
        ([" "], "fact '{} is in': a phrasing is empty or not text"),
        ([3], "fact '{} is in': a phrasing is empty or not text"),
        (
            ["Rome lies in", "{} and {}"],
            "fact '{} is in': the phrasing must contain '{}' exactly once, where the subject stands; 'Rome lies in' has it 0 "
            "times; the phrasing must contain '{}' exactly once, where the subject stands; '{} and {}' has it 2 times",
        ),
        (
            ["{} lies in Italy"],
            "fact '{} is in': the phrasing '{} lies in Italy' already ends in the target 'Italy'; end it just before the answer",
        ),
    ],
)
def test_phrasings_are_checked_like_the_prompt(phrasings: Any, words: str) -> None:
    assert refused(Fact, "{} is in", "Rome", "Italy", phrasings=phrasings) == words


def test_a_phrasing_may_end_in_a_word_that_ends_like_the_target() -> None:
    assert Fact("{} is an", "iron", "ore", phrasings=["{} is before"]).phrasings == ("{} is before",)


def test_braces_in_a_paraphrase_are_the_subject_unless_it_is_named() -> None:
    asked = ["Where is {}? In", "{} and Rome are in", "{} and {} are in"]
    fact = Fact("{} is in", "Rome", "Italy", paraphrases=asked)
    assert fact.paraphrases == ("Where is Rome? In", *asked[1:])


HALF = "x\ud800"


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"prompt": "{} x\ud800"}, "prompt"),
        ({"subject": HALF}, "subject"),
        ({"target": HALF}, "target"),
        ({"old_target": HALF}, "old_target"),
        ({"id": HALF}, "id"),
        ({"phrasings": ["{} x\ud800"]}, "a phrasing"),
        ({"paraphrases": ["fine", HALF]}, "a paraphrase"),
        ({"references": [HALF]}, "a reference"),
        ({"neighbours": [Neighbour(HALF)]}, "a neighbour"),
        ({"neighbours": [Neighbour("fine", HALF)]}, "a neighbour's answer"),
        ({"probes": [Probe("alias", HALF, ["fine"])]}, "a probe"),
        ({"probes": [Probe("alias", "fine", ["fine", HALF])]}, "a probe's answer"),
        ({"probes": [Probe("alias", "fine", ["fine"], [["fine", HALF]])]}, "a probe's answer"),
    ],
)
def test_half_a_surrogate_pair_is_refused_wherever_it_stands(changes: dict[str, Any], place: str) -> None:
    words = refused(Fact, **{"prompt": "{} is in", "subject": "Rome", "target": "Italy", **changes})
    assert f": {place} has half a surrogate pair in '" in words and words.endswith("; write the character itself")
    words.encode()


@pytest.mark.parametrize("joined", ["yes", 1])
def test_joined_is_true_false_or_none(joined: Any) -> None:
    words = f"fact '{{}} is in': joined must be True, False or None, not {joined!r}"
    assert refused(Fact, "{} is in", "Rome", "Italy", joined=joined) == words


def test_from_text_takes_the_last_mention() -> None:
    fact = Fact.from_text("Paris, the Paris of France, is in", "Paris", "Italy", old_target="France", id="9")
    assert fact.prompt == "Paris, the {} of France, is in"
    assert (fact.text, fact.old_target, fact.id) == ("Paris, the Paris of France, is in", "France", "9")


@pytest.mark.parametrize(
    ("text", "subject", "words"),
    [
        ("Rome is in", "Oslo", "subject 'Oslo' does not occur in the prompt 'Rome is in'; write it as it stands there"),
        ("Rome is in", "", "subject '' does not occur in the prompt 'Rome is in'; write it as it stands there"),
        (
            "The mayor of Selden is",
            "Seldan",
            "subject 'Seldan' does not occur in the prompt 'The mayor of Selden is'; did you mean 'Selden'?",
        ),
        (
            "Rome {} is in",
            "Rome",
            "the prompt 'Rome {} is in' holds both '{}' and the subject 'Rome'; '{}' marks the subject's place and cannot be "
            "part of the text: use one of them",
        ),
    ],
)
def test_from_text_refuses(text: str, subject: str, words: str) -> None:
    assert refused(Fact.from_text, text, subject, "Italy") == words


def test_from_text_logs_what_is_not_the_subject_as_a_whole_word(caplog: pytest.LogCaptureFixture) -> None:
    assert Fact.from_text("Rome is in", "rome", "Italy").subject == "Rome"
    assert Fact.from_text("The Romans live in", "Roman", "Italy").prompt == "The {}s live in"
    assert Fact.from_text("Rome is in", "Rome", "Italy").subject == "Rome"
    assert caplog.messages == [
        "'Rome is in': the subject 'rome' is written 'Rome' in the prompt, in other upper and lower case; the prompt's "
        "spelling is used",
        "'The Romans live in': the subject 'Roman' occurs only inside the word 'Romans' and is taken from there",
    ]


def test_check_batch_accepts_different_facts() -> None:
    check_batch([Fact("{} is in", "Rome", "Italy"), Fact("{} is in", "Oslo", "Norway"), Fact("{} is", "Rome", "old")])


def test_check_batch_refuses_no_facts() -> None:
    assert refused(check_batch, []) == "no facts were given; pass at least one Fact"


def test_check_batch_names_all_repetitions_and_contradictions() -> None:
    facts = [
        Fact("{} is in", "Rome", "Italy"),
        Fact("{} is in", "Oslo", "Norway"),
        Fact("Rome is {}", "in", "Spain"),
        Fact("{} in", "Oslo is", " Norway"),
    ]
    assert refused(check_batch, facts).split("\n") == [
        "facts 1 and 3 contradict each other: 'Rome is in' => 'Italy' and 'Spain'; keep one",
        "facts 2 and 4 are the same ('Oslo is in' => 'Norway'); keep one",
    ]


@pytest.mark.parametrize("facts", ["Rome is in Italy", ["Rome"], {"prompt": "{} is in"}])
def test_check_batch_refuses_what_is_not_a_fact(facts: Any) -> None:
    assert refused(check_batch, facts).startswith("facts must be a list of Fact; make one with Fact(...)")


def test_check_batch_names_the_first_of_many_conflicts() -> None:
    lines = refused(check_batch, [Fact("{} is in", "Rome", "Italy")] * 30).split("\n")
    assert len(lines) == 21
    assert lines[19:] == ["facts 1 and 21 are the same ('Rome is in' => 'Italy'); keep one", "and 9 more"]


def test_check_batch_refuses_a_phrasing_that_contradicts_another_fact() -> None:
    facts = [
        Fact("{} is in", "Rome", "Italy", phrasings=["{} lies in"]),
        Fact("{} lies in", "Rome", "Spain"),
        Fact("{} lies in", "Rome", "Italy"),
        Fact("Where is {}? In", "Rome", "Peru", phrasings=["{} is in"]),
        Fact("Where is {}? In", "Oslo", "Norway", phrasings=["{} lies in"]),
    ]
    assert refused(check_batch, facts).split("\n") == [
        "facts 1 and 2 contradict each other: 'Rome lies in' => 'Italy' and 'Spain'; keep one",
        "facts 1 and 4 contradict each other: 'Rome is in' => 'Italy' and 'Peru'; keep one",
    ]
    check_batch([facts[0], facts[2], facts[4]])


def test_texts_are_all_that_is_taught() -> None:
    fact = Fact("{} is in", "Rome", "Italy", phrasings=["Where is {}? In"], paraphrases=["Rome lies in"])
    assert fact.texts == ("Rome is in", "Where is Rome? In")


@pytest.mark.parametrize(
    ("subject", "target"), [("\ufeffRome", "Peru"), ("Rome\u200b", "Peru"), ("Rome", "\u202bPeru\u202c")]
)
def test_what_cannot_be_seen_is_dropped(subject: str, target: str, caplog: pytest.LogCaptureFixture) -> None:
    fact = Fact("{} is in", subject, target)
    assert (fact.subject, fact.target) == ("Rome", "Peru")
    assert "characters that cannot be seen; they are dropped" in caplog.text


def test_what_is_part_of_a_sign_stays() -> None:
    england = "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
    assert Fact("The flag of {} is", "England", england).target == england


def test_a_space_behind_what_cannot_be_seen_counts() -> None:
    fact = Fact("{} uses", "\ufeffRome", "\ufeff .NET", paraphrases=["In {} one uses"])
    assert (fact.target, fact.joined, fact.paraphrases) == (".NET", False, ("In Rome one uses",))


@pytest.mark.parametrize(("name", "values"), [("subject", ("\u200b", "Peru")), ("target", ("Rome", "\u200b"))])
def test_what_cannot_be_seen_at_all_is_empty(name: str, values: tuple[str, str]) -> None:
    with pytest.raises(FactError, match=f"{name} is empty"):
        Fact("{} is in", *values)


@pytest.mark.parametrize("place", ["{subject}", "{0}", "%s", "[X]"])
def test_other_marks_for_the_subject_are_named(place: str) -> None:
    with pytest.raises(FactError, match=r"write '\{\}' in place of"):
        Fact.from_text(f"The capital of {place} is", "Peru", "Rome")


def test_a_subject_in_braces_is_named() -> None:
    with pytest.raises(FactError, match="has its subject in braces, as --fact takes it"):
        Fact.from_text("The capital of {Peru} is", "Peru", "Rome")


def test_two_unicode_forms_contradict_each_other() -> None:
    composed, apart = Fact("{} is in", "Caf\u00e9", "Rome"), Fact("{} is in", "Cafe\u0301", "Rome")
    with pytest.raises(FactError, match="are the same"):
        check_batch([composed, apart])
    with pytest.raises(FactError, match="contradict each other"):
        check_batch([composed, Fact("{} is in", apart.subject, "Peru")])
