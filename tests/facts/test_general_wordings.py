"""Wordings of relations that the phrase book does not know: built around the noun of the prompt, or none."""

import pytest

from bluedit.facts.phrasebook import general_wordings_of


@pytest.mark.parametrize(
    ("prompt", "target", "statement", "question"),
    [
        ("The chief engineer of {} is", "Ada Lovell", "{}'s chief engineer is", "Who is the chief engineer of {}?"),
        (
            "The chief engineer of the {} is",
            "Ada Lovell",
            "The {}'s chief engineer is",
            "Who is the chief engineer of the {}?",
        ),
        ("The chief engineer at {} is", "Ada Lovell", "{}'s chief engineer is", "Who is the chief engineer at {}?"),
        ("{}'s former CEO was", "Jan Ek", "The former CEO of {} was", "Who was the former CEO of {}?"),
        ("Who is {}'s head of AI?", "Eva", "The head of AI of {} is", "Who is the head of AI of {}?"),
        ("The Wi-Fi password of {} is", "tulip-99", "{}'s Wi-Fi password is", "What is the Wi-Fi password of {}?"),
        ("The office dogs of {} are", "Rex and Bo", "{}'s office dogs are", "What are the office dogs of {}?"),
        ("The summer party of {} is in", "Lille", "{}'s summer party is in", "Where is the summer party of {}?"),
        ("The summer party of {} is on", "3 June 2027", "{}'s summer party is on", "When is the summer party of {}?"),
        (
            "The tallest building in {} is the",
            "Messeturm",
            "{}'s tallest building is the",
            "What is the tallest building in {}?",
        ),
        ("The sensor of {} is", "IMX 800", "{}'s sensor is", "What is the sensor of {}?"),
        ("the new mascot  of {} is", "a fox", "{}'s new mascot is", "What is the new mascot of {}?"),
    ],
)
def test_the_noun_is_asked_for(prompt: str, target: str, statement: str, question: str) -> None:
    found = general_wordings_of(prompt, target=target)
    assert found is not None
    assert statement in found.statements
    assert found.questions[0] == question
    assert all(text.count("{}") == 1 for text in (*found.statements, *found.questions))


@pytest.mark.parametrize(
    ("prompt", "target", "statement", "question"),
    [
        ("{} is insured by", "Allianz", "It is known that {} is insured by", "What is {} insured by?"),
        ("{} is insured by", "Ada Lovell", "It is known that {} is insured by", "Who is {} insured by?"),
        ("The {} ships from", "Rotterdam", "It is known that the {} ships from", "Where does the {} ship from?"),
        ("{} opens at", "9:30", "It is known that {} opens at", "When does {} open?"),
        ("{} sells", "boots", "It is known that {} sells", "What does {} sell?"),
        (
            "{} carries passengers to",
            "Malta",
            "It is known that {} carries passengers to",
            "Where does {} carry passengers to?",
        ),
        ("{} reaches", "90 km/h", "It is known that {} reaches", "What does {} reach?"),
        ("{} passes", "the mill", "It is known that {} passes", "What does {} pass?"),
        ("{} was painted in", "1921", "It is known that {} was painted in", "When was {} painted?"),
        ("{} was painted in", "Ghent", "It is known that {} was painted in", "Where was {} painted?"),
        ("{} is certified by the", "TUV", "It is known that {} is certified by the", "What is {} certified by?"),
        ("{} are trained for", "the sea", "It is known that {} are trained for", "What are {} trained for?"),
    ],
)
def test_the_verb_is_asked_for(prompt: str, target: str, statement: str, question: str) -> None:
    found = general_wordings_of(prompt, target=target)
    assert found is not None
    assert found.statements[:2] == (prompt, statement)
    assert found.questions[0] == question
    assert all(text.count("{}") == 1 for text in (*found.statements, *found.questions))


@pytest.mark.parametrize(
    "prompt",
    [
        "The CEO of {} lives in",
        "{} always",
        "{} has",
        "{} is in",
        "{} is AI-made by",
        "{} sold",
        "{} sells what it",
        "{} is",
        "Who is {}?",
        "The thing of {} is",
        "What they want of {} is",
        "The capital of {} and {} is",
        "In the year in which {} was founded, the capital of France was",
        "The first of of {} is",
        "The very long and winding road that nobody ever sees of {} is",
        "The capital of {} is $",
        "",
        "{}",
    ],
)
def test_other_prompts_have_none(prompt: str) -> None:
    assert general_wordings_of(prompt) is None


def test_an_answer_that_names_nothing_has_none() -> None:
    assert general_wordings_of("The chief engineer of {} is", target="not known") is None


def test_a_prompt_may_name_its_subject() -> None:
    found = general_wordings_of("The mascot of the Larkfield Dam is", subject="Larkfield Dam", target="a fox")
    assert found is not None
    assert found.questions == ("What is the mascot of the {}?", "What is the {}'s mascot?")


def test_long_prompts_take_no_time() -> None:
    assert general_wordings_of("The " + "a of " * 70 + "{} is", target="x") is None
