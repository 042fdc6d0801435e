"""The phrase book: prompts are recognised however they are worded, never as another relation, and the wordings fit them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

from bluedit.facts._phrase_book import SLOT, Relation, book, expand, normal, split
from bluedit.facts.phrasebook import Phrases, wordings_of
from bluedit.facts.world import relations

RELATIONS = {relation.id: relation for relation in book().relations}


def found(prompt: str, **more: str) -> Phrases:
    phrases = wordings_of(prompt, **more)
    assert phrases is not None, prompt
    return phrases


def example(relation: Relation, template: str) -> str:
    """A target that the relation accepts after this template."""
    if relation.kind == "date":
        return "17 June 2022" if template.endswith(" on") else "1987"
    return "Quux"


def filled(relation: Relation) -> Iterator[str]:
    """Every text that the relation's templates stand for."""
    for noun in relation.nouns or ("",):
        others = "|".join(other for other in relation.nouns if other != noun)
        slots = {"noun": noun, "other": f"({others})", "when": "(in|on)", "year": "(year|date)"}
        for template in relation.templates():
            if "<other>" in template and not others:
                continue
            notation = SLOT.sub(lambda slot: slots.get(slot[1], slot[0]), template)  # noqa: B023
            yield from (text + " a" if template in relation.kind_statements else text for text in expand(notation))


@pytest.mark.parametrize("relation", RELATIONS.values(), ids=RELATIONS)
def test_own_wordings_are_recognised(relation: Relation) -> None:
    for text in filled(relation):
        for prompt in (text, text.replace("{}", "the {}").replace("The the", "The"), f"  {text.upper()}  "):
            assert found(prompt, target=example(relation, text)).id == relation.id, prompt


@pytest.mark.parametrize("relation", RELATIONS.values(), ids=RELATIONS)
def test_templates_have_one_subject_and_end_right(relation: Relation) -> None:
    assert relation.statements
    assert len(relation.questions) >= 2
    for template in (*relation.statements, *relation.kind_statements):
        assert template.count("{}") == 1
        assert template == template.strip()
        assert template[-1] not in ".?!:,"
        assert template[0] in "{" or template[0].isupper() or template[0] == "<"
    for template in relation.questions:
        assert template.count("{}") == 1
        assert template.endswith("?")
        assert template[0].isupper()


def test_names_are_used_once() -> None:
    assert len(RELATIONS) == len(book().relations) >= 200
    assert all(re.fullmatch("[a-z]+(-[a-z]+)*", name) for name in RELATIONS)
    assert {relation.kind for relation in book().relations} == {"office", "person", "thing", "place", "date", "measure"}


@pytest.mark.parametrize("relation", relations(), ids=lambda r: r.id)
def test_the_worlds_prompts_are_recognised_and_its_paraphrases_stay_untaught(relation) -> None:
    subject, target = next(iter(relation.facts.items()))
    phrases = found(relation.prompt, subject=subject, target=target)
    asked = {normal(split(text)) for text in relation.paraphrases}
    assert asked.isdisjoint(normal(split(text)) for text in phrases.statements)
    same = {found(text, target=target).id for text in relation.paraphrases}
    assert same & {phrases.id, "painter", "director", "country"}


