"""Whether an answer follows a prompt with a space or joined to it: rules for common cases, and a default where no rule applies.

A rule is a pattern of the prompt's end, a pattern of the answer's beginning, and True (joined), False (a space) or None (both happen).
The first rule that fits decides.
"""

from __future__ import annotations

import re

_CJK = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
UNSPACED = f"\u0e00-\u0e7f{_CJK}"  # scripts written without spaces between words: Thai, kana, CJK
_WIDE_MARKS = "\u3000-\u303f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"  # full-width punctuation
_CURRENCY = (  # the Unicode category Sc
    "$¢-¥\u058f\u060b\u07fe\u07ff\u09f2\u09f3\u09fb\u0af1\u0bf9\u0e3f\u17db\u20a0-\u20cf\ua838\ufdfc\ufe69\uff04\uffe0\uffe1\uffe5\uffe6"
    "\U00011fdd-\U00011fe0\U0001e2ff\U0001ecb0"
)
_LETTER = r"[^\W\d_]"
_OPEN = r"(?:^|[\s(\[{“‘\"'—–\-/=:>])"  # what an opening quotation or emphasis mark comes after
_MARKS = r"(?:\*{2,3}|_{1,3}|~~|`+)"  # emphasis and code in Markdown
# words that are followed by another word, so that what comes next begins a new one
_LINKS = (
    "is was are were be been in on with as of to for by at from and or the a an called named using uses like means equals "
    "ist heißt est es è é är"
)
_LINK = rf"(?i:\b(?:{'|'.join(_LINKS.split())}))"
_ELIDED = "c|d|j|l|m|n|s|t|qu|jusqu|lorsqu|puisqu|quelqu|all|dall|dell|nell|sull|coll|un|quell|sant|o"  # l'Islande, dell'Arte, O'Brien
_SIGNS = r"\W+$"  # an answer of punctuation only, such as ";" or "?:"
_NO_SENTENCE_END = r"(?!(?:\.+|[!…]|[.!?…]+[\"'”’)\]}]+|[”’'])$)"  # not ".", "?\"" or "”"
# a mark that closes what the same mark opened before, after punctuation: **Answer:**
_CLOSING = rf"{_OPEN}(?P<mark>{_MARKS}|[\"'*])(?=\S)(?:(?!(?P=mark)).)+(?<=[^\w\s])(?P=mark)"
# the second mark of a pair that could also open one: „Wort“, “word”, »Wort«
_CLOSING_PAIR = r"„[^„“”]*[“”]|“[^“”]*”|«[^«»]*»|‹[^‹›]*›|(?<!\S)»[^»«]*«|(?<!\S)›[^›‹]*‹"
_HOUR = r"\b(?:[01]?\d|2[0-4])"
_MINUTE = r"[0-5]\d(?!\d)"
_VERSES = r"\d{1,3}(?:[-–,] ?\d+)*[a-c]?$"

