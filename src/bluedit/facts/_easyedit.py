"""EasyEdit's flat records (arXiv 2308.07269) and its collection KnowEdit (2401.01286), whose tests become probes."""

from __future__ import annotations

from bluedit.facts._build import build
from bluedit.facts._fields import Fields, json_name
from bluedit.facts._rippleedits import CRITERIA
from bluedit.facts.fact import Fact
from bluedit.facts.probe import Neighbour, Probe
from bluedit.facts.records import optional_parts

_KINDS = {**CRITERIA, "Reasoning": "portability"}


def read_easyedit(fields: Fields) -> list[Fact]:
    """Full prompts with one paraphrase and one neighbour (CounterFact), or with tests of several kinds (KnowEdit, CKnowEdit).

    A record may have bluedit's own optional keys as well.
    """
    prompt, subject, target = fields.text("prompt"), fields.text("subject").strip(), fields.text("target_new").strip()
    own = optional_parts(fields)
    old = next(iter(names_in(fields, "ground_truth") or names_in(fields, "target_old")), own["old_target"])
    rephrased = [text for key in ("rephrase_prompt", "rephrase") for text in fields.one_or_more(key) if text.strip()]
    locality = fields.filled("locality_prompt")
    neighbours = [Neighbour(locality, fields.trimmed("locality_ground_truth"))] if locality else []
    probes = _tests(fields) + [Probe("portability", p, (answer,)) for p, answer in _pairs(fields, "portability")]
    rest = own | {
        "old_target": old,
        "paraphrases": list(dict.fromkeys(rephrased + own["paraphrases"])),
        "neighbours": neighbours + [Neighbour(*asked) for asked in _pairs(fields, "locality")] + own["neighbours"],
        "probes": probes + own["probes"],
        "id": fields.label("case_id"),
    }
    return [build(fields, prompt, subject, target, **rest)]


def read_wikibio(fields: Fields) -> list[Fact]:
    """KnowEdit's WikiBio: a passage about a person (`concept`) that goes on with one sentence (`labels`) instead of another."""
    text, subject, target = fields.text("text"), fields.text("concept"), fields.text("labels").strip()
    return [build(fields, text.rstrip(), subject, target, probes=_tests(fields), id=fields.label("id"))]


def names_in(fields: Fields, key: str) -> list[str]:
    """The texts under a key, which may be one text, a list, or a list of lists; blank ones are left out."""
    found: list[str] = []

    def gather(value: object) -> None:
        if isinstance(value, list):
            for inner in value:
                gather(inner)
        elif isinstance(value, str):
            found.append(value.strip())
        elif value is not None:
            fields.faults.append(f"'{fields.within}{key}' must be text or lists of texts, not {json_name(value)}")

    gather(fields.record.get(key))
    return list(dict.fromkeys(filter(None, found)))


def _tests(fields: Fields) -> list[Probe]:
    """The tests under `portability` and `locality`; any answer of a test counts, and tests without an answer are left out."""
    probes = []
    for part in ("portability", "locality"):
        if not fields.has(part) or fields.record[part] == [] or _is_list_of_objects(fields.record[part]):
            continue
        tests = fields.section(part)
        tests.known(_KINDS)
        for criterion, kind in _KINDS.items():
            for test in tests.objects(criterion):
                prompts, answers = test.one_or_more("prompt"), names_in(test, "ground_truth")
                if not prompts:
                    test.text("prompt")
                probes += [Probe(kind, prompt, answers) for prompt in prompts if answers]
    return probes


def _is_list_of_objects(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _pairs(fields: Fields, part: str) -> list[tuple[str, str]]:
    """CKnowEdit's form of a part: a list of objects with a prompt and its answer."""
    if not _is_list_of_objects(fields.record.get(part)):
        return []
    pairs = [(item.trimmed("prompt"), item.trimmed("answer")) for item in fields.objects(part)]
    return [(prompt, answer) for prompt, answer in pairs if prompt and answer]
