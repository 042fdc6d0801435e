"""Texts about well-known names. A model looks up what it knows about a name at its last token: the second moment may hold the keys there,
and refining holds what the texts of facts say of other names."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cache
from importlib import resources

from bluedit.facts.fact import Fact
from bluedit.facts.phrasebook import wordings_of
from bluedit.facts.world import relations, world_facts
from bluedit.methods.wordings import Natural, Wordings
from bluedit.model.editable import EditableModel
from bluedit.model.fingerprint import text_fingerprint
from bluedit.text.wordings import chat_form, wording_rows

_VERSION = 2  # another one gives other rows
_SOURCES = ("world.toml", "phrasebook.toml", "general.toml")
_EACH = 4  # texts of a fact that are asked of other names
# The ordinary questions of a report ask about these. What is held must not be what is measured.
# fmt: off
_MEASURED = {
    "Amazon", "Brazil", "Canada", "Egypt", "Hamlet", "Hungary", "India", "Japan", "Mona Lisa", "Norway", "Peru", "Portugal",
    "Pride and Prejudice", "Siemens", "Sweden", "Switzerland", "The Lord of the Rings", "War and Peace", "bees", "dolphins", "sharks",
}
# fmt: on


def name_rows(lm: EditableModel, only: Callable[[str], bool] | None = None) -> list[list[int]]:
    """Token rows that end with the last token of a name: each bundled subject in one of its wordings, which take turns.

    Names that are the first token of their text are left out: that token is an attention sink.

    Args:
        lm: the model.
        only: which names; None takes all.
    """
    wordings, chat, rows = Natural(), chat_form(lm.tokenizer), []
    for i, fact in enumerate(_worded_facts()):
        if only is not None and not only(fact.subject):
            continue
        texts = [text for group in wordings.groups(fact, chat) for text in group]
        (row,) = wording_rows(lm.tokenizer, [[texts[i % len(texts)]]], fact.subject)
        if not row.at_start and row.subject_last < lm.max_length:
            rows.append(list(row.ids[: row.subject_last + 1]))
    return rows


def texts_of_others(
    lm: EditableModel, facts: Sequence[Fact], wordings: Wordings, is_taught: Callable[[str], bool], seed: int
) -> list[tuple[tuple[int, ...], int]]:
    """Some texts of each fact with a well-known name in the place of its subject, up to the answer: token ids, and the name's last token.

    Names are drawn from those of which the bundled facts say what the fact says, where its relation is one of theirs, otherwise from all.
    Names that a report's ordinary questions ask about are never among them.

    Args:
        lm: the model.
        facts: what is taught.
        wordings: the texts in which it is taught.
        is_taught: names that are left out, because facts are about them.
        seed: which texts and names are drawn.
    """
    drawn, chat = random.Random(seed), chat_form(lm.tokenizer)
    found: list[tuple[tuple[int, ...], int]] = []
    for fact in facts:
        names = [name for name in _names_like(fact) if not is_taught(name)]
        texts = [text for group in wordings.groups(fact, chat) for text in group if not text.name]
        for name in drawn.sample(names, min(_EACH, len(names))):
            (row,) = wording_rows(lm.tokenizer, [[drawn.choice(texts)]], name)
            if not row.at_start and row.target_start <= lm.max_length:
                found.append((row.ids[: row.target_start], row.subject_last))
    return found


def _names_like(fact: Fact) -> list[str]:
    """Names of which the bundled facts say the same; all of them where no relation fits."""
    by_question = _names_by_question()
    known = [
        name
        for question in _questions(fact.prompt, fact.subject, fact.target)
        for name in by_question.get(question, ())
    ]
    return list(dict.fromkeys(known or (name for names in by_question.values() for name in names)))


@cache
def _names_by_question() -> dict[str, list[str]]:
    """The names of which the bundled relations answer a question."""
    asked: dict[str, list[str]] = {}
    for relation in relations():
        names = [name for name in relation.facts if name not in _MEASURED]
        for question in _questions(relation.prompt, *next(iter(relation.facts.items()))):
            asked.setdefault(question, []).extend(names)
    return asked


def _questions(prompt: str, subject: str, target: str) -> Sequence[str]:
    """What the phrase book asks of a prompt's relation."""
    found = wordings_of(prompt, subject=subject, target=target)
    return found.questions if found else ()


@cache
def _worded_facts() -> list[Fact]:
    """The bundled facts with their phrasings and questions. Every batch that is refined asks for them."""
    return [Natural().extended(fact) for fact in world_facts()]


def names_fingerprint() -> str:
    """Fingerprint of what `name_rows` is made from: the bundled facts, and the wordings that they get."""
    bundled = resources.files("bluedit.facts")
    return text_fingerprint(_VERSION, *(bundled.joinpath(name).read_text("utf-8") for name in _SOURCES))
