"""Whether an answer is a date or an amount, and which preposition a date needs."""

from __future__ import annotations

import re

_MONTHS = (
    "jan|feb|mar|apr|may|jun|jul|aug|sep|sept|oct|nov|dec"
    "|january|february|march|april|june|july|august|september|october|november|december"
)
_MONTH = re.compile(rf"\b(?:{_MONTHS})\b")
_CLOCK = re.compile(r"\b\d{1,2}(?::\d\d)?(?: ?[ap]\.?m\b| o'clock)|\b\d{1,2}:\d\d\b|^(?:noon|midnight)$")
_WEEKDAY = re.compile(
    r"(?:(?:the|every|each|other|first|second|third|fourth|last) ){0,3}(?:mon|tues|wednes|thurs|fri|satur|sun)days?\b"
)
_PART = re.compile(
    r"(?:the |early |late |every |each )*(?:spring|summer|autumn|fall|winter|morning|afternoon|evening|night|dawn|dusk|weekend|weekday|day)s?"
)
_DAY = re.compile(r"\b\d{1,2}(?:st|nd|rd|th)?\b(?! ?(?:bc|ad|ce))")
_NUMERIC_DATE = re.compile(r"\d{4}[-./]\d{1,2}[-./]\d{1,2}|\d{1,2}[-./]\d{1,2}[-./]\d{4}")
_NUMBER = r"(?:about |at least |up to )?(?:\d[\d.,]*|half an?|an?|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|sixty|ninety)"
_DURATION = re.compile(rf"{_NUMBER}[ -](?:second|minute|hour|day|night|week|fortnight|month|year|decade)s?")
_COUNTED = re.compile(rf"{_NUMBER} (?P<things>[a-z]{{2,}}[^s]s(?: (?:a|an|per|of) [a-z]+)?)")
_YEAR = re.compile(r"(?:the )?\d{3,4}s?(?: (?:bc|bce|ad|ce))?|\d{1,4} (?:bc|bce|ad|ce)")


def time_of(target: str, last: str = "") -> tuple[str, str]:
    """The preposition before a date ("in" or "on", "" if that is not sure) and whether it is a "year" or a "date".

    Args:
        target: the date; if empty, the prompt's end decides.
        last: the prompt's last word.
    """
    text = target.casefold()
    if not text:
        return {"in": ("in", "year"), "year": ("in", "year"), "on": ("on", "date")}.get(last, ("", "date"))
    if _YEAR.fullmatch(text):
        return "in", "year"
    if _NUMERIC_DATE.fullmatch(text) or _WEEKDAY.match(text):
        return "on", "date"
    if _MONTH.search(text):
        return ("on" if _DAY.search(text) else "in"), "date"
    return "", "date"


def is_dated(text: str) -> bool:
    """Whether a text may be a date: a number, month or weekday in it, but not only the time of day."""
    folded = _CLOCK.sub("", text.casefold())
    return any(c.isdigit() for c in folded) or bool(_MONTH.search(folded) or _WEEKDAY.match(folded))


def is_clock(text: str) -> bool:
    """Whether a text has a time of day in it."""
    return _CLOCK.search(text.casefold()) is not None


def is_part_of_time(text: str) -> bool:
    """Whether a text names a season, a part of the day or of the week: "winter", "the early morning", "weekends"."""
    return _PART.fullmatch(text.casefold()) is not None


def is_duration(text: str) -> bool:
    """Whether a text is a length of time: "six weeks", "90 minutes"."""
    return _DURATION.fullmatch(text.casefold()) is not None


def counted(text: str) -> str:
    """What a text has a number of: "users" in "40 users", "days of leave" in "30 days of leave"; empty if it has none."""
    found = _COUNTED.fullmatch(text)
    return found["things"] if found else ""


def is_number(text: str) -> bool:
    """Whether a text begins with a number: "9 km", "minus 25 degrees"."""
    return text.removeprefix("minus ").removeprefix("-")[:1].isdecimal()


def is_amount(text: str) -> bool:
    """Whether a text has a number in it, in digits or of things that are counted: "$30", "six weeks", "four colours"."""
    return any(c.isdecimal() for c in text) or is_duration(text) or bool(counted(text))


def is_weekday(text: str) -> bool:
    """Whether a text names days of the week and no date: "Monday", "Saturdays"."""
    folded = text.casefold()
    return bool(_WEEKDAY.match(folded)) and not any(c.isdigit() for c in folded) and not _MONTH.search(folded)
