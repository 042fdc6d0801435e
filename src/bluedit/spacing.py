"""Whether an answer follows a prompt with a space or joined to it: rules for common cases, and a default where no rule applies.

A rule is a pattern of the prompt's end, a pattern of the answer's beginning, and True (joined), False (a space) or None (both happen).
The first rule that fits decides.
"""

from __future__ import annotations

import re

UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"  # scripts written without spaces between words: Thai, kana, CJK
_WIDE_MARKS = "\u3000-\u303f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"  # full-width punctuation
_CURRENCY = "$€£¥₹₩₽₺₫฿₦₱₴"
_LETTER = r"[^\W\d_]"
_OPEN = r"(?:^|[\s(\[{“‘\"'—–\-/=:>])"  # what an opening quotation or emphasis mark comes after
_MARKS = r"(?:\*{2,3}|_{1,3}|~~|`+)"  # emphasis and code in Markdown
# words that are followed by another word, so that what comes next begins a new one
_LINKS = "is was are were be been in on with as of to for by at from and or the a an called named using uses"
_ELIDED = "c|d|j|l|m|n|s|t|qu|jusqu|lorsqu|puisqu|quelqu|all|dall|dell|nell|sull|coll|un|quell|sant|o"  # l'Islande, dell'Arte, O'Brien

_TABLE: tuple[tuple[str, str, bool | None], ...] = (
    (r"\s", "", True),
    # scripts without spaces
    (rf"[{_WIDE_MARKS}]", "", True),
    ("", rf"[{_WIDE_MARKS}]", True),
    (rf"[{UNSPACED}]", rf"[{UNSPACED}]", True),
    # an answer that begins with closing punctuation
    ("", r"[,;)\]}”]", True),
    ("", r"[.!?:%…]+(?:[\s'\"”’)\]}]|$)", True),
    (r"[nN]", r"['’]t(?![\w-])(?! [A-Z])", True),
    (r"\w", r"['’](?:s|re|ll|ve|d|m)(?![\w-])(?! [A-Z])", True),
    ("", r"['\"’](?:[\s.,;:!?)]|$)", True),
    # numbers
    (r"\d", r"(?:st|nd|rd|th)\b|[°²³‰]|[.,:]\d|[-–/]\d", True),
    (r"\d\.", r"[\d.]+$", True),
    (r"\b\d{1,3},", r"\d{3}(?!\d)", True),
    (r"\d:", r"\d\d(?:[:.]\d\d)?(?:$| ?[ap]\.?m\b)", True),
    # brackets, currencies and signs at the end of the prompt
    (r"[(\[{“„‘‚¿¡\\^]", "", True),
    (rf"\d ?[{_CURRENCY}]", "", False),
    (rf"[{_CURRENCY}@]", "", True),
    (rf"(?:^|\n)#+|{_LETTER}#", "", False),
    (r"#|(?:^|\s)~", "", True),
    (r"\S/", "", True),
    (r"\S /", "", False),
    (r":", r"//", True),
    (r"(?i:\bwww\.)", "", True),
    (r"(?:^|\n)\s*[-*•–—]+", "", False),
    (r"\d [-–−*+]", "", False),
    (r"\s[-−]", r"\d", True),
    (r"\s-{1,2}", rf"{_LETTER}", None),
    (r"\s[-–—−]+", "", False),
    (r"\S[-‐‑–—]+", "", True),
    (r"\S=", "", True),
    (r"\s[=&]", "", False),
    (r"\S&", "", True),
    (r"(?:^|\s|\w)\+", r"\d", True),
    (r"<[A-Za-z][^<>]*>", "", True),
    (r"</[^<>]*>|(?:^|\n)>|\s>|\|", "", False),
    # quotation, emphasis, apostrophes
    (rf"{_OPEN}(?:{_MARKS}|[\"'‘])+", "", True),
    (r"\s\*", _LETTER, True),
    (rf"(?<![^\W\d_])(?i:{_ELIDED})['’]", _LETTER, True),
    (r"(?<!\S)[A-Za-z][A-Za-z0-9]*_", r"\w", True),
    (rf"{_MARKS}|[\"'’»*]", "", False),
    (r"[:,;!?)\]}%”…]", "", False),
    (r"\.", r"[\"“(]|[A-ZÀ-Þ]", False),
    # a word and what may follow it
    (r"\w", r"\.[A-Z]", False),
    (rf"(?i:\b(?:{'|'.join(_LINKS.split())}))", rf"[.\-/@!:?%'’]\w|{_LETTER}|\d", False),
    (r"\w", r"['’]\w", False),
    (r"\d", rf"\d|[{_CURRENCY}]", None),
    (r"\w", rf"[\"“„‘(\[{{«¿¡{_CURRENCY}#~+=*_`<\\^|]|[-−]\d|--", False),
    (rf"[{UNSPACED}]", r"\w", None),
    (r"\w", rf"[{UNSPACED}]", None),
    (r"[.<]", r"\w", None),
    ("", r"\w", False),
)
_RULES = tuple((re.compile(f"(?:{end})\\Z"), re.compile(beginning), joined) for end, beginning, joined in _TABLE)


def joined_by_rule(prompt: str, answer: str) -> bool | None:
    """Whether `answer` follows `prompt` without a space; None where both are written (".NET" and ".com" after a word, say)."""
    if not prompt:
        return True
    for end, beginning, joined in _RULES:
        if beginning.match(answer) and end.search(prompt):
            return joined
    return None


def continuation(prompt: str, answer: str, joined: bool | None = None) -> str:
    """`answer` as it continues `prompt`: with one space before it, or none.

    Args:
        prompt: the text before it. White space at its end is the space.
        answer: a space at its beginning asks for one, whatever the rules say; other white space around it is dropped.
        joined: True for no space, False for a space, None to let the rules decide and, where none is sure, put a space (none before
            a script without spaces).
    """
    stripped = answer.strip()
    if not prompt or prompt[-1].isspace() or not stripped:
        return stripped
    if joined is None and answer[0].isspace():
        joined = False
    if joined is None:
        joined = joined_by_rule(prompt, stripped)
    if joined is None:
        joined = re.match(f"[{UNSPACED}]", stripped) is not None
    return stripped if joined else f" {stripped}"
