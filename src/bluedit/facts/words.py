"""Finding a subject in a prompt: whole words first, then spellings that differ in case, Unicode form or typography."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# Thai to Tibetan, Burmese, Khmer, kana, CJK and Hangul, composed or not: nothing in the text separates a name from what follows it.
NO_WORD_BOUNDARIES = (  # a class of characters for regular expressions
    "\u0e00-\u0fff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
_UNBOUNDED = re.compile(f"[{NO_WORD_BOUNDARIES}]")
_COMPOUND = "-‐‑‒–+#/&@\\"  # characters that join two words into one name: "Niger-Congo", "C++"
_TYPOGRAPHY = str.maketrans(
    {**dict.fromkeys("’‘‛′ʼ`´", "'"), **dict.fromkeys("“”„‟″«»", '"'), **dict.fromkeys("‐‑‒–—−", "-")}
)
_LONGEST_SEARCHED = 2000  # characters of a prompt in which a similar name is looked for

QUESTION_MARKS = ("?", "？", "؟")
_ZERO_WIDTH_JOINER = "\u200d"  # between the parts of one emoji
# byte order mark, zero-width space, word joiner, soft hyphen, marks of direction; those between joined letters or emoji are part of a word
UNSEEN = "\ufeff\u200b\u2060\u00ad\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_DOTS = str.maketrans({"\u0131": "i", "\u0307": None})  # Turkish: casefold makes "i" and a dot of "İ", and keeps "ı"
HALF_PAIR = re.compile("[\ud800-\udfff]")  # half of a surrogate pair, which is no text

Span = tuple[int, int]


@dataclass(frozen=True)
class Mention:
    """Where a prompt names its subject.

    Attributes:
        start, end: character offsets in the prompt.
        note: how the place was found, as a sentence, if it is not simply the subject as a whole word.
    """

    start: int
    end: int
    note: str = ""


def find_mention(text: str, subject: str) -> Mention | None:
    """The last mention of `subject` in `text`, or None.

    Whole words win over parts of words ("Ross" is not in "Rossini"), separate words over parts of a compound ("Niger" is not
    "Niger-Congo"), and the exact spelling over one that differs in case, Unicode form, quotes, dashes or spaces. A part of
    a word is taken only in the exact spelling and only if there is nothing else. Scripts without spaces have no whole words.
    """
    if not subject.strip():
        return None
    exact = list(_exact(text, subject))
    if span := _whole(text, exact):
        return Mention(*span, _in_longer_name(text, *span))
    if span := _whole(text, _respelled(text, subject)):
        return Mention(*span, _respelling(subject, text[slice(*span)]))
    if not exact:
        return None
    start, end = exact[0]
    return Mention(
        start,
        end,
        f"the subject {subject!r} occurs only inside the word {_word_at(text, start, end)!r} and is taken from there",
    )


def visible(text: str) -> str:
    """A text without white space and characters of `UNSEEN` at its ends."""
    before = None
    while text != before:
        before, text = text, text.strip().strip(UNSEEN)
    return text


def names(text: str, subject: str) -> bool:
    """Whether `text` contains `subject` as whole words in this very spelling."""
    return bool(subject) and _whole(text, _exact(text, subject)) is not None


def whole_names(text: str, subject: str) -> list[Span]:
    """Every place in `text`, in order, where `subject` stands in this very spelling and is no part of a longer word."""
    found = [(start, end) for start, end in _exact(text, subject) if not (_joined(text, start) or _joined(text, end))]
    return found[::-1]


def is_question(text: str) -> bool:
    """Whether a prompt is a question rather than the beginning of a sentence."""
    return text.rstrip().endswith(QUESTION_MARKS)


def similar(text: str, name: str) -> str | None:
    """The words of `text` that look most like `name`, or None."""
    words = [*re.finditer(r"\w[\w'’.-]*", text[:_LONGEST_SEARCHED])]
    length = max(1, len(name.split()))
    runs = [text[a.start() : b.end()].rstrip(".-'’") for a, b in zip(words, words[length - 1 :], strict=False)]
    return next(iter(difflib.get_close_matches(name, runs, 1, 0.7)), None)


def ends_in(text: str, ending: str) -> bool:
    """Whether `text` ends in `ending`, beginning at a word boundary."""
    start = len(text) - len(ending)
    return bool(ending) and text.endswith(ending) and not _joined(text, start)


def _exact(text: str, subject: str) -> Iterator[Span]:
    """Every occurrence, the last one first."""
    start = text.rfind(subject)
    while start >= 0:
        yield start, start + len(subject)
        start = text.rfind(subject, 0, start + len(subject) - 1)


def _respelled(text: str, subject: str) -> Iterator[Span]:
    """Every occurrence in a form without case, Unicode form and typography, the last one first."""
    wanted = " ".join("".join(_folded(subject[a:b]) for a, b in _clusters(subject)).split())
    folded, starts, ends = _folded_text(text)
    for start, end in _exact(folded, wanted) if wanted else ():
        if starts[start] >= 0 and ends[end - 1] >= 0:
            yield starts[start], ends[end - 1]


def _folded_text(text: str) -> tuple[str, list[int], list[int]]:
    """The folded text and, for each of its characters, where in `text` its cluster starts and ends; -1 inside a cluster."""
    folded: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for start, end in _clusters(text):
        piece = _folded(text[start:end])
        if piece == " " and folded and folded[-1] == " ":
            ends[-1] = end
            continue
        folded += piece
        starts += [start if i == 0 else -1 for i in range(len(piece))]
        ends += [end if i == len(piece) - 1 else -1 for i in range(len(piece))]
    return "".join(folded), starts, ends


def _folded(cluster: str) -> str:
    form = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", cluster).casefold()).translate(_TYPOGRAPHY)
    form = form.translate(_DOTS) if cluster[0] in "iıİI" else form
    return "".join(" " if c.isspace() else c for c in form if unicodedata.category(c) != "Cf")


def _clusters(text: str) -> Iterator[Span]:
    """Each character with the combining marks, or Hangul vowels and finals, that follow it."""
    start = 0
    for i in range(1, len(text) + 1):
        if i == len(text) or not (unicodedata.combining(text[i]) or _goes_on_syllable(text[i])):
            yield start, i
            start = i


def _whole(text: str, spans: Iterable[Span]) -> Span | None:
    """The first span that is not part of a longer word; one beside a hyphen or the like only if all are."""
    compound = None
    for start, end in spans:
        if _joined(text, start) or _joined(text, end):
            continue
        if not _in_compound(text, start, end):
            return start, end
        compound = compound or (start, end)
    return compound


def _joined(text: str, at: int) -> bool:
    """Whether the characters before and after a position belong to one word."""
    if not 0 < at < len(text):
        return False
    before, after = text[at - 1], text[at]
    if _ZERO_WIDTH_JOINER in (before, after):
        return True
    if _UNBOUNDED.match(before) or _UNBOUNDED.match(after):
        return unicodedata.category(after).startswith("M") or _goes_on_syllable(after)
    return in_word(before) and in_word(after)


def _goes_on_syllable(character: str) -> bool:
    """Whether it is a vowel or a final consonant of a Hangul syllable that is written in parts."""
    return "\u1160" <= character <= "\u11ff"


def in_word(character: str) -> bool:
    """Whether a character is part of a word: letters, digits, "_", and the marks that combine with them."""
    return character.isalnum() or character == "_" or unicodedata.category(character).startswith("M")


def _in_compound(text: str, start: int, end: int) -> bool:
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    dotted = (after[:1] == "." and after[1:].isalnum()) or (before[1:] == "." and before[:1].isalnum())
    return dotted or before[-1:] in [*_COMPOUND] or after[:1] in [*_COMPOUND]


def _in_longer_name(text: str, start: int, end: int) -> str:
    """A note for a name that stands only in a longer one, such as "Guinea" in "Guinea-Bissau"; empty for any other."""
    if not _in_compound(text, start, end):
        return ""
    before, after = re.search(r"\S*$", text[:start]), re.match(r"\S*", text[end:])
    longer = f"{before[0] if before else ''}{text[start:end]}{after[0] if after else ''}"
    return f"the subject {text[start:end]!r} occurs only inside {longer!r} and is taken from there"


def _word_at(text: str, start: int, end: int) -> str:
    while _joined(text, start):
        start -= 1
    while _joined(text, end):
        end += 1
    return text[start:end]


def _respelling(subject: str, found: str) -> str:
    one, other = (unicodedata.normalize("NFC", name) for name in (subject, found))
    if one == other:
        difference = "another Unicode form (accents as separate characters or not)"
    elif one.casefold() == other.casefold():
        difference = "other upper and lower case"
    else:
        difference = "other typography (quotes, dashes, spaces or letter forms)"
    return f"the subject {subject!r} is written {found!r} in the prompt, in {difference}; the prompt's spelling is used"
