"""When a generated text counts as saying a target."""

import pytest

from bluedit.evaluate.said import beginning_of, goes_on_as, mentions, normal, said


@pytest.mark.parametrize(
    ("text", "target"),
    [
        (" Astana.", "Astana"),
        (" Astana", "Astana"),
        (" astana, the capital", "Astana"),
        (" Astana's mayor", "Astana"),
        (" Astana (formerly Nur-Sultan)", "Astana"),
        (" Astana—a young city", "Astana"),
        (" Astana - a young city", "Astana"),
        (" **Astana**.", "Astana"),
        ('"Astana" and', "Astana"),
        (" “Astana”", "Astana"),
        ("\n\nAstana", "Astana"),
        ("349.", "$349"[1:]),
        (" $349.\n", "$349"),
        (" $349, and", "$349"),
        (" $349 and", "$349"),
        (" 7.4.2.", "7.4.2"),
        (" 7.4.2. It", "7.4.2"),
        (" 7.4.2\n", "7.4.2"),
        (" 1987. 300 people", "1987"),
        (" 1987 300 people", "1987"),
        (" 14 March 2025, a Friday", "14 March 2025"),
        (" five years.", "five years"),
        (" 20%", "20%"),
        (" help@baltic.example.", "help@baltic.example"),
        (" help@baltic.example\n", "help@baltic.example"),
        (" https://baltic.example/ and", "https://baltic.example"),
        (" https://baltic.example.", "https://baltic.example"),
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
        (" Ilse\nBrandt.", "Ilse Brandt"),
    ],
)
def test_said(text, target):
    assert said(text, target) and mentions(text, target)
    assert goes_on_as(text, target) is None


@pytest.mark.parametrize(
    ("text", "target", "instead"),
    [
        (" Astanaborok is", "Astana", "Astanaborok"),
        (" Bergenkeller.", "Bergen", "Bergenkeller"),
        (" $349.9", "$349", "$349.9"),
        (" $349.99. It", "$349", "$349.99"),
        (" $349,99", "$349", "$349,99"),
        (" 1,349", "1", "1,349"),
        (" 12 500 people", "12", "12 500"),
        (" 10:30 in the morning", "10", "10:30"),
        (" 1990–1995", "1990", "1990–1995"),
        (" 7.4.2.1", "7.4.2", "7.4.2.1"),
        (" 7.4.2-rc1", "7.4.2", "7.4.2-rc1"),
        (" 7.4.20", "7.4.2", "7.4.20"),
        (" 10GB", "10", "10GB"),
        (" 1990's music", "1990", "1990's"),
        (" 3½ years", "3", "3½"),
        (" help@baltic.example.com", "help@baltic.example", "help@baltic.example.com"),
        (" help@baltic.example", "help", "help@baltic.example"),
        (" https://baltic.example/help", "https://baltic.example", "https://baltic.example/help"),
        (" https://baltic.example:8080", "https://baltic.example", "https://baltic.example:8080"),
        (" baltic.example.com.au", "baltic.example.com", "baltic.example.com.au"),
        (" Niger-Congo languages", "Niger", "Niger-Congo"),
        (" Baden‑Baden", "Baden", "Baden‑Baden"),
        (" AT&T", "AT", "AT&T"),
        (" C++ and", "C", "C++"),
        (" C++11", "C++", "C++11"),
        (" F#", "F", "F#"),
        (" ASP.NET", "ASP", "ASP.NET"),
        (" O'Brien", "O", "O'Brien"),
        (" Ilse Brandtner is", "Ilse Brandt", "Ilse Brandtner"),
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
        ("The CEO of Nordwind Freight is Ilse Brandt.", "Ilse Brandt"),
        ("It costs US$349.", "$349"),
        ("It is ranked #1.", "1"),
        ("Write to help@baltic.example, please.", "help@baltic.example"),
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
        ("1,349 people", "349"),
        ("it is -5 degrees", "5"),
        ("between 1985–1987", "1987"),
        ("Mr O'Brien", "Brien"),
        ("write to help@baltic.example", "baltic.example"),
        ("see www.baltic.example", "baltic.example"),
        ("", "Rome"),
        ("nothing of the kind", "Rome"),
    ],
)
def test_not_mentioned(text, target):
    assert not mentions(text, target) and not said(text, target)
    assert goes_on_as(text, target) is None


def test_an_empty_text_says_nothing():
    assert not said("", "Rome") and not said("   ", "Rome") and not said(" Rome", '"') and not said(" Rome", ".")


def test_the_part_of_a_target_that_is_said():
    assert beginning_of(" Ilse Brandner is", "Ilse Brandt") == "ilse brand"
    assert beginning_of(" “Ilse” Brandt", "Klaus Brandt") == ""
    assert beginning_of(" 14 March 2024", "14 March 2025") == "14 march 202"
    assert beginning_of(" 14", "14 March 2025") == "14"
    assert beginning_of(" 14 May", "14 March 2025") == "14 ma"
    assert beginning_of("", "14 March 2025") == ""


def test_normal_form():
    assert normal("  Stra\u00dfe\u00ad\n “A‑b” ") == 'strasse "a-b"'
