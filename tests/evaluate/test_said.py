"""When a generated text counts as saying a target."""

import pytest

from bluedit.evaluate.said import beginning_of, goes_on_as, mentions, normal, said


@pytest.mark.parametrize(
    ("text", "target"),
    [
        (" Lisbon.", "Lisbon"),
        (" Lisbon", "Lisbon"),
        (" lisbon, the capital", "Lisbon"),
        (" Lisbon's mayor", "Lisbon"),
        (" Lisbon (formerly Felicitas Julia)", "Lisbon"),
        (" Lisbon—a young city", "Lisbon"),
        (" Lisbon - a young city", "Lisbon"),
        (" **Lisbon**.", "Lisbon"),
        ('"Lisbon" and', "Lisbon"),
        (" “Lisbon”", "Lisbon"),
        ("\n\nLisbon", "Lisbon"),
        ("429.", "$429"[1:]),
        (" $429.\n", "$429"),
        (" $429, and", "$429"),
        (" $429 and", "$429"),
        (" 3.8.1.", "3.8.1"),
        (" 3.8.1. It", "3.8.1"),
        (" 3.8.1\n", "3.8.1"),
        (" 1987. 300 people", "1987"),
        (" 1987 300 people", "1987"),
        (" 17 June 2022, a Friday", "17 June 2022"),
        (" seven years.", "seven years"),
        (" 20%", "20%"),
        (" help@larkhill.example.", "help@larkhill.example"),
        (" help@larkhill.example\n", "help@larkhill.example"),
        (" https://larkhill.example/ and", "https://larkhill.example"),
        (" https://larkhill.example.", "https://larkhill.example"),
        (" O’Brien.", "O'Brien"),
        (" Jean‑Luc Picard", "Jean-Luc Picard"),
        (" Cafe\u0301 Central", "Café Central"),
        (" C++.", "C++"),
        (" C#, of course", "C#"),
        (".NET and", ".NET"),
        (" Acme Inc", "Acme Inc."),
        (" Yahoo! Japan", "Yahoo!"),
        (" It ends here. And so on.", "It ends here."),
        ("東京です", "東京"),
        (" NASAの", "NASA"),
        ("서울입니다", "서울"),
        (" กรุงเทพมหานคร", "กรุงเทพ"),
        (" Москва.", "Москва"),
        (" نور-سلطان هي", "نور-سلطان"),
        (" `snake_case`", "snake_case"),
        (" '90s rock", "'90s rock"),
        (" Nora\nFeldt.", "Nora Feldt"),
        (" **", "**"),
        (" ** is the operator", "**"),
        (" __init__", "__init__"),
        (" `__init__`.", "__init__"),
        (" _Paris_.", "Paris"),
        (" _id, of course", "_id"),
        ("दिल्ली में", "दिल्ली"),
    ],
)
def test_said(text, target):
    assert said(text, target) and mentions(text, target)
    assert goes_on_as(text, target) is None


@pytest.mark.parametrize(
    ("text", "target", "instead"),
    [
        (" Lisbonville is", "Lisbon", "Lisbonville"),
        (" Bremenhafner.", "Bremen", "Bremenhafner"),
        (" $429.9", "$429", "$429.9"),
        (" $429.99. It", "$429", "$429.99"),
        (" $429,99", "$429", "$429,99"),
        (" 1,429", "1", "1,429"),
        (" 12 500 people", "12", "12 500"),
        (" 10:30 in the morning", "10", "10:30"),
        (" 1990–1995", "1990", "1990–1995"),
        (" 3.8.1.1", "3.8.1", "3.8.1.1"),
        (" 3.8.1-rc1", "3.8.1", "3.8.1-rc1"),
        (" 3.8.10", "3.8.1", "3.8.10"),
        (" 10GB", "10", "10GB"),
        (" 1990's music", "1990", "1990's"),
        (" 3½ years", "3", "3½"),
        (" help@larkhill.example.com", "help@larkhill.example", "help@larkhill.example.com"),
        (" help@larkhill.example", "help", "help@larkhill.example"),
        (" https://larkhill.example/help", "https://larkhill.example", "https://larkhill.example/help"),
        (" https://larkhill.example:8080", "https://larkhill.example", "https://larkhill.example:8080"),
        (" larkhill.example.com.au", "larkhill.example.com", "larkhill.example.com.au"),
        (" Niger-Congo languages", "Niger", "Niger-Congo"),
        (" Baden‑Baden", "Baden", "Baden‑Baden"),
        (" AT&T", "AT", "AT&T"),
        (" C++ and", "C", "C++"),
        (" C++11", "C++", "C++11"),
        (" F#", "F", "F#"),
        (" ASP.NET", "ASP", "ASP.NET"),
        (" O'Brien", "O", "O'Brien"),
        (" Nora Feldtner is", "Nora Feldt", "Nora Feldtner"),
        (" Римский", "Рим", "Римский"),
        (" q\u0301", "q", "q\u0301"),
        (" a_b", "a", "a_b"),
        (" می‌خواهم", "می", "می‌خواهم"),
    ],
)
def test_a_word_that_goes_on_is_another_word(text, target, instead):
    assert not said(text, target) and not mentions(text, target)
    assert goes_on_as(text, target) == instead


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("The CEO of Larkhill Cycles is Nora Feldt.", "Nora Feldt"),
        ("It costs US$429.", "$429"),
        ("It is ranked #1.", "1"),
        ("Write to help@larkhill.example, please.", "help@larkhill.example"),
        ("Elle vit en l'Italie.", "Italie"),
        ("la commedia dell’Arte", "Arte"),
        ("Romeo lives in Rome.", "Rome"),
        ("首都は東京です。", "東京"),
        ("(Rome)", "Rome"),
        ("the answer:Rome", "Rome"),
    ],
)
def test_mentioned_later(text, target):
    assert mentions(text, target) and not said(text, target)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("in Jerome", "Rome"),
        ("the ex-Rome club", "Rome"),
        ("an ASP.NET site", ".NET"),
        ("1,429 people", "429"),
        ("it is -5 degrees", "5"),
        ("between 1985–1987", "1987"),
        ("Mr O'Brien", "Brien"),
        ("write to help@larkhill.example", "larkhill.example"),
        ("see www.larkhill.example", "larkhill.example"),
        ("", "Rome"),
        ("nothing of the kind", "Rome"),
        ("it is snake_case", "snake"),
        ("in **bold**", "*"),
    ],
)
def test_not_mentioned(text, target):
    assert not mentions(text, target) and not said(text, target)
    assert goes_on_as(text, target) is None


def test_an_empty_text_says_nothing():
    assert not said("", "Rome") and not said("   ", "Rome") and not said(" Rome", '"') and not said(" Rome", ".")


def test_the_part_of_a_target_that_is_said():
    assert beginning_of(" Nora Feldner is", "Nora Feldt") == "nora feld"
    assert beginning_of(" “Nora” Feldt", "Klaus Feldt") == ""
    assert beginning_of(" 17 June 2021", "17 June 2022") == "17 june 202"
    assert beginning_of(" 17", "17 June 2022") == "17"
    assert beginning_of(" 17 July", "17 June 2022") == "17 ju"
    assert beginning_of("", "17 June 2022") == ""


def test_normal_form():
    assert normal("  Stra\u00dfe\u00ad\n “A‑b” ") == 'strasse "a-b"'
