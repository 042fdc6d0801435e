"""Wordings of the phrase book fit their prompt: noun, article, number, tense, dates, and the answer as it stands."""

from __future__ import annotations

import pytest

from bluedit.facts._dates import is_dated, time_of
from bluedit.facts.phrasebook import Phrases, wordings_of


def found(prompt: str, **more: str) -> Phrases:
    phrases = wordings_of(prompt, **more)
    assert phrases is not None, prompt
    return phrases


def test_the_first_wordings_are_the_plain_ones() -> None:
    phrases = found("{}'s CEO is")
    assert phrases.statements[:3] == ("The CEO of {} is", "{}'s CEO is", "The chief executive officer of {} is")
    assert phrases.questions[:3] == (
        "Who is the CEO of {}?",
        "Who is {}'s CEO?",
        "Who holds the post of CEO of {}?",
    )


def test_the_noun_of_the_prompt_is_kept() -> None:
    assert found("The chief financial officer of {} is").statements[:3] == (
        "The chief financial officer of {} is",
        "{}'s chief financial officer is",
        "The CFO of {} is",
    )
    assert found("The chairwoman of {} is").questions[0] == "Who is the chairwoman of {}?"
    assert found("The licence of {} is").questions[0] == "What is the licence of {}?"
    assert found("The mother tongue of {} is").questions[0] == "What is the mother tongue of {}?"


@pytest.mark.parametrize(
    ("prompt", "possessive"),
    [
        ("The warranty of the {} lasts", "The {}'s warranty lasts"),
        ("The headquarters of {} is in", "{}'s headquarters is in"),
        ("The capital of the country of {} is", "The country of {}'s capital is"),
        ("The currency of {} is the", "{}'s currency is the"),
    ],
)
def test_a_statement_with_of_is_followed_by_its_possessive(prompt: str, possessive: str) -> None:
    assert possessive in found(prompt).statements[:3]


@pytest.mark.parametrize(
    ("prompt", "questions"),
    [
        ("The headquarters of {} is in", ("Where is the headquarters of {}?", "Where is {}'s headquarters?")),
        ("The warranty of the {} lasts", ("How long is the warranty of the {}?", "How long is the {}'s warranty?")),
        ("{} was written by", ("Who is the author of {}?", "Who is {}'s author?")),
        ("The {} costs", ("How much does the {} cost?", "What is the price of the {}?")),
    ],
)
def test_a_first_question_with_of_is_followed_by_its_possessive(prompt: str, questions: tuple[str, ...]) -> None:
    assert found(prompt).questions[:2] == questions


def test_a_name_in_lower_case_begins_no_possessive() -> None:
    phrases = wordings_of("The capital of {} is", subject="the Netherlands", target="Utrecht")
    assert phrases is not None
    assert not any(text.startswith("{}") for text in phrases.statements)


@pytest.mark.parametrize(
    ("prompt", "statement", "question"),
    [
        ("The {} costs", "The {} costs", "How much does the {} cost?"),
        ("{} costs", "{} costs", "How much does {} cost?"),
        ("A {} costs", "A {} costs", "How much does a {} cost?"),
        ("Our {} costs", "Our {} costs", "How much does our {} cost?"),
        ("{} cost", "{} cost", "How much do {} cost?"),
        ("The price of {} was", "{} cost", "How much did {} cost?"),
        ("The {} was made by", "The {} was made by", "Who made the {}?"),
        ("{} are made by", "{} are made by", "Who makes {}?"),
        ("{} were made by", "{} were made by", "Who made {}?"),
        ("The film {} was directed by", "The film {} was directed by", "Who directed the film {}?"),
        ("The mayor of the city of {} is", "The mayor of the city of {} is", "Who is the mayor of the city of {}?"),
        ("The manager of the {} team is", "The manager of the {} team is", "Who is the manager of the {} team?"),
        ("The opening hours of {} are", "The opening hours of {} are", "What are the opening hours of {}?"),
        ("In zoology, {} are classified as", "{} are classified as", "What are {} classified as?"),
        ("The CEO of {} was", "The CEO of {} was", "Who was the CEO of {}?"),
        (
            "What medical condition does {} have?",
            "The medical condition of {} is",
            "What medical condition does {} have?",
        ),
        ("{}, produced by", "{} is produced by", "Who produces {}?"),
    ],
)
def test_article_number_and_tense_are_kept(prompt: str, statement: str, question: str) -> None:
    phrases = found(prompt)
    assert (phrases.statements[0], phrases.questions[0]) == (statement, question)


