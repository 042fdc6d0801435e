"""The bundled passages of ordinary text."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def ordinary_passages() -> tuple[str, ...]:
    """Short texts written for this project, on which the drift of perplexity is measured."""
    text = resources.files("bluedit.evaluate").joinpath("passages.txt").read_text("utf-8")
    return tuple(" ".join(part.split()) for part in text.split("\n\n") if part.strip())
