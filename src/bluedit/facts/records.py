"""bluedit's own record of a fact: reading and writing it."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bluedit.errors import FactError
from bluedit.facts._build import build, names_beside_marker, read_neighbours
from bluedit.facts._fields import Fields, Repeats
from bluedit.facts.fact import Fact
from bluedit.facts.probe import Neighbour, Probe
from bluedit.files import write_file

log = logging.getLogger(__name__)

REQUIRED = ("prompt", "subject", "target")
KEYS = (
    *REQUIRED,
    *("old_target", "joined", "template", "phrasings", "paraphrases", "neighbours", "probes", "references", "id"),
)
OPTIONAL = ("old_target", "joined", "phrasings", "paraphrases", "neighbours", "probes", "references")
ALIASES = ("queries", "question")  # more paraphrases; the first is FastEdit's name for them

_SEPARATOR = re.compile(r"\s\|(?:\s|$)")
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def fact_record(fact: Fact) -> dict[str, object]:
    """The fact as a record of bluedit's own format, without what is empty."""
    record: dict[str, object] = {"prompt": fact.prompt, "subject": fact.subject, "target": fact.target}
    optional = {
        "old_target": fact.old_target,
        "joined": fact.joined,
        "template": any(names_beside_marker(text, fact.subject) for text in (fact.prompt, *fact.phrasings)) or None,
        "phrasings": list(fact.phrasings) or None,
        "paraphrases": list(fact.paraphrases) or None,
        "neighbours": [_neighbour(n) for n in fact.neighbours] or None,
        "probes": [_probe(p) for p in fact.probes] or None,
        "references": list(fact.references) or None,
        "id": fact.id or None,
    }
    return record | {key: value for key, value in optional.items() if value is not None}


def _neighbour(neighbour: Neighbour) -> object:
    if neighbour.answer is None:
        return neighbour.prompt
    return {"prompt": neighbour.prompt, "answer": neighbour.answer}


def _probe(probe: Probe) -> dict[str, object]:
    answers = {"answers": list(probe.answers)} if probe.answers else {}
    further = {"further": [list(names) for names in probe.further]} if probe.further else {}
    return {"kind": probe.kind, "prompt": probe.prompt, **answers, **further}


def read_record(record: Mapping[str, object]) -> Fact:
    """The fact of a record that `fact_record` made; what a person wrote by hand is better read with `read_facts`.

    Raises:
        FactError: all faults of the record together.
    """
    return _read(Fields(record), marker=True)


def own_fact(fields: Fields) -> list[Fact]:
    """The fact of a record that a person wrote: the prompt has `{}` or the subject itself, but not both."""
    return [_read(fields)]


def fact_from_line(line: str) -> Fact:
    """A fact from one line: as `Fact.parse` reads it, or a JSON object with the keys of a record in a file.

    Raises:
        FactError: the line is neither, or the fact has faults.
    """
    repeats = Repeats()
    try:
        record = json.loads(line, object_pairs_hook=repeats.pairs)
    except (ValueError, RecursionError) as error:
        if re.match(r'\s*\{\s*"\w+"\s*:', line):
            raise FactError(f"cannot read the fact {line[:120]!r} as a JSON object: {error}") from None
        return Fact.parse(line)
    if not isinstance(record, dict):
        return Fact.parse(line)
    if fault := repeats.within(record):
        raise FactError(f"cannot read the fact {line[:120]!r}: {fault}")
    fields = Fields(record)
    (fact,) = own_fact(fields)
    for note in fields.notes:
        log.warning("%s", note)
    return fact


def csv_fact(fields: Fields) -> list[Fact]:
    """The fact of a row of cells: empty optional cells are absent; a list is split at " | ", unless it is a list of JSON or
    Python; a neighbour is split at "=>"."""
    record: dict[str, object] = {k: v for k, v in fields.record.items() if v or k in REQUIRED}
    for key in ("phrasings", "paraphrases", "queries", "neighbours", "references"):
        if key in record:
            found = fields.listed(key, 'one | two, or ["one", "two"]')
            record[key] = [p.strip() for p in _SEPARATOR.split(str(record[key]))] if found is None else found
    if (asked := fields.listed("question")) is not None:
        record["question"] = asked
    if isinstance(parts := record.get("neighbours"), list):
        record["neighbours"] = [_cell_neighbour(part) if isinstance(part, str) else part for part in parts]
    for key in ("joined", "template"):
        if key in record:
            record[key] = _TRUTH.get(str(record[key]).lower(), record[key])
    return own_fact(Fields(record, parent=fields))


def _cell_neighbour(part: str) -> str | dict[str, str]:
    prompt, arrow, answer = (piece.strip() for piece in part.rpartition("=>"))
    if not arrow:
        return part
    if not answer:
        raise FactError(f"the neighbour {part!r} has no answer after '=>'; write it, or leave the arrow out")
    return {"prompt": prompt, "answer": answer}


def _read(fields: Fields, *, marker: bool = False) -> Fact:
    fields.known((*KEYS, *ALIASES))
    prompt, subject, target = (fields.text(key) for key in REQUIRED)
    rest = optional_parts(fields)
    rest["id"] = fields.label("id")
    rest["paraphrases"] += fields.texts("queries") + fields.one_or_more("question")
    return build(fields, prompt, subject, target, marker=marker, **rest)


def optional_parts(fields: Fields) -> dict[str, Any]:
    """What a record has under the keys `OPTIONAL`, as attributes of a fact; faults are noted in the fields."""
    return {
        "old_target": fields.maybe("old_target"),
        "joined": fields.flag("joined"),
        "phrasings": fields.texts("phrasings"),
        "paraphrases": fields.texts("paraphrases"),
        "neighbours": read_neighbours(fields, "neighbours", key="answer", strict=True),
        "probes": _read_probes(fields),
        "references": fields.texts("references"),
    }


def _read_probes(fields: Fields) -> list[Probe]:
    found = []
    for inner in fields.objects("probes"):
        inner.known(("kind", "prompt", "answers", "further"))
        found.append(
            Probe(inner.text("kind"), inner.text("prompt"), inner.texts("answers"), inner.lists_of_texts("further"))
        )
    return found


def write_facts(path: str | Path, facts: Iterable[Fact]) -> None:
    """Write facts as JSONL in bluedit's own format; `read_facts` gives back equal ones.

    The file is written under another name in the same folder and then renamed, so nobody sees half of it.

    Raises:
        FactError: no facts, or a file that cannot be written.
    """
    path = Path(path)
    lines = [json.dumps(fact_record(fact), ensure_ascii=False) + "\n" for fact in facts]
    if not lines:
        raise FactError(f"no facts were given to write to {path}; pass at least one Fact")
    try:
        write_file(path, "".join(lines).encode())
    except OSError as error:
        raise FactError(f"cannot write {path}: {error.strerror}; choose a place that exists and is writable") from error
