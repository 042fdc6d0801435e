"""Where the sentences of generated texts end."""

from __future__ import annotations

import re

from bluedit.evaluate.said import mentions

# A full stop after an initial, a number of a list or an abbreviation is not the end of a sentence.
_END = re.compile(r"(?<!\b[A-Za-z\d])(?<!\b(?:Mr|Ms|Dr|St))(?<!\bMrs)[.!?](?=\s)")


def first_sentence(text: str) -> str:
    """The first sentence of the first line that is not empty."""
    line = text.strip().partition("\n")[0].strip()
    end = _END.search(line)
    return line[: end.end()] if end else line


def has_sentence(text: str) -> bool:
    """Whether a sentence or a line ends in a text and something follows it."""
    text = text.lstrip()
    return "\n" in text or _END.search(text) is not None


def up_to(text: str, target: str) -> str | None:
    """The text up to the end of the first sentence by which the target has been mentioned; None if nothing follows such a sentence."""
    ends = (text[: end.end()] for end in _END.finditer(text))
    return next((part for part in ends if mentions(part, target)), None)