_TABLE: tuple[tuple[str, str, bool | None], ...] = (
    (r"\s", "", True),
    # scripts without spaces
    (rf"[{_WIDE_MARKS}]", "", True),
    ("", rf"[{_WIDE_MARKS}]", True),
    (rf"[{UNSPACED}]", rf"[{UNSPACED}]", True),
    (rf"[{_CJK}]", rf"[“‘\"'(（{_CURRENCY}]", True),
    (rf"[{UNSPACED}][^\w\s]", rf"[{UNSPACED}]", None),
    # an answer that closes what the prompt opened
    (r"\((?=\S)[^)]*\S", r"\)", True),
    (r"\[(?=\S)[^\]]*\S", r"\]", True),
    (r"\{(?=\S)[^}]*\S", r"\}", True),
    (r"“(?=\S)[^”]*\S", "”", True),
    (rf"{_OPEN}\"(?=\S)[^\"]*\S", r"\"(?!\w)", True),
    # an answer of punctuation only
    (r"(?i:\b(?:https?|ftps?|wss?|file|ssh|git)):", r"//", True),
    (r"\b[A-Z]", r"[-+#*]+$", None),  # C++, F#
    (_LINK, rf"(?!!$){_SIGNS}", False),  # a single "!" may end the sentence
    (rf"[^\W\d_{UNSPACED}]", _NO_SENTENCE_END + _SIGNS, False),
    (rf"(?<![\s:])[:?,]|{_CLOSING}", _SIGNS, False),
    # an answer that begins with closing punctuation
    ("", r"[,;)\]}”]", True),
    ("", r"[.!?:%…]+(?:[\s'\"”’)\]}]|$)", True),
    (r"[nN]", r"['’]t(?![\w-])(?! [A-Z])", True),
    (r"\w", r"['’](?:s|re|ll|ve|d|m)(?![\w-])(?! [A-Z])", True),
    ("", r"['\"’](?:[\s.,;:!?)]|$)", True),
    # addresses
    (r"(?i:\blocalhost|\b\d{1,3}(?:\.\d{1,3}){3}|://[^\s/]+|\[[\da-f:]*:[\da-f:]*\]):", r"\d{2,5}(?!\d)", True),
    (r"\b(?:mailto|sips?|urn|doi|tel|arXiv):", r"\S+$", True),
    (r"\bgit@[\w.-]+:", r"\S+$", True),
    (r"[a-z]\.[a-z]{2,}:", r"\d+$", None),
    # numbers
    (r"\d", r"(?:st|nd|rd|th)\b|[°²³‰]|[.,:]\d|[-–/]\d", True),
    (r"\d\.", r"[\d.]+$", True),
    (rf"(?:[{_CURRENCY}] ?|\d,)\d{{1,3}},", r"\d{3}(?!\d)", True),
    (r"\b\d{1,3},", r"\d{3}(?:,\d{3})*(?:\.\d+)?%?$|\d{3},\d{3}|0\d\d(?!\d)", True),
    (r"\b\d{1,3},", r"\d{3}(?!\d)", None),
    # a clock time, a verse, a ratio or a score
    (r"\b(?:19|20)\d\d:", "", False),
    (rf"(?i:\b(?:at|from|until|till|by|before|after|since|um|ab|bis)) {_HOUR}:", _MINUTE, True),
    (rf"\d:\d\d ?(?:-|–|to|and|until|bis) ?{_HOUR}:|(?:UTC|GMT) ?[+\-−]\d\d?:", _MINUTE, True),
    (rf"{_HOUR}:", rf"{_MINUTE}(?::\d\d| ?(?:[ap]\.?m\b|Uhr\b|o['’]clock|UTC\b|[A-Z]{{1,4}}T\b))", True),
    (r"(?i:\b(?:is|was|are|were|ist|war|ratio|score|scale|odds)(?: of)?) \d+(?:\.\d+)?:", r"\d", True),
    (r"(?i:\b(?:is|was|are|were|ist|war) \w+) \d{1,3}:", _VERSES, True),
    (r"\d:", r"\d+(?:[-–.,:/] ?\d+)*[a-z%]?$", None),
    (r"\b(?:[01]\d|2[0-4]):", _MINUTE, None),
    # brackets and quotes at the end of the prompt
    (_CLOSING_PAIR, "", False),
    (r"[(\[{“„‘‚¿¡\\^]", "", True),
    (r"[\u0370-\u06ff][^\n]*«", "", True),
    ("«", "", None),  # a space in French, none in Spanish
    (r"‹|(?:^|[\s(])[»›”’]", "", True),
    # currencies and signs
    (rf"\d ?[{_CURRENCY}]", "", False),
    (rf"[{_CURRENCY}@]", "", True),
    (rf"(?:^|\n)#+|{_LETTER}#", "", False),
    (r"#|(?:^|\s)~", "", True),
    (r"\S/", "", True),
    (r"(?:^|\n)/", r"[\w.{~]", True),
    (r"(?i:\b(?:and|or)) /", "", False),
    (rf"(?:{_LINK}|\b(?:GET|POST|PUT|PATCH|DELETE|HEAD|OPTIONS)) /", r"[\w.{~]", True),
    (r"\S /", r"[a-z][\w.{}/-]*$", None),
    (r"\S /", "", False),
    (r":", r"//\S", True),
    (r"(?i:\bwww\.)", "", True),
    (r"(?:^|\n)\s*[-*•–—]+", "", False),
    (r"\d [-–−*+]", "", False),
    (r"\s[-−]", r"\d", True),
    (r"\s-{1,2}", rf"{_LETTER}", None),
    (r"\s[-–—−]+", "", False),
    (r"\s(?:[-+*/%&|^<>=!:~?]*=|&&|[-=~]>|<-|=~)", "", False),
    (r"\S[-‐‑–—־]+", "", True),
    (r"\S=", "", True),
    (r"\s&", "", False),
    (r"\S&", "", True),
    (r"\s<", r"\d", False),
    (r"(?:^|\s|\w)\+", r"\d", True),
    (r"<[A-Za-z][^<>]*>", "", True),
    (r"</[^<>]*>|(?:^|\n)>|\s>|\|", "", False),
    # quotation, emphasis, apostrophes
    (_CLOSING, "", False),
    (rf"{_OPEN}(?:{_MARKS}|[\"'‘])+", "", True),
    (r"\s\*", _LETTER, True),
    (rf"(?<![^\W\d_])(?i:{_ELIDED})['’]", _LETTER, True),
    (r"(?<!\S)[A-Za-z][A-Za-z0-9]*_", r"\w", True),
    (rf"{_MARKS}|[\"'’»*]", "", False),
    (rf"[{UNSPACED}][:,;!?]", "", None),
    (r"[:,;!?)\]}%”…]", "", False),
    (r"\.", r"[\"“(]|[A-ZÀ-Þ]", False),
    # a word and what may follow it
    (r"\w", r"\.[A-Z]", False),
    (_LINK, r"[^\s,;)\]}”]", False),
    (r"\w", r"['’]\w", False),
    (r"\d", rf"\d|[{_CURRENCY}]", None),
    (rf"[{UNSPACED}]", r"\S", None),
    (r"\w", rf"[\"“„‘(\[{{«¿¡{_CURRENCY}#~+=*_`<\\^|]|[-−]\d|--", False),
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
