"""Ordinary text, which an edit should not affect: the bundled passages, and how passages become token rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from bluedit.text.prompts import encode

if TYPE_CHECKING:
    from bluedit.model.editable import EditableModel


ORDINARY_TOKENS = 1200
"""Of the passages, on which reports and guards measure perplexity."""


@cache
def ordinary_passages() -> tuple[str, ...]:
    """The bundled passages: short texts written for this project, for measuring drift of perplexity."""
    text = resources.files("bluedit.evaluate").joinpath("passages.txt").read_text("utf-8")
    return tuple(" ".join(part.split()) for part in text.split("\n\n") if part.strip())


def passage_rows(lm: EditableModel, texts: Sequence[str], tokens: int) -> list[list[int]]:
    """Token rows with the first `tokens` tokens of some texts, one row per text; texts are cut at the model's context, and rows of one
    token are left out."""
    rows: list[list[int]] = []
    for text in texts:
        row = encode(lm.tokenizer, text)[0][: min(lm.max_length, max(0, tokens - sum(map(len, rows))))]
        if len(row) > 1:
            rows.append(row)
    return rows


def passages_beyond(lm: EditableModel, texts: Sequence[str], tokens: int) -> Sequence[str]:
    """The texts that `passage_rows` does not use."""
    used = 0
    for i, text in enumerate(texts):
        if used >= tokens:
            return texts[i:]
        length = min(lm.max_length, len(encode(lm.tokenizer, text)[0]))
        used += length if length > 1 else 0
    return ()
