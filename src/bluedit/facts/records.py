"""bluedit's own record of a fact: reading and writing it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from bluedit.errors import FactError
from bluedit.facts._fields import Fields, json_name
from bluedit.facts.fact import Fact, Neighbour, Probe
from bluedit.files import write_file

REQUIRED = ("prompt", "subject", "target")
KEYS = (*REQUIRED, "old_target", "paraphrases", "neighbours", "probes", "references", "id")


def fact_record(fact: Fact) -> dict[str, object]:
    """The fact as a record of bluedit's own format; what is empty is left out."""
    record: dict[str, object] = {"prompt": fact.prompt, "subject": fact.subject, "target": fact.target}
    if fact.old_target is not None:
        record["old_target"] = fact.old_target
    if fact.paraphrases:
        record["paraphrases"] = list(fact.paraphrases)
    if fact.neighbours:
        record["neighbours"] = [_neighbour(n) for n in fact.neighbours]
    if fact.probes:
        record["probes"] = [_probe(p) for p in fact.probes]
    if fact.references:
        record["references"] = list(fact.references)
    if fact.id:
        record["id"] = fact.id
    return record


def _neighbour(neighbour: Neighbour) -> object:
    if neighbour.answer is None:
        return neighbour.prompt
    return {"prompt": neighbour.prompt, "answer": neighbour.answer}


def _probe(probe: Probe) -> dict[str, object]:
    answers = {"answers": list(probe.answers)} if probe.answers else {}
    further = {"further": [list(names) for names in probe.further]} if probe.further else {}
    return {"kind": probe.kind, "prompt": probe.prompt, **answers, **further}


def read_record(record: Mapping[str, object]) -> Fact:
    """bluedit's own record: the attributes of `Fact`; the prompt has `{}` or the subject itself."""
    fields = Fields(record)
    fields.known(KEYS)
    prompt, subject, target = (fields.text(key) for key in REQUIRED)
    subject = subject.strip()
    paraphrases, old_target, name = fields.texts("paraphrases"), fields.maybe("old_target"), fields.label("id")
    neighbours = read_neighbours(fields, "neighbours", key="answer", strict=True)
    probes, references = _read_probes(fields), fields.texts("references")
    fields.check()
    make = Fact if "{}" in prompt else Fact.from_text
    return make(
        prompt,
        subject,
        target,
        old_target=old_target,
        paraphrases=paraphrases,
        neighbours=neighbours,
        probes=probes,
        references=references,
        id=name,
    )


def _read_probes(fields: Fields) -> list[Probe]:
    found = []
    for inner in fields.objects("probes"):
        inner.known(("kind", "prompt", "answers", "further"))
        found.append(
            Probe(inner.text("kind"), inner.text("prompt"), inner.texts("answers"), inner.lists_of_texts("further"))
        )
    return found


def read_neighbours(
    fields: Fields, name: str, *, key: str, default: str | None = None, strict: bool = False
) -> list[Neighbour]:
    """Prompts, or objects with a prompt and its answer under `key`; a bare prompt has the default answer."""
    found = []
    for i, item in enumerate(fields.items(name)):
        if isinstance(item, str):
            item = {"prompt": item, key: default}
        if not isinstance(item, dict):
            fields.faults.append(f"'{name}[{i}]' must be text or an object, not {json_name(item)}")
            continue
        inner = fields.inner(item, f"{name}[{i}]")
        if strict:
            inner.known(("prompt", key))
        answer = inner.maybe(key) if strict else inner.trimmed(key)
        found.append(Neighbour(inner.text("prompt"), answer))
    return found


def write_facts(path: str | Path, facts: Iterable[Fact]) -> None:
    """Write facts as JSONL in bluedit's own format; `read_facts` gives back equal ones.

    The file appears at once: it is written under another name in the same folder and then moved into place.

    Raises:
        FactError: no facts, text that is not valid Unicode, or a file that cannot be written.
    """
    path = Path(path)
    lines = [json.dumps(fact_record(fact), ensure_ascii=False) + "\n" for fact in facts]
    if not lines:
        raise FactError(f"no facts were given to write to {path}; pass at least one Fact")
    try:
        write_file(path, "".join(lines).encode())
    except UnicodeEncodeError as error:
        raise FactError(
            f"cannot write {path}: a fact has half a surrogate pair, {error.object[error.start]!r}"
        ) from error
    except OSError as error:
        raise FactError(f"cannot write {path}: {error.strerror}; choose a place that exists and is writable") from error
