"""Sets of questions: WikiBigEdit (arXiv 2503.05683), HalluEditBench (2410.16251) and UnKE (2405.15349)."""

from __future__ import annotations

import re
from itertools import takewhile

from bluedit.errors import FactError
from bluedit.facts._build import build
from bluedit.facts._fields import Fields
from bluedit.facts.fact import Fact
from bluedit.facts.probe import Neighbour, Probe
from bluedit.facts.words import NO_WORD_BOUNDARIES

_HOPS = range(2, 7)
_LONGEST_QUESTION = 100  # words of a question in which a subject is looked for
_WORD = re.compile(rf"[{NO_WORD_BOUNDARIES}]|[^\W{NO_WORD_BOUNDARIES}]+")
_LITTLE_WORDS = (
    "a about after all also an and any are as at be been before by can could did do does for from had has have he her his how if "
    "in into is it its like made many more most much of on one or s she should so some such t than that the their there these "
    "they this those to was were what when where which who whom whose why will with would you your"
)
_LITTLE = frozenset(_LITTLE_WORDS.split())


def read_wikibigedit(fields: Fields) -> list[Fact]:
    """A question about a recent change. `rephrase` is its paraphrase, `loc` a neighbour, and `mhop` and `personas` (the question
    in the voice of somebody else) are probes."""
    question, subject, target = fields.text("update"), fields.text("subject"), fields.text("ans")
    loc, hop, answer = fields.trimmed("loc"), fields.trimmed("mhop"), fields.trimmed("mhop_ans")
    probes = [Probe("portability", text, (target.strip(),)) for text in fields.several("personas")]
    rest = {
        "paraphrases": fields.several("rephrase"),
        "neighbours": [Neighbour(loc, fields.trimmed("loc_ans"))] if loc else [],
        "probes": probes + ([Probe("multihop", hop, (answer,))] if hop and answer else []),
        "id": fields.label("id"),
    }
    return [build(fields, question, subject, target.strip(), **rest)]


def read_hallueditbench(fields: Fields) -> list[Fact]:
    """A question that a model answered wrongly, with the true answer `object` as the target.

    What some model said (`output_...`) is not taken for the old target, since it is another model's answer. Yes and no
    questions and the reversed relation become probes of the kind "portability", questions over several hops "multihop". The
    multiple-choice questions are left out.
    """
    question, subject, target = fields.text("question"), fields.text("subject"), fields.text("object").strip()
    asked = [
        ("portability", "yes_question", "Yes"),
        ("portability", "no_question", "No"),
        ("portability", "reversed_relation_question", subject.strip()),
        *(("multihop", f"question_{n}hop", fields.trimmed(f"answer_{n}hop")) for n in _HOPS),
    ]
    found = [(kind, fields.trimmed(key), answer) for kind, key, answer in asked]
    rest = {
        "paraphrases": fields.several("paraphrased_question"),
        "neighbours": [Neighbour(text) for text in fields.several("locality_question")],
        "probes": [Probe(kind, text, (answer,)) for kind, text, answer in found if text and answer],
        "id": fields.label("id"),
    }
    return [build(fields, question, subject, target, **rest)]


def read_unke(fields: Fields) -> list[Fact]:
    """A question with a passage as its answer. The record names no subject, so the words that open the passage and also stand
    in the question are taken for it, with a note; the questions about details become probes."""
    question, answer = fields.text("question"), fields.text("answer").strip()
    details = zip(fields.texts("sub_question"), fields.texts("sub_answer"), strict=False)
    rest = {
        "paraphrases": fields.several("para_question"),
        "probes": [Probe("portability", asked, (text,)) for asked, text in details if asked.strip() and text.strip()],
        "id": fields.label("id"),
    }
    subject = fields.trimmed("subject")
    fields.check()
    if subject is None:
        subject = _shared_name(question, answer)
        fields.notes.append(f"the record names no subject; {subject!r} is taken, which question and answer share")
    return [build(fields, question, subject, answer, **rest)]


def _shared_name(question: str, answer: str) -> str:
    """The first run of words in the answer that the question has as well, as the question spells it.

    Raises:
        FactError: they share nothing but little words, or the question is too long to be searched.
    """
    asked = list(_WORD.finditer(question))
    words, told = ([m.group().casefold() for m in found] for found in (asked, _WORD.finditer(answer)))
    for start, word in enumerate(told if len(asked) <= _LONGEST_QUESTION else ()):
        if word in _LITTLE or word not in words:
            continue
        first, length = max(
            ((i, _run(words[i:], told[start:])) for i, w in enumerate(words) if w == word), key=lambda r: r[1]
        )
        name = question[asked[first].start() : asked[first + length - 1].end()]
        if len(name) > 1:
            return name
    raise FactError(
        f"the record has no 'subject', and question and answer share no name: {question!r}; add 'subject' with words of the question"
    )


def _run(words: list[str], others: list[str]) -> int:
    """How many words both lists begin with, not counting little words at the end."""
    length = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(words, others, strict=False)))
    while length > 1 and words[length - 1] in _LITTLE:
        length -= 1
    return length
