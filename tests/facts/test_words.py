"""Finding a subject in a prompt: whole words first, then other spellings of the same name, never another name."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluedit.facts.words import ends_in, find_mention, names, similar

NFC, NFD = (
    ("São Tomé is in", "São Tomé"),
    tuple(unicodedata.normalize("NFD", t) for t in ("São Tomé is in", "São Tomé")),
)


def found(text: str, subject: str) -> str:
    """The text with the mention in brackets."""
    mention = find_mention(text, subject)
    assert mention is not None
    return f"{text[: mention.start]}[{text[mention.start : mention.end]}]{text[mention.end :]}"


@pytest.mark.parametrize(
    ("text", "subject", "expected"),
    [
        ("Oman lies where Omani dates grow", "Oman", "[Oman] lies where Omani dates grow"),
        ("A Malian in Mali, not in Malil, is", "Mali", "A Malian in [Mali], not in Malil, is"),
        ("Guinea is smaller than Guinea-Bissau", "Guinea", "[Guinea] is smaller than Guinea-Bissau"),
        ("C is older than C++ and C#", "C", "[C] is older than C++ and C#"),
        ("Deno is not Deno.land and", "Deno", "[Deno] is not Deno.land and"),
        ("Oman's capital, said an Omani, is", "Oman", "[Oman]'s capital, said an Omani, is"),
        ("X2 follows X21 and X2_b; X2", "X2", "X2 follows X21 and X2_b; [X2]"),
        ("Rome, the Rome of Italy, is", "Rome", "Rome, the [Rome] of Italy, is"),
        ("Is it Rome or ROME?", "Rome", "Is it [Rome] or ROME?"),
        ("An Omani in OMAN says", "Oman", "An Omani in [OMAN] says"),
        ("The sequel of .NET is", ".NET", "The sequel of [.NET] is"),
        ("Resume\u0301 writers know Resume", "Resume", "Resume\u0301 writers know [Resume]"),
        ("大阪の市長は", "大阪", "[大阪]の市長は"),
        ("เมืองหลวงของฝรั่งเศสคือ", "ฝรั่งเศส", "เมืองหลวงของ[ฝรั่งเศส]คือ"),
        ("오슬로는", "오슬로", "[오슬로]는"),
    ],
)
def test_whole_words_come_first_and_the_last_of_them_counts(text: str, subject: str, expected: str) -> None:
    mention = find_mention(text, subject)
    assert mention is not None and found(text, subject) == expected
    assert bool(mention.note) == (subject not in expected[expected.index("[") :])


@pytest.mark.parametrize(
    ("text", "subject", "inside"),
    [
        ("Guinea-Bissau is in", "Guinea", "Guinea-Bissau"),
        ("The owner of AT&T is", "T", "AT&T"),
        ("C++ is by", "C", "C++"),
    ],
)
def test_a_part_of_a_longer_name_is_taken_and_said(text: str, subject: str, inside: str) -> None:
    mention = find_mention(text, subject)
    assert mention is not None
    assert mention.note == f"the subject {subject!r} occurs only inside {inside!r} and is taken from there"


@pytest.mark.parametrize(
    ("text", "subject", "expected", "note"),
    [
        (
            "What is a dormant volcano?",
            "Dormant volcano",
            "What is a [dormant volcano]?",
            "in other upper and lower case",
        ),
        ("Столица Перу:", "перу", "Столица [Перу]:", "in other upper and lower case"),
        (NFC[0], NFD[1], "[São Tomé] is in", "in another Unicode form (accents as separate characters or not)"),
        (NFD[0], NFC[1], f"[{NFD[1]}] is in", "in another Unicode form"),
        (NFD[0].upper(), NFC[1], f"[{NFD[1].upper()}] IS IN", "in other upper and lower case"),
        ("Bach’s Mass is in", "Bach's Mass", "[Bach’s Mass] is in", "in other typography"),
        ("The Paris–Dakar begins in", "Paris-Dakar", "The [Paris–Dakar] begins in", "in other typography"),
        ("New\u00a0York  City is in", "New York City", "[New\u00a0York  City] is in", "in other typography"),
        ("Die Hauptstrasse ist in", "Hauptstraße", "Die [Hauptstrasse] ist in", "in other upper and lower case"),
        ("ＡＢＣ is in", "ABC", "[ＡＢＣ] is in", "in other typography"),
        ("서울은", unicodedata.normalize("NFD", "서울"), "[서울]은", "in another Unicode form"),
        ("soft\u00adware is in", "software", "[soft\u00adware] is in", "in other typography"),
        ("Ada Lovell is in", "Ada  Lovell", "[Ada Lovell] is in", "in other typography"),
        (
            unicodedata.normalize("NFD", "한국의"),
            "한국",
            f"[{unicodedata.normalize('NFD', '한국')}]{unicodedata.normalize('NFD', '의')}",
            "in another Unicode form",
        ),
        ("İstanbul'un valisi", "istanbul", "[İstanbul]'un valisi", "the prompt's spelling is used"),
        ("ığdır is in", "Iğdır", "[ığdır] is in", "the prompt's spelling is used"),
    ],
)
def test_the_prompts_spelling_is_taken_and_said(text: str, subject: str, expected: str, note: str) -> None:
    mention = find_mention(text, subject)
    assert found(text, subject) == expected
    assert mention is not None and note in mention.note and mention.note.endswith("the prompt's spelling is used")


def test_a_part_of_a_word_is_the_last_resort_and_said() -> None:
    mention = find_mention("The Omanis live in", "Oman")
    assert mention is not None and (mention.start, mention.end) == (4, 8)
    assert mention.note == "the subject 'Oman' occurs only inside the word 'Omanis' and is taken from there"


@pytest.mark.parametrize(
    ("text", "subject"), [("Russia is in", "US"), ("An OMANI lives in", "Oman"), ("x", ""), ("a b", " "), ("", "a")]
)
def test_nothing_is_found_where_another_name_would_be_taken(text: str, subject: str) -> None:
    assert find_mention(text, subject) is None


def test_only_the_exact_spelling_as_whole_words_counts_as_naming() -> None:
    assert names("the heart of Oman is", "Oman") and names("Oman", "Oman")
    assert not names("the Omani is", "Oman") and not names("the oman is", "Oman") and not names("the x is", "")


def test_the_most_similar_words_are_suggested() -> None:
    assert similar("The chair of Selden Freight is", "Seldan Freigth") == "Selden Freight"
    assert similar("The chair of Selden Freight is", "Nothing like it") is None
    assert similar("", "x") is None


def test_an_ending_begins_at_a_word() -> None:
    assert ends_in("It is Oslo", "Oslo") and ends_in("Oslo", "Oslo") and ends_in("in-Oslo", "Oslo")
    assert not ends_in("It is XOslo", "Oslo") and not ends_in("Oslo is", "Oslo") and not ends_in("Oslo", "")


@given(st.text(max_size=12), st.text(min_size=1, max_size=6).filter(str.strip), st.text(max_size=12))
def test_what_stands_there_is_always_found(before: str, subject: str, after: str) -> None:
    mention = find_mention(before + subject + after, subject)
    assert mention is not None
    assert mention.note or (before + subject + after)[mention.start : mention.end] == subject


@pytest.mark.parametrize(
    ("text", "subject"),
    [("a" * 16000, "a" * 8000), ("é" * 16000, "E\u0301" * 100), ("a-" * 8000, "A"), ("ab " * 9000, "ac ab")],
)
def test_long_texts_take_no_time(text: str, subject: str) -> None:
    start = time.perf_counter()
    find_mention(text, subject)
    similar(text, subject)
    assert time.perf_counter() - start < 2
