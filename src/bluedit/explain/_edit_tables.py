"""The explanation of an edit as tables, each of which becomes a CSV file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from bluedit.explain._edit_data import Arrival, EditExplanation, Written


@dataclass(frozen=True)
class TextRow:
    """One text: see `Asked`. `number` counts texts from 1, as the page does; `given` is the text as the model gets it.

    All line ends in texts are "\\n", which every reader of CSV takes in quotes.
    """

    number: int
    form: str
    role: str
    prompt: str
    given: str
    token: str
    position: str
    received: float | None
    target_before: float
    target_after: float
    rival: str | None
    rival_before: float | None
    rival_after: float | None
    ahead: float | None
    said: bool
    kept: bool | None
    says_before: str
    says: str


@dataclass(frozen=True)
class KeyRow:
    """What the key of a text receives at one layer."""

    number: int
    layer: int
    match: float | None
    delivered: float


@dataclass(frozen=True)
class LensRow:
    """The logit lens: probability of an answer (of so many tokens) after a text at one layer."""

    number: int
    answer: str
    tokens: int
    layer: int
    before: float
    after: float


@dataclass(frozen=True)
class OtherRow:
    """Another edit: see `Other`."""

    number: int | None
    prompt: str
    target: str
    when: str
    match: float | None
    adds: float
    takes: float
    interferes: bool


def tables_of(found: EditExplanation) -> Mapping[str, tuple[type[Any], list[Any]]]:
    """By name of the table: what a row is, and the rows."""
    return {
        "texts": (TextRow, list(_texts(found))),
        "keys": (KeyRow, list(_keys(found))),
        "lens": (LensRow, list(_lenses(found))),
        "writes": (Written, list(found.written)),
        "arrivals": (Arrival, list(found.arrivals)),
        "others": (OtherRow, list(_others(found))),
    }


def _texts(found: EditExplanation) -> Iterator[TextRow]:
    for number, one in enumerate(found.asked, 1):
        same = {f.name: getattr(one, f.name) for f in fields(TextRow) if f.name not in ("number", "given")}
        row: dict[str, Any] = {"number": number, "given": one.text, **same}
        lines: dict[str, Any] = {
            name: _lines(value) if isinstance(value, str) else value for name, value in row.items()
        }
        yield TextRow(**lines)


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _keys(found: EditExplanation) -> Iterator[KeyRow]:
    for number, one in enumerate(found.asked, 1):
        for layer, delivered in one.delivered.items():
            yield KeyRow(number, layer, one.match[layer], delivered)


def _lenses(found: EditExplanation) -> Iterator[LensRow]:
    for number, one in enumerate(found.asked, 1):
        for answer, lens in ((found.fact.target, one.lens), (one.rival, one.rival_lens)):
            if lens:
                for layer, (before, after) in enumerate(zip(lens.before, lens.after, strict=True)):
                    yield LensRow(number, answer or "", lens.tokens, layer, before, after)


def _others(found: EditExplanation) -> Iterator[OtherRow]:
    for one in found.others:
        yield OtherRow(**{f.name: getattr(one, f.name) for f in fields(OtherRow)})