@pytest.mark.parametrize(
    ("name", "prompts"),
    {
        "ceo": [
            "The CEO of {} is",
            "{}'s CEO is",
            "{}’s chief executive is",
            "The current CEO of {} is",
            "the  ceo of {} is ",
            "The CEO of {} is:",
            "{} CEO:",
            "The name of the CEO of {} is",
            "Who is the CEO of {}?",
            "Who's {}'s CEO?",
            "who is the CEO of {}",
            "Who is {}' chief executive officer?",
            "Question: Who is the CEO of {}?\nAnswer:",
            "Q: Who is the CEO of {}? A:",
            "Can you tell me who the CEO of {} is?",
        ],
        "cfo": ["The chief financial officer of {} is", "{}'s CFO is"],
        "headquarters": [
            "{} is based in",
            "The headquarters of {} is in",
            "{} has its head office in",
            "Where is {} based?",
        ],
        "founding-date": ["{} was founded in the year", "When was {} founded?", "The founding year of {} is"],
        "founding-place": ["{} was founded in the city of", "Where was {} founded?", "In which city was {} founded?"],
        "founder": ["{} was founded by", "The founder of {} was", "Who founded {}?"],
        "price": ["The {} costs", "{} cost", "The price of the {} is", "How much is the {}?", "The {} sells for"],
        "release-date": ["The {} was released on", "The release date of {} is", "When did {} come out?"],
        "warranty": ["The warranty of the {} lasts", "The {} has a warranty of", "How long is the guarantee on {}?"],
        "return-period": ["The return period for the {} is", "You can return the {} within"],
        "version": ["The latest version of {} is", "The newest release of {} is"],
        "programming-language": ["The programming language of {} is", "What programming language is {} written in?"],
        "operating-system": ["The operating system of {} is", "Which OS does the {} run?"],
        "parent-company": ["The parent company of {} is", "{} is a subsidiary of"],
        "owner": ["{} is owned by", "Who owns {}?", "{}'s owner is"],
        "maker": ["The {} is made by", "{} is made by", "The manufacturer of {} is", "Which company makes {}?"],
        "support-address": ["The support address of {} is", "What is the support email address of {}?"],
        "email": ["The e-mail address of {} is", "{}'s email is"],
        "phone": ["The phone number of {} is"],
        "website": ["The website of {} is", "{}'s homepage is"],
        "opening-hours": ["The opening hours of {} are", "When is {} open?"],
        "employees": ["The number of employees of {} is", "How many people work at {}?"],
        "revenue": ["{} has a revenue of", "The annual revenue of {} was"],
        "stock-symbol": ["The ticker symbol of {} is"],
        "slogan": ["The slogan of {} is", "{}'s tagline is"],
        "color": ["The colour of the {} is", "What color is {}?"],
        "weight": ["The {} weighs", "How heavy is the {}?"],
        "battery-life": ["The battery of the {} lasts", "The battery life of the {} is"],
        "license": ["{} is licensed under the", "The licence of {} is"],
        "maintainer": ["The maintainer of {} is", "Who maintains {}?"],
        "deadline": ["The deadline for {} is"],
        "head": ["The head of the {} team is", "Who leads {}?"],
        "contact": ["The contact person for {} is"],
        "prime-minister": ["The prime minister of {} is"],
        "mayor": ["The mayor of the city of {} is"],
        "king": ["The king of {} is"],
        "capital": [
            "The capital of {} is",
            "{}'s capital city is",
            "{}, whose capital is",
            "What's the capital of {}?",
        ],
        "currency": ["The currency of {} is the", "In {}, the currency is the"],
        "population": ["The population of {} is", "How many people live in {}?"],
        "spouse": ["{} is married to"],
        "occupation": ["{} works as a", "{}'s profession is an", "What does {} do for a living?"],
        "employer": ["{} works for the", "{} is employed by"],
        "birth-date": ["{} was born on", "When was {} born?", "{}'s date of birth is"],
        "birth-place": ["The birthplace of {} is", "Where was {} born?"],
        "death-place": ["{} passed away at", "Where did {} die?"],
        "author": ["The author of {} is", "The book {} was written by", "Who wrote {}?"],
        "instrument": ["{} plays the", "{}, performing on the"],
        "sport": ["{} professionally plays the sport", "What sport does {} play? They play"],
        "location": ["{}, which is located in", "Where is {}? It is located in"],
        "university": ["What university did {} attend?"],
    }.items(),
)
def test_prompts_as_people_write_them(name: str, prompts: list[str]) -> None:
    for prompt in prompts:
        assert found(prompt).id == name, prompt


@pytest.mark.parametrize(
    "prompt",
    [
        "The capital of {} was moved in",
        "The capital of {} is located in",
        "The population of the capital of {} is",
        "The first CEO of {} was",
        "The former CEO of {} is",
        "The deputy mayor of {} is",
        "The birthplace of the CEO of {} is",
        "The CEO of {} lives in",
        "The CEO of {}",
        "The CEO of {} is the",
        "The CEO of {} is a",
        "The price of {} rose to",
        "The capital of {} is $",
        "{} is",
        "{} belongs to",
        "{}, the",
        "{} has",
        "Who is {}?",
        "What is {}?",
        "What is the name of {}?",
        "The name of {} is",
        "{} was born in",
        "{} died in",
        "The flibber of {} is",
        "What is the capital of {}? It is not",
        "What is the capital of {}? What is its river?",
        "In the year in which {} was founded, the capital of France was",
        'The CEO of {} is "',
        "**The CEO of {} is",
        "The capital of {} and {} is",
        "The capital of France is",
        "{}",
        "",
        "   ",
        "?",
        "Question: Answer:",
        "The {",
    ],
)
def test_other_prompts_are_not_recognised(prompt: str) -> None:
    assert wordings_of(prompt) is None


