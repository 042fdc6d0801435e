"""RippleEdits (arXiv 2307.12976): a record's edit is a sentence, which is split into prompt and target; its test queries become probes."""

from __future__ import annotations

import re
from itertools import takewhile

from bluedit.errors import FactError
from bluedit.facts._fields import Fields
from bluedit.facts.fact import Fact
from bluedit.facts.probe import Probe

CRITERIA = {
    "Logical_Generalization": "portability",
    "Compositionality_I": "portability",
    "Compositionality_II": "portability",
    "Subject_Aliasing": "alias",
    "Relation_Specificity": "subject",
    "Forgetfulness": "subject",
}

# The wording before and after the subject, tried in this order, because " of " and " is " occur in names, too.
_WORDINGS = (
    ("", "is followed by"),
    (
        "The name of the [a-z ]+? which ",
        "(?:is associated with|is part of|is a member of|is the capital of|plays in) is",
    ),
    ("The name of the award ", "won is"),
    ("The name of the position held by ", "is"),
    ("The name of the currency in ", "is"),
    ("The number of children ", "has is"),
    ("The names of the [a-z ]+? of ", "are"),
    ("The (?:name of the )?(?:country of citizenship|field of work|(?:head|place|date) of [a-z]+|[a-z ]+?) of ", "is"),
    ("", "follows"),
)
_LONGEST = 1000  # characters of a sentence; the patterns take quadratic time on longer ones
_PROMPTS = [re.compile(f"{before}(?P<subject>.*) {after} ") for before, after in _WORDINGS]


def read_rippleedits(fields: Fields) -> list[Fact]:
    """The edit of a record with its test queries as probes; `condition_queries`, what the model knew before, are not asked.

    A record gives no fact if its subject or target has no name (some published records lack it) or its target is the true one.
    """
    edit = fields.section("edit")
    sentence = edit.text("prompt")
    before = next((k for k in ("original_fact", "previous_fact") if edit.record.get(k) is not None), None)
    truth = edit.section(before).text("prompt") if before else None
    name = "/".join(filter(None, (edit.label("subject_id"), edit.label("relation"))))
    probes = _probes(fields)
    fields.check()
    prompt, subject, target, old = _split(sentence, truth)
    if not subject or not target or target == old:
        return []
    return [Fact(prompt, subject, target, old_target=old, probes=probes, id=name)]


def _split(sentence: str, truth: str | None) -> tuple[str, str, str, str | None]:
    """Prompt, subject, target and old target of "The mother tongue of SUBJECT is TARGET." and the true sentence.

    The prompt lies within what the two sentences share, so with two of them the target may contain " is ".
    """
    shared = sentence if truth is None else _beginning(sentence, truth)
    match = next(filter(None, (pattern.match(shared[:_LONGEST]) for pattern in _PROMPTS)), None)
    if not match:
        other = "" if truth is None else f" (the true sentence is {truth!r})"
        raise FactError(
            f"cannot tell the subject and the target in the edit {sentence!r}{other}; "
            "word it as RippleEdits does, e.g. 'The mother tongue of SUBJECT is TARGET.'"
        )
    start, end = match.span("subject")
    target, old = (None if s is None else s[match.end() :].removesuffix(".").strip() for s in (sentence, truth))
    return shared[:start] + "{}" + shared[end : match.end() - 1], match["subject"].strip(), target or "", old or None


def _beginning(one: str, other: str) -> str:
    """The characters with which both texts begin."""
    return "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _probes(fields: Fields) -> list[Probe]:
    """One probe per test query that has a known answer. All answers of a query must be given, each under any of its names.

    As in the authors' evaluation, a name of one character counts only if it is a digit.
    """
    probes: dict[Probe, None] = {}
    for key, kind in CRITERIA.items():
        for query in (query for test in fields.objects(key) for query in test.objects("test_queries")):
            prompt = query.text("prompt")
            names = [_names(answer) for answer in query.objects("answers")]
            if known := list(filter(None, names)):
                probes[Probe(kind, prompt, known[0], known[1:])] = None
    return list(probes)


def _names(answer: Fields) -> tuple[str, ...]:
    texts = [answer.trimmed("value") or "", *(text.strip() for text in answer.texts("aliases"))]
    return tuple(dict.fromkeys(text for text in texts if len(text) > 1 or text.isdigit()))
