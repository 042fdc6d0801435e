"""Comparing generated text with targets, and measuring it: words, whole-word matches, n-gram entropy, TF-IDF."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from bluedit.text.prompts import UNSPACED

_WEIGHTS = {2: 2 / 3, 3: 4 / 3}  # of bigrams and trigrams


def same_text(text: str, target: str) -> float:
    """1 if the text is the target, up to case, white space and punctuation at its ends; else 0."""
    return float(_plain(text) == _plain(target))


def starts_with(text: str, target: str) -> float:
    """1 if the text starts with the target as whole words, else 0."""
    return float(
        re.match(_whole(target), _plain(text)) is not None if _plain(target) else text.strip().startswith(target)
    )


def contains(text: str, target: str) -> float:
    """1 if the text contains the target as whole words, else 0."""
    return float(re.search(_whole(target), _plain(text)) is not None if _plain(target) else target in text)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .,;:!?\"'")


def _whole(target: str) -> str:
    """A pattern for the target as whole words ("Rome" is not in "Romeo"); scripts without spaces need no word boundary."""
    letter = rf"[^\W{UNSPACED}]"
    return rf"(?<!{letter}){re.escape(_plain(target))}(?!{letter})"


def ngram_entropy(text: str) -> float:
    """Mean over n = 2, 3 of weight x entropy (bits) of the text's word n-grams (ROME, arXiv 2202.05262, section 3.3)."""
    words = _words(text)
    total = 0.0
    for n, weight in _WEIGHTS.items():
        grams = Counter(zip(*(words[i:] for i in range(n)), strict=False))
        count = sum(grams.values())
        total += weight * -sum(c / count * math.log2(c / count) for c in grams.values())
    return total / len(_WEIGHTS)


def idf(documents: Sequence[str]) -> dict[str, float]:
    """Smoothed inverse document frequency of each word: ln((1 + N) / (1 + n)) + 1."""
    counts = Counter(word for text in documents for word in set(_words(text.casefold())))
    return {word: math.log((1 + len(documents)) / (1 + n)) + 1 for word, n in counts.items()}


def cosine(one: str, other: str, weights: dict[str, float]) -> float:
    """Cosine similarity of two texts' TF-IDF vectors; words without a weight are left out."""
    a, b = (
        {word: count * weights[word] for word, count in Counter(_words(text.casefold())).items() if word in weights}
        for text in (one, other)
    )
    size = math.sqrt(sum(v * v for v in a.values()) * sum(v * v for v in b.values()))
    return sum(a[word] * b[word] for word in a.keys() & b.keys()) / size if size else 0.0


def _words(text: str) -> list[str]:
    """Words and punctuation marks; text in a script without spaces is split into characters."""
    return re.findall(r"[\u3040-\u30ff\u3400-\u9fff]|\w+|[^\w\s]", text)
