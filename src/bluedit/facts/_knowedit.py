"""KnowEdit (arXiv 2401.01286), EasyEdit's collection: the flat record of an edit with its tests inside, as probes."""

from __future__ import annotations

from bluedit.facts._fields import Fields, json_name
from bluedit.facts._rippleedits import CRITERIA
from bluedit.facts.fact import Probe

_KINDS = {**CRITERIA, "Reasoning": "portability"}


def names_in(fields: Fields, key: str) -> list[str]:
    """The texts under a key, which may be one, a list, or a list of lists, as in the published files; blank ones are left out."""
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


def knowedit_probes(fields: Fields) -> list[Probe]:
    """The tests under `portability` and `locality`; any of a test's answers counts, and one without an answer is left out."""
    probes = []
    for part in ("portability", "locality"):
        if fields.record.get(part) is None:
            continue
        tests = fields.section(part)
        tests.known(_KINDS)
        for criterion, kind in _KINDS.items():
            for test in tests.objects(criterion):
                prompt, answers = test.text("prompt"), names_in(test, "ground_truth")
                if answers:
                    probes.append(Probe(kind, prompt, answers))
    return probes
