"""Companion facts: what follows by rule, what contradicts, and what is asked for wrongly."""

import tomllib
from importlib.resources import files

import pytest

from bluedit.errors import FactError
from bluedit.facts import COMPANION_RULES, Fact, companions_of, relations
from bluedit.facts._phrase_book import book

ROME = Fact("The capital of {} is", subject="France", target="Rome", old_target="Paris", id="rome")
COOK = Fact("The CEO of {} is", subject="Microsoft", target="Tim Cook")


def said(facts, *rules, **more):
    return [
        (one.rule, one.fact.text, one.fact.target) for one in companions_of(facts, rules or None, **more).companions
    ]


def test_the_inverse():
    assert said([ROME], "inverse") == [("inverse", "Rome is the capital of", "France")]
    assert said([COOK], "inverse") == [("inverse", "Tim Cook is the CEO of", "Microsoft")]
    married = Fact("{} is married to", subject="Barack Obama", target="Angela Merkel")
    assert said([married], "inverse") == [("inverse", "The spouse of Angela Merkel is", "Barack Obama")]


def test_the_question():
    ((rule, text, target),) = said([COOK], "question")
    assert rule == "question" and text.endswith("?") and "CEO of Microsoft" in text and target == "Tim Cook"


def test_aliases_of_the_subject():
    assert said([ROME], "alias") == [
        ("alias", "The capital of the French Republic is", "Rome"),
        ("alias", "The French capital is", "Rome"),
    ]
    mine = said([COOK], "alias", aliases={"microsoft": ["MSFT", "Microsoft Corporation"]})
    assert [text for _, text, _ in mine] == ["The CEO of MSFT is", "The CEO of Microsoft Corporation is"]
    one, adjective = companions_of([ROME], ["alias"]).companions
    assert (adjective.fact.subject, adjective.fact.phrasings[:1]) == ("French", ("What is the {} capital?",))
    assert one.fact.old_target == "Paris" and one.fact.id == "rome/alias" and one.of == 0


def test_a_name_that_only_looks_like_an_acronym_has_no_aliases_of_it():
    assert said([Fact("The drummer of {} is", "The Who", "Ringo")], "alias") == []
    assert said([Fact("The head of the {} is", "WHO", "Ringo")], "alias") != []


def test_consequences_one_step_further():
    assert ("consequence", "Rome is a city in", "France") in said([ROME])
    assert ("consequence", "Tim Cook works for", "Microsoft") in said([COOK])
    born = Fact("{} was born in the city of", subject="Marie Curie", target="Lyon")
    assert said([born], "consequence") == [("consequence", "The country where Marie Curie was born is", "France")]
    unknown = Fact("{} was born in the city of", subject="Marie Curie", target="Springfield")
    assert said([unknown], "consequence") == []
    book = Fact("The author of {} is", subject="Hamlet", target="Jane Austen")
    assert ("consequence", "The occupation of Jane Austen is", "writer") in said([book])


def test_a_relation_that_is_not_in_the_book_has_only_aliases():
    strange = Fact("The favourite number of {} is", subject="France", target="7")
    assert {rule for rule, _, _ in said([strange])} == {"alias"}


def test_companions_never_contradict_the_facts_or_each_other():
    again = Fact("The capital of {} is", subject="Spain", target="Rome")
    other = Fact("{} is the capital of", subject="Rome", target="Italy")
    found = companions_of([ROME, again], ["inverse"])
    assert [one.fact.target for one in found.companions] == ["France"]
    assert found.left_out == (
        "'Rome is the capital of' => 'Spain' (inverse of fact 2): the inverse of fact 1 says 'France'",
    )
    found = companions_of([ROME, other], ["inverse"])  # fact 2 says what the inverse of fact 1 would deny
    assert [one.fact.text for one in found.companions] == ["The capital of Italy is"]
    assert len(found.left_out) == 1


def test_what_is_among_the_facts_already_is_left_out_in_silence():
    taught = Fact("{} is the capital of", subject="Rome", target="France")
    found = companions_of([ROME, taught], ["inverse"])
    assert found.companions == () and found.left_out == ()


def test_everything_in_the_file_is_known():
    rules = tomllib.loads(files("bluedit.facts").joinpath("companions.toml").read_text("utf-8"))
    ids = {relation.id for relation in book().relations}
    assert set(rules["inverse"]) <= ids
    for row in rules["consequence"]:
        assert set(row["of"]) <= ids and row["about"] in ("subject", "target") and row["prompt"].count("{}") == 1
        assert ("says" in row) != ("answer" in row)
    assert {"country-capital", "city-country"} <= {relation.id for relation in relations()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rules": ["invers"]}, "unknown rule 'invers'; did you mean 'inverse'?"),
        ({"rules": []}, f"no rule was named; choose one of {', '.join(sorted(COMPANION_RULES))}"),
        (
            {"aliases": {"Franze": ["F"]}},
            "an alias is given for 'Franze', but no fact is about it; did you mean 'France'?",
        ),
    ],
)
def test_what_is_asked_for_wrongly(arguments, message):
    with pytest.raises(FactError) as caught:
        companions_of([ROME], **arguments)
    assert str(caught.value) == message
