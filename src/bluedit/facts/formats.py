"""The formats of fact files: one row of `FORMATS` each, with the function that turns a record into a `Fact`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from bluedit.errors import FactError, did_you_mean
from bluedit.facts.fact import Fact, Neighbour

REQUIRED = ("prompt", "subject", "target")
OPTIONAL = ("old_target", "paraphrases", "neighbours", "id")
COLUMNS = REQUIRED + OPTIONAL

_SEPARATOR = re.compile(r"\s\|(?:\s|$)")
_JSON_NAMES = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}


@dataclass(frozen=True)
class Format:
    """One way of writing facts down.

    Attributes:
        name: what `read_facts(format=...)` calls it.
        description: one sentence for help texts.
        recognises: whether a record with this set of keys is of the format.
        convert: one record to one fact; raises a FactError that names all faults of the record.
        layout: how the records lie in the file.
        aliases: other names for it.
    """

    name: str
    description: str
    recognises: Callable[[frozenset[str]], bool]
    convert: Callable[[Mapping[str, object]], Fact]
    layout: Literal["json", "csv"] = "json"
    aliases: tuple[str, ...] = ()


def json_name(value: object) -> str:
    """What a JSON value is, in words: "a list", "a number"."""
    return _JSON_NAMES.get(type(value), "a number")


class _Fields:
    """The typed values of one record. What is missing or of the wrong type is collected; `check` raises it."""

    def __init__(self, record: Mapping[str, object], within: str = "", faults: list[str] | None = None) -> None:
        self.record = record
        self.within = within
        self.faults: list[str] = [] if faults is None else faults

    def text(self, key: str) -> str:
        """A text that must be there."""
        if self._absent(key):
            self.faults.append(f"'{self.within}{key}' is missing")
            return ""
        return self._as_text(self.record[key], self.within + key)

    def maybe(self, key: str) -> str | None:
        """A text that may be missing or null."""
        return None if self._absent(key) else self._as_text(self.record[key], self.within + key)

    def items(self, key: str) -> list[object]:
        """A list of anything; missing or null is the empty list."""
        value = [] if self._absent(key) else self.record[key]
        if not isinstance(value, list):
            self.faults.append(f"'{self.within}{key}' must be a list, not {json_name(value)}")
            return []
        return value

    def texts(self, key: str) -> list[str]:
        """A list of texts; missing or null is the empty list."""
        return [self._as_text(v, f"{self.within}{key}[{i}]") for i, v in enumerate(self.items(key))]

    def section(self, key: str) -> _Fields:
        """The fields of the object under `key`, which must be there."""
        if self._absent(key):
            self.faults.append(f"'{self.within}{key}' is missing")
        elif not isinstance(self.record[key], dict):
            self.faults.append(f"'{self.within}{key}' must be an object, not {json_name(self.record[key])}")
        else:
            return self.inner(self.record[key], key)
        return _Fields({}, faults=[])

    def inner(self, value: object, name: str) -> _Fields:
        """The fields of an object that stands inside this record; faults go to the same list."""
        return _Fields(value if isinstance(value, dict) else {}, f"{self.within}{name}.", self.faults)

    def label(self, key: str) -> str:
        """A name: text or a whole number; empty where there is none."""
        value = self.record.get(key)
        return str(value) if type(value) is int else self.maybe(key) or ""

    def known(self, choices: Iterable[str]) -> None:
        """Note every key that is not among `choices`."""
        choices = list(choices)
        unknown = [key for key in self.record if key not in choices]
        self.faults += [f"unknown key '{self.within}{key}' ({did_you_mean(key, choices)})" for key in unknown]

    def check(self) -> None:
        """Raise all that was noted as one FactError."""
        if self.faults:
            raise FactError("; ".join(self.faults))

    def _absent(self, key: str) -> bool:
        return self.record.get(key) is None

    def _as_text(self, value: object, name: str) -> str:
        if not isinstance(value, str):
            self.faults.append(f"'{name}' must be text, not {json_name(value)}")
            return ""
        if any("\ud800" <= c <= "\udfff" for c in value):
            self.faults.append(f"'{name}' has half a surrogate pair in {value!r}; write the character itself")
        return value


def _from_own(record: Mapping[str, object]) -> Fact:
    """bluedit's own record: the attributes of `Fact`; the prompt has `{}` or the subject itself."""
    fields = _Fields(record)
    fields.known(COLUMNS)
    prompt, subject, target = (fields.text(key) for key in REQUIRED)
    paraphrases, old_target, name = fields.texts("paraphrases"), fields.maybe("old_target"), fields.label("id")
    neighbours = _neighbours(fields, "neighbours", key="answer", strict=True)
    fields.check()
    make = Fact if "{}" in prompt else Fact.from_text
    return make(prompt, subject, target, old_target=old_target, paraphrases=paraphrases, neighbours=neighbours, id=name)


