"""MEND's zsRE (arXiv 2110.11309) and its translations Bi-ZsRE (2309.08952) and MzsRE (2312.13040)."""

from __future__ import annotations

from typing import Any

from bluedit.errors import FactError, did_you_mean
from bluedit.facts._build import build, one_hop
from bluedit.facts._fields import Fields
from bluedit.facts.fact import Fact
from bluedit.facts.probe import Neighbour, Probe
from bluedit.facts.words import is_question


def read_zsre(fields: Fields) -> list[Fact]:
    """MEND's record, read as ROME and MEMIT do: the model is taught the true answer, `answers[0]`.

    MEND's own counterfactual target `alt` and the base model's prediction `pred` are ignored, so the old target is not known.
    Only a record without `answers` is taught `alt`. EasyEdit's question one step away follows from `alt`, so it is left
    out unless that is what is taught.
    """
    question, subject = fields.text("src"), fields.text("subject")
    answers, alternative = fields.texts("answers"), fields.maybe("alt")
    if not answers and (fields.has("answers") or alternative is None):
        fields.faults.append("'answers' has no answer; the first one is what the model is taught")
    rest = _common(fields)
    if answers and alternative not in (None, answers[0]):
        rest["probes"] = []
    target = answers[0].strip() if answers else (alternative or "").strip()
    return [build(fields, question, subject, target, **rest)]


def _common(fields: Fields) -> dict[str, Any]:
    """Paraphrase, neighbour, probe and id. The neighbour keeps its "nq question: " and ends in a question mark."""
    rephrase, loc, answer = fields.filled("rephrase"), fields.filled("loc"), fields.trimmed("loc_ans")
    return {
        "paraphrases": [rephrase] if rephrase else [],
        "neighbours": [Neighbour(_question(loc), answer)] if loc else [],
        "probes": one_hop(fields),
        "id": fields.label("case_id"),
    }


def _question(text: str) -> str:
    text = text.rstrip()
    return text if is_question(text) else text + "?"


def is_mzsre(record: dict[str, object]) -> bool:
    """Whether every object in a record is one of zsRE, as where the keys are languages; numbers and texts may stand beside them."""
    inner = [value for value in record.values() if isinstance(value, dict)]
    return bool(inner) and all({"src", "subject"} <= value.keys() for value in inner)


def read_mzsre(fields: Fields, language: str = "") -> list[Fact]:
    """A record with one question in several languages: taught in one of them, asked in the others.

    As in the papers the target is `alt`; `answers[0]`, where there is one, is the old target. In each other language the question
    becomes a probe of the kind "alias", its unrelated question a neighbour and its question one step away a probe.

    Args:
        language: the key of the language to teach; by default the first one of the record.
    """
    sections = {name: fields.section(name) for name, value in fields.record.items() if isinstance(value, dict)}
    taught = language or next(iter(sections), "")
    if taught not in sections:
        raise FactError(f"the record has no language {taught!r}; {did_you_mean(taught, sections)}")
    one = sections[taught]
    target, answers = _target(one), one.texts("answers")
    rest = _common(one)
    for other in (section for name, section in sections.items() if name != taught):
        more, answer = _common(other), _target(other)
        rest["probes"] += [Probe("alias", other.text("src"), (answer,)), *more["probes"]]
        rest["neighbours"] += more["neighbours"]
    old = next((a.strip() for a in answers if a.strip() != target), None)
    rest |= {"old_target": old, "id": one.label("case_id") or fields.label("case_id")}
    return [build(fields, one.text("src"), one.text("subject"), target, **rest)]


def _target(fields: Fields) -> str:
    return fields.trimmed("alt") or next(iter(fields.texts("answers")), "").strip() or fields.text("alt")