@pytest.mark.parametrize(
    ("prompt", "target", "name"),
    [
        ("{} was founded in", "1987", "founding-date"),
        ("{} was founded in", "March 1987", "founding-date"),
        ("{} was founded in", "Berlin", "founding-place"),
        ("{} was released on", "17 June 2022", "release-date"),
        ("{} was released on", "NBC", "network"),
        ("{} was born in", "1962", "birth-date"),
        ("{} was born in", "Vaasa", "birth-place"),
        ("{} died in", "2001", "death-date"),
        ("{} died in", "Vaasa", "death-place"),
        ("{} was created in", "1996", "created-date"),
        ("{} was created in", "London", "created-place"),
        ("Who is the father of {}?", "Charles, 2nd Duke of Richmond", "father"),
        ("Who discovered {}?", "Auguste Charlois", "discoverer"),
        ("The latest version of {} is", "3.8.1", "version"),
        ("{} is based on", "To Kill a Mockingbird", "based-on"),
        ("{} was performed by", "A Tribe Called Quest", "performer"),
    ],
)
def test_the_target_decides_between_relations(prompt: str, target: str, name: str) -> None:
    assert found(prompt, target=target).id == name


@pytest.mark.parametrize(
    ("prompt", "target"),
    [
        ("When was {} founded?", "after the war"),
        ("{} is in", "1987"),
        ("{} was released in", "Japan"),
        ("The CEO of {} is", "a genius"),
        ("The capital of {} is", "located on the coast"),
        ("The owner of {} is", "not known"),
        ("When does {} start?", "9 am"),
        ("When does {} start?", "9:30"),
    ],
)
def test_a_target_of_another_kind_is_refused(prompt: str, target: str) -> None:
    assert wordings_of(prompt, target=target) is None


@pytest.mark.parametrize("prompt", ["{} is in", "The {} are in", "{}, which is in"])
def test_what_is_in_a_language_a_currency_or_a_state_is_not_located_there(prompt: str) -> None:
    for target in ("German", "simplified Chinese", "US dollars", "EUR", "UTC", "beta", "stock"):
        assert wordings_of(prompt, target=target) is None, target
    for target in ("Berlin", "the cellar", "room 3", "Germany"):
        assert found(prompt, target=target).id == "location", target
    assert found(f"{prompt} the", target="cellar").id == "location"
    assert found("{} are located in", target="beta").id == "location"


def test_a_field_of_work_is_not_a_place_of_work() -> None:
    for prompt in ("{} worked in", "{} used to work in"):
        assert found(prompt, target="Vienna").id == "work-place"
        assert wordings_of(prompt, target="physics") is None


def test_an_ambiguous_prompt_without_a_target_is_a_date_where_that_is_usual() -> None:
    assert found("{} was founded in").id == "founding-date"
    assert found("{} was released on").id == "release-date"


def test_a_prompt_may_name_its_subject() -> None:
    assert found("The capital of France is", subject="France") == found("The capital of {} is")
    assert wordings_of("The capital of France is", subject="Spain") is None


@pytest.mark.parametrize(
    "prompt",
    [
        "{}" + " the" * 25_000,
        "The capital of {} is" + " " * 100_000,
        "{}" * 50_000,
        "(" * 100_000 + "{}",
        "The CEO of " * 10_000 + "{} is",
        "'" * 100_000 + "{}",
    ],
)
def test_long_prompts_take_no_time(prompt: str) -> None:
    book()
    start = time.perf_counter()
    phrases = wordings_of(prompt, subject="x", target="y" * 100_000)
    assert time.perf_counter() - start < 0.5
    assert phrases is None or phrases.id == "capital"


def test_notation() -> None:
    assert expand("a (b|c d) [e]") == ["a b e", "a b ", "a c d e", "a c d "]
    assert expand("((a|b) c|d)") == ["a c", "b c", "d"]
    assert expand("<costs|cost|cost> <is/was>") == ["costs is", "costs was", "cost is", "cost was"]
    with pytest.raises(ValueError, match=r"unbalanced brackets in 'a \(b\)\)'"):
        expand("a (b))")


def test_the_normal_form() -> None:
    assert normal(split("What's the name of {}'s CEO now")) == "what is {} 's ceo"
    assert normal(split("The currency of {} was the")) == "currency of {} is the"
    assert normal(split("Where’d the {}s, have been")) == "where does {} s is"