def _neighbours(
    fields: _Fields, name: str, *, key: str, default: str | None = None, strict: bool = False
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
        answer = inner.maybe(key)
        found.append(Neighbour(inner.text("prompt"), answer if strict else _trimmed(answer)))
    return found


def _from_csv(row: Mapping[str, object]) -> Fact:
    """A row of cells: an empty optional cell is absent; lists are split at " | ", neighbours at "=>"."""
    record: dict[str, object] = {k: v for k, v in row.items() if v or k in REQUIRED}
    for key in ("paraphrases", "neighbours"):
        if key in record:
            record[key] = [part.strip() for part in _SEPARATOR.split(str(record[key]))]
    if isinstance(parts := record.get("neighbours"), list):
        record["neighbours"] = [_cell_neighbour(part) for part in parts]
    return _from_own(record)


def _cell_neighbour(part: str) -> str | dict[str, str]:
    prompt, arrow, answer = (piece.strip() for piece in part.rpartition("=>"))
    if not arrow:
        return part
    if not answer:
        raise FactError(f"the neighbour {part!r} has no answer after '=>'; write it, or leave the arrow out")
    return {"prompt": prompt, "answer": answer}


def _from_counterfact(record: Mapping[str, object]) -> Fact:
    """ROME's and MEMIT's record. A neighbour without an answer of its own has `target_true` (arXiv 2202.05262)."""
    fields = _Fields(record)
    rewrite = fields.section("requested_rewrite")
    prompt, subject = rewrite.text("prompt"), rewrite.text("subject")
    target = rewrite.section("target_new").text("str").strip()
    known = rewrite.record.get("target_true") is not None
    old = rewrite.section("target_true").text("str").strip() if known else None
    paraphrases = fields.texts("paraphrase_prompts")
    neighbours = _neighbours(fields, "neighborhood_prompts", key="target", default=old)
    name = fields.label("case_id")
    fields.check()
    return Fact(prompt, subject, target, old_target=old, paraphrases=paraphrases, neighbours=neighbours, id=name)


def _from_easyedit(record: Mapping[str, object]) -> Fact:
    """EasyEdit's flat CounterFact: full prompts, one paraphrase, one neighbour."""
    fields = _Fields(record)
    prompt, subject, target = fields.text("prompt"), fields.text("subject"), fields.text("target_new").strip()
    old, rephrase, name = (
        _trimmed(fields.maybe("ground_truth")),
        fields.maybe("rephrase_prompt"),
        fields.label("case_id"),
    )
    locality, answer = fields.maybe("locality_prompt"), _trimmed(fields.maybe("locality_ground_truth"))
    fields.check()
    return Fact.from_text(
        prompt,
        subject,
        target,
        old_target=old,
        paraphrases=() if rephrase is None else (rephrase,),
        neighbours=() if locality is None else (Neighbour(locality, answer),),
        id=name,
    )


def _from_zsre(record: Mapping[str, object]) -> Fact:
    """MEND's zsRE, read as ROME and MEMIT do: the model is taught the true answer, `answers[0]`.

    MEND's own counterfactual target `alt` and the base model's prediction `pred` are ignored, so the old target is not
    known. The neighbour keeps its "nq question: " and ends in a question mark.
    """
    fields = _Fields(record)
    question, subject, answers = fields.text("src"), fields.text("subject"), fields.texts("answers")
    rephrase, loc, answer = fields.maybe("rephrase"), fields.maybe("loc"), _trimmed(fields.maybe("loc_ans"))
    name = fields.label("case_id")
    if not answers:
        fields.faults.append("'answers' has no answer; the first one is what the model is taught")
    fields.check()
    return Fact.from_text(
        question,
        _as_it_stands(subject, question),
        answers[0].strip(),
        paraphrases=() if rephrase is None else (rephrase,),
        neighbours=() if loc is None else (Neighbour(_question(loc), answer),),
        id=name,
    )


def _trimmed(text: str | None) -> str | None:
    return None if text is None else text.strip()


def _as_it_stands(subject: str, text: str) -> str:
    """The subject with the upper and lower case it has in the text; unchanged if it is not there at all."""
    if not subject or subject in text:
        return subject
    found = re.findall(re.escape(subject), text, re.IGNORECASE)
    return found[-1] if found else subject


def _question(text: str) -> str:
    text = text.rstrip()
    return text if not text or text.endswith("?") else text + "?"


FORMATS: tuple[Format, ...] = (
    Format(
        "counterfact",
        "CounterFact as ROME and MEMIT publish it (also multi_counterfact): JSON with requested_rewrite, "
        "paraphrase_prompts and neighborhood_prompts",
        lambda keys: "requested_rewrite" in keys,
        _from_counterfact,
        aliases=("multi_counterfact",),
    ),
    Format(
        "easyedit",
        "CounterFact as EasyEdit publishes it: JSON or JSONL with prompt, subject, target_new, ground_truth, "
        "rephrase_prompt, locality_prompt and locality_ground_truth",
        lambda keys: {"prompt", "subject", "target_new"} <= keys,
        _from_easyedit,
    ),
    Format(
        "zsre",
        "zsRE as MEND publishes it: JSON or JSONL with src, subject, answers, rephrase, loc and loc_ans; "
        "the model is taught answers[0], as in ROME and MEMIT",
        lambda keys: {"src", "subject", "answers"} <= keys,
        _from_zsre,
    ),
    Format(
        "csv",
        "CSV with the columns prompt, subject and target, and optionally old_target, paraphrases and neighbours "
        "(several separated by ' | ', a neighbour may be 'prompt => answer') and id",
        lambda keys: len(keys.intersection(REQUIRED)) >= 2,
        _from_csv,
        layout="csv",
    ),
    Format(
        "bluedit",
        "bluedit's own: JSON or JSONL with prompt, subject and target, and optionally old_target, paraphrases, "
        "neighbours (texts, or objects with prompt and answer) and id",
        lambda keys: len(keys.intersection(REQUIRED)) >= 2,
        _from_own,
    ),
)


def formats() -> dict[str, str]:
    """The formats `read_facts` understands: name to one-sentence description."""
    return {f.name: f.description for f in FORMATS}


def named(name: str) -> Format:
    """The format with this name or alias.

    Raises:
        FactError: there is none.
    """
    table = {n: f for f in FORMATS for n in (f.name, *f.aliases)}
    if name not in table:
        raise FactError(f"unknown format {name!r} of a fact file; {did_you_mean(name, table)}")
    return table[name]


def recognised(keys: Iterable[object], layout: str) -> Format | None:
    """The first format of this layout that knows a record with these keys."""
    present = frozenset(k for k in keys if isinstance(k, str))
    return next((f for f in FORMATS if f.layout == layout and f.recognises(present)), None)
