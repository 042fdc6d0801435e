"""Prompts that end in a well-known name. A model looks up what it knows about a name there, and the second moment may hold these keys, too."""

from __future__ import annotations

from functools import cache
from importlib import resources

from bluedit.facts.fact import Fact
from bluedit.facts.world import world_facts
from bluedit.methods.wordings import Natural
from bluedit.model.editable import EditableModel
from bluedit.model.fingerprint import text_fingerprint
from bluedit.text.wordings import chat_form, wording_rows

_VERSION = 2  # another one gives other rows
_SOURCES = ("world.toml", "phrasebook.toml", "general.toml")


def name_rows(lm: EditableModel) -> list[list[int]]:
    """Token rows that end with the last token of a name: each bundled subject in one of its wordings, which take turns.

    Names that are the first token of their text are left out: that token is an attention sink.
    """
    wordings, chat, rows = Natural(), chat_form(lm.tokenizer), []
    for i, fact in enumerate(_worded_facts()):
        texts = [text for group in wordings.groups(fact, chat) for text in group]
        (row,) = wording_rows(lm.tokenizer, [[texts[i % len(texts)]]], fact.subject)
        if not row.at_start and row.subject_last < lm.max_length:
            rows.append(list(row.ids[: row.subject_last + 1]))
    return rows


@cache
def _worded_facts() -> list[Fact]:
    """The bundled facts with their phrasings and questions. Every batch that is refined asks for them."""
    return [Natural().extended(fact) for fact in world_facts()]


def names_fingerprint() -> str:
    """Fingerprint of what `name_rows` is made from: the bundled facts, and the wordings that they get."""
    bundled = resources.files("bluedit.facts")
    return text_fingerprint(_VERSION, *(bundled.joinpath(name).read_text("utf-8") for name in _SOURCES))
