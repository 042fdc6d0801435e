"""Whether two names are the same subject."""

from __future__ import annotations

import unicodedata

_ARTICLES = ("the ", "a ", "an ")
_APOSTROPHES = str.maketrans(dict.fromkeys("’‘ʼ`´", "'"))


def same_subject_key(subject: str) -> str:
    """A text that forms of one name share: case, Unicode form, articles, possessive, white space and outer punctuation do not count."""
    key = " ".join(unicodedata.normalize("NFKC", subject).translate(_APOSTROPHES).casefold().split())
    article = next((a for a in _ARTICLES if key.startswith(a)), "")
    key = key.removeprefix(article).strip("\"'.,;:!?()[]“”«» ")
    return (key.removesuffix("'s") or key) if key else " ".join(subject.split())
