"""Whether a text that a model has generated says a target: the whole target, and nothing that makes another word of it.

Letters are compared without case, Unicode form and typography (straight or curly quotes, kinds of hyphens). A target ends where no letter
or digit follows, and nothing that ties one to it: "Lisbonville" does not say Lisbon, "$429.9" does not say $429, and
"help@larkhill.example.com" does not say help@larkhill.example. A full stop ends "3.8.1." unless a letter or digit follows it. In scripts
without spaces between words nothing marks the end of a word, so it is not asked for.
"""

from __future__ import annotations

import re
import unicodedata

from bluedit.facts.words import NO_WORD_BOUNDARIES, in_word

_UNBOUNDED = re.compile(f"[{NO_WORD_BOUNDARIES}]")
_TYPOGRAPHY = str.maketrans({**dict.fromkeys("’‘‛ʼ´", "'"), **dict.fromkeys("“”„‟«»", '"'), **dict.fromkeys("‐‑", "-")})
_MARKS = " \"'*_`"  # quotation and emphasis around an answer
_LINKS = ".-@/\\&=~^?·"  # between two letters or digits they make one word
_NUMBER_LINKS = ",:'–−"  # between two digits
_PORT = re.compile(r":\d")
_SIGNS = "+#"  # after a letter or digit: C++, F#
_GROUP = re.compile(r" \d{3}(?!\d)")  # the thousands of "12 500"
_LEADING_GROUP = re.compile(r"(?<![\d.,])\d{1,3}\Z")
_ELIDED = re.compile(r"(?<!\w)(?:[cdjlmnst]|qu|dell|all|nell|sull|dall|un|quell)'\Z")  # l'Italie, dell'Arte
_POSSESSIVE = re.compile(r"'s(?!\w)")


def normal(text: str) -> str:
    """The text without case, Unicode form, typography, invisible characters, and runs of white space."""
    plain = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).translate(_TYPOGRAPHY).casefold())
    return " ".join("".join(c for c in plain if unicodedata.category(c) != "Cf").split())


def said(text: str, target: str) -> bool:
    """Whether `text` begins with `target` and the target ends there. White space, quotes and emphasis before it do not count."""
    plain, whole = normal(text), normal(target)
    if plain.startswith(whole) and _ends(plain, len(whole)):
        return True  # also a target that is a mark, or has marks of its own: "**", "__init__"
    found, wanted = plain.lstrip(_MARKS), _wanted(target)
    return found.startswith(wanted) and _ends(found, len(wanted))


def mentions(text: str, target: str) -> bool:
    """Whether `text` contains `target` and is not part of a longer word there."""
    found = normal(text)
    for wanted in dict.fromkeys((normal(target), _wanted(target))):
        at = found.find(wanted)
        while at >= 0:
            if _starts(found, at) and _ends(found, at + len(wanted)):
                return True
            at = found.find(wanted, at + 1)
    return False


def goes_on_as(text: str, target: str) -> str | None:
    """The longer word with which a text goes on instead of `target`, such as "$429.99" for "$429". None if the text says the target, or does
    not begin with it."""
    found, wanted = normal(text).lstrip(_MARKS), _wanted(target)
    if said(text, target) or not found.startswith(wanted):
        return None
    words = len(found[: len(wanted) + 2].split())
    return " ".join(text.strip(_MARKS + "\n\t").split()[:words]).rstrip(".,;:!?" + _MARKS)


def beginning_of(text: str, target: str) -> str:
    """The part of the target that a text begins with, in normal form."""
    found, wanted = normal(text).lstrip(_MARKS), _wanted(target)
    same = next(
        (i for i, (a, b) in enumerate(zip(found, wanted, strict=False)) if a != b), min(len(found), len(wanted))
    )
    return wanted[:same].rstrip()


def _wanted(target: str) -> str:
    """The target in normal form, without marks around it and a full stop at its end."""
    plain = normal(target)
    return plain.lstrip(_MARKS).rstrip(_MARKS + ".。") or plain


def _ends(text: str, at: int) -> bool:
    """Whether a word ends before character `at`."""
    before, after = text[at - 1], text[at : at + 1]
    if not after:
        return True
    if before == after and after in _MARKS:
        return False
    beyond = text[at:].lstrip("_")[:1]
    if after == "_" and not (beyond and in_word(beyond)):  # the end of emphasis
        return True
    if after in _SIGNS and in_word(before):
        return False
    if before in _SIGNS and in_word(after):
        return False
    if _PORT.match(text, at) or (_GROUP.match(text, at) and _LEADING_GROUP.search(text[:at])):
        return False
    return not _inside(text, at)


def _starts(text: str, at: int) -> bool:
    """Whether a word starts at character `at`."""
    before = text[at - 1 : at]
    if before and before in "-−" and text[at].isdigit():
        return False
    if before == text[at] and before in _MARKS:
        return False
    ahead = text[:at].rstrip("_")[-1:]
    if before == "_" and not (ahead and in_word(ahead)):  # the beginning of emphasis
        return True
    return not _inside(text, at)


def _inside(text: str, at: int) -> bool:
    """Whether the characters before and after a position belong to one word."""
    if not 0 < at < len(text):
        return False
    before, after = text[at - 1], text[at]
    if unicodedata.category(after).startswith("M"):
        return True
    if _UNBOUNDED.match(before) or _UNBOUNDED.match(after):
        return False
    if in_word(before) and in_word(after):
        return True
    return _linked(text, at) or _linked(text, at - 1)


def _linked(text: str, at: int) -> bool:
    """Whether the character at `at` ties the one before it to the one after it."""
    if not 0 < at < len(text) - 1:
        return False
    before, link, after = text[at - 1 : at + 2]
    if not (in_word(before) and in_word(after)):
        return False
    if link in _NUMBER_LINKS and before.isdigit() and after.isdigit():
        return True
    if link == "'":
        possessive = before.isalpha() and _POSSESSIVE.match(text, at)
        return not possessive and not _ELIDED.search(text[: at + 1])
    return link in _LINKS