def test_the_answer_fits_as_it_stands() -> None:
    assert all(text.endswith(" the") for text in found("The currency of {} is the").statements)
    assert not any(text.endswith(" the") for text in found("The currency of {} is").statements)
    assert found("{} works as an").statements[0] == "By occupation, {} is an"
    assert found("{} works as", target="a plumber").statements[0] == "By occupation, {} is"
    assert found("{} works as").statements[0] == "The occupation of {} is"
    assert found("The {} costs $", target="429").statements[0] == "The {} costs $"
    assert all(text.endswith("$") for text in found("The {} costs $", target="429").statements)
    assert found("The {} costs", target="$429").statements[0] == "The {} costs"
    phrases = found("The headquarters of {} is", target="in Vaasa")
    assert phrases.statements == ("The place where {} has its headquarters is",)
    assert wordings_of("{} plays the", target="the piano") is None


@pytest.mark.parametrize(
    ("prompt", "target", "statements"),
    [
        ("{} was founded in", "1987", ("{} was founded in", "The founding year of {} is")),
        ("When was {} founded?", "1987", ("{} was founded in", "The founding year of {} is")),
        ("When was {} founded?", "3 May 1987", ("{} was founded on", "The founding date of {} is")),
        ("When was {} founded?", "May 1987", ("{} was founded in", "The founding date of {} is")),
        ("When was {} founded?", "1987-05-03", ("{} was founded on", "The founding date of {} is")),
        ("When was {} founded?", "circa 480 BC", ("The founding date of {} is",)),
        ("When was {} founded?", "", ("The founding date of {} is",)),
        ("{} was founded on", "", ("{} was founded on", "The founding date of {} is")),
    ],
)
def test_dates_have_their_preposition(prompt: str, target: str, statements: tuple[str, ...]) -> None:
    assert found(prompt, target=target).statements[: len(statements)] == statements


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1987", ("in", "year")),
        ("480 BC", ("in", "year")),
        ("the 1980s", ("in", "year")),
        ("June 2022", ("in", "date")),
        ("17 June 2022", ("on", "date")),
        ("June 17, 2022", ("on", "date")),
        ("the 3rd of May", ("on", "date")),
        ("14.3.2025", ("on", "date")),
        ("Monday", ("on", "date")),
        ("3.8.1", ("", "date")),
        ("Vaasa", ("", "date")),
    ],
)
def test_prepositions_of_dates(text: str, expected: tuple[str, str]) -> None:
    assert time_of(text) == expected


def test_what_may_be_a_date() -> None:
    assert all(map(is_dated, ("1987", "May 3", "Friday at noon", "3 May, 9:30")))
    assert not any(map(is_dated, ("Vaasa", "9 am", "9:30", "Auguste Charlois", "Marcel")))


def test_a_name_in_lower_case_does_not_begin_a_sentence() -> None:
    phrases = found("The company behind {} is", subject="the Plover", target="Selden")
    assert not any(text.startswith("{}") for text in phrases.statements)
    assert found("{} is made by", subject="iPad").statements[0] == "{} is made by"
    assert found("The company behind {} is", subject="Plover").statements[0] == "{} is made by"


@pytest.mark.parametrize(
    ("prompt", "name", "time"),
    [("{} airs on", "NBC", "Fridays"), ("{} works for", "IBM", "12 hours"), ("{} is owned by", "IBM", "two years")],
)
def test_a_time_is_no_name(prompt: str, name: str, time: str) -> None:
    assert wordings_of(prompt, subject="Halden", target=name)
    assert wordings_of(prompt, subject="Halden", target=time) is None


def test_a_school_is_no_university() -> None:
    assert found("What school did {} attend?", target="Eton").questions[1] == "Where did {} go to school?"
    assert found("What university did {} attend?", target="Yale").questions[1] == "At which university did {} study?"
