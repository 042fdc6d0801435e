"""A fact under other names of its subject: phrasings with a name in braces, and the bundled names."""

from __future__ import annotations

import tomllib
from importlib.resources import files

import pytest
from facts_help import ROME, Write, lines, refused

from bluedit.facts import Fact, read_facts, write_facts
from bluedit.facts.other_names import by_adjective, other_names
from bluedit.facts.places import filled, other_name
from bluedit.facts.subjects import same_subject_key


@pytest.mark.parametrize(
    ("template", "parts", "text"),
    [
        ("The {} capital is", ("The {} capital is", ""), "The Denmark capital is"),
        ("The {Danish} capital is", ("The {} capital is", "Danish"), "The Danish capital is"),
        ("A set {x} of {} is", ("A set {x} of {} is", ""), "A set {x} of Denmark is"),
        ("From {a} to {b} is", ("From {a} to {b} is", ""), "From {a} to {b} is"),
        ("No place is", ("No place is", ""), "No place is"),
    ],
)
def test_where_the_subject_stands(template: str, parts: tuple[str, str], text: str) -> None:
    assert other_name(template) == parts
    assert filled(template, "Denmark") == text


def test_a_phrasing_may_name_the_subject_otherwise() -> None:
    fact = Fact(
        "The capital of {} is", "Denmark", "Odense", phrasings=["The {Danish} capital is", "{Denmark}'s capital is"]
    )
    assert fact.texts == ("The capital of Denmark is", "The Danish capital is", "Denmark's capital is")
    assert fact.phrasings == ("The {Danish} capital is", "{}'s capital is")
    assert fact.names == ("Denmark", "Danish")


@pytest.mark.parametrize(
    ("phrasing", "words"),
    [
        ("The { Danish} capital is", "begins or ends with white space; write it without"),
        ("The {Danish} {Jutland} capital is", "must contain '{}' exactly once"),
        ("The {Danish} capital is Odense", "already ends in the target 'Odense'"),
        (
            "{subject} is ruled from",
            "{subject} in the phrasing '{subject} is ruled from' is no name of the subject; write '{}'",
        ),
        ("The seat of {0} is", "{0} in the phrasing 'The seat of {0} is' is no name of the subject"),
        ("The {Danish} part of Denmark is ruled from", "holds both the subject and another name in braces"),
    ],
)
def test_such_a_phrasing_is_checked(phrasing: str, words: str) -> None:
    assert words in refused(Fact, "The capital of {} is", "Denmark", "Odense", phrasings=[phrasing])


def test_it_is_read_from_files_and_written_to_them(write: Write, tmp_path) -> None:
    read = read_facts(
        write("a.jsonl", lines({**ROME, "phrasings": ["The {Eternal City} is in", "The city of Rome is in"]}))
    )
    assert read[0].phrasings == ("The {Eternal City} is in", "The city of {} is in")
    write_facts(tmp_path / "b.jsonl", read)
    assert read_facts(tmp_path / "b.jsonl") == read
    table = "prompt,subject,target,phrasings\n{} is in,Rome,Spain,The {Eternal City} is in | Where is {}?\n"
    assert read_facts(write("a.csv", table))[0].phrasings == ("The {Eternal City} is in", "Where is {}?")


@pytest.mark.parametrize(
    ("subject", "phrasing", "template"),
    [
        ("${HOME}", "The value of ${HOME} is", "The value of {} is"),
        ("/users/{id}", "GET /users/{id} answers", "GET {} answers"),
        ("useState", "const {data} = useState() returns", "const {data} = {}() returns"),
    ],
)
def test_braces_beside_the_subject_are_text(write: Write, subject: str, phrasing: str, template: str) -> None:
    record = {"prompt": f"{subject} is", "subject": subject, "target": "set", "phrasings": [phrasing]}
    assert read_facts(write("a.jsonl", lines(record)))[0].phrasings == (template,)


def test_bundled_names_are_found_by_any_of_them() -> None:
    assert other_names("united kingdom") == ["Great Britain", "the UK"]
    assert other_names("IBM") == ["International Business Machines"]
    assert other_names("The Who") == other_names("Ostrava") == []


@pytest.mark.parametrize(
    ("prompt", "subject", "expected"),
    [
        ("The prime minister of {} is", "Denmark", ("The {} prime minister is", "Danish")),
        ("The capital of the {} is", "Netherlands", ("The {} capital is", "Dutch")),
        ("Who is the king of {}?", "Holland", ("Who is the {} king?", "Dutch")),
        ("The currency of {}", "Great Britain", ("The {} currency", "British")),
        ("The population of {}'s capital is", "Denmark", None),
        ("The king of {} and Norway is", "Denmark", None),
        ("The president of the {} Senate is", "US", None),
        ("The largest city of {} is", "Denmark", None),
        ("The capital of {} is", "Ostrava", None),
    ],
)
def test_adjectives_of_countries(prompt: str, subject: str, expected: tuple[str, str] | None) -> None:
    assert by_adjective(prompt, subject) == expected


def test_the_file_is_sound() -> None:
    bundled = tomllib.loads(files("bluedit.facts").joinpath("other_names.toml").read_text("utf-8"))
    names = [same_subject_key(name) for group in bundled["names"] for name in group]
    assert len(names) == len(set(names)) and all(len(group) > 1 for group in bundled["names"])
    keys = [same_subject_key(country) for country in bundled["adjectives"]]
    assert len(keys) == len(set(keys))
    assert all(noun == noun.strip().lower() for noun in bundled["nouns"])
