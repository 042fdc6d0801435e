"""The formats of fact files: one row of `FORMATS` each, with the function that turns a record into facts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from bluedit.errors import FactError, did_you_mean
from bluedit.facts._fields import Fields
from bluedit.facts._knowedit import knowedit_probes, names_in
from bluedit.facts._rippleedits import CRITERIA, read_rippleedits
from bluedit.facts.fact import Fact, Neighbour, Probe
from bluedit.facts.records import KEYS, REQUIRED, read_neighbours, read_record

COLUMNS = tuple(key for key in KEYS if key != "probes")

_SEPARATOR = re.compile(r"\s\|(?:\s|$)")


@dataclass(frozen=True)
class Format:
    """One way of writing facts down.

    Attributes:
        name: what `read_facts(format=...)` calls it.
        description: one sentence for help texts.
        recognises: whether a record with this set of keys is of the format.
        convert: one record to its facts, none if it has nothing to teach; raises a FactError that names all faults of
            the record.
        layout: how the records lie in the file.
        aliases: other names for it.
    """

    name: str
    description: str
    recognises: Callable[[frozenset[str]], bool]
    convert: Callable[[Mapping[str, object]], list[Fact]]
    layout: Literal["json", "csv"] = "json"
    aliases: tuple[str, ...] = ()


def _from_csv(row: Mapping[str, object]) -> list[Fact]:
    """A row of cells: an empty optional cell is absent; lists are split at " | ", neighbours at "=>"."""
    record: dict[str, object] = {k: v for k, v in row.items() if v or k in REQUIRED}
    for key in ("paraphrases", "neighbours", "references"):
        if key in record:
            record[key] = [part.strip() for part in _SEPARATOR.split(str(record[key]))]
    if isinstance(parts := record.get("neighbours"), list):
        record["neighbours"] = [_cell_neighbour(part) for part in parts]
    return [read_record(record)]


def _cell_neighbour(part: str) -> str | dict[str, str]:
    prompt, arrow, answer = (piece.strip() for piece in part.rpartition("=>"))
    if not arrow:
        return part
    if not answer:
        raise FactError(f"the neighbour {part!r} has no answer after '=>'; write it, or leave the arrow out")
    return {"prompt": prompt, "answer": answer}


def _from_counterfact(record: Mapping[str, object]) -> list[Fact]:
    """ROME's and MEMIT's record. A neighbour without an answer of its own has `target_true` (arXiv 2202.05262)."""
    fields = Fields(record)
    prompt, subject, target, old = _rewrite(fields.section("requested_rewrite"))
    paraphrases = fields.texts("paraphrase_prompts")
    neighbours = read_neighbours(fields, "neighborhood_prompts", key="target", default=old)
    probes = [Probe("generation", text) for text in fields.texts("generation_prompts")] + _new_question(fields)
    name = fields.label("case_id")
    fields.check()
    return [Fact(prompt, subject, target, old, paraphrases, neighbours, probes, id=name)]


def _rewrite(edit: Fields) -> tuple[str, str, str, str | None]:
    """Prompt, subject, target and old target of one requested rewrite."""
    prompt, subject = edit.text("prompt"), edit.text("subject").strip()
    target = edit.section("target_new").text("str").strip()
    known = edit.record.get("target_true") is not None
    return prompt, subject, target, (edit.section("target_true").text("str").strip() or None) if known else None


def _from_mquake(record: Mapping[str, object]) -> list[Fact]:
    """A case of MQuAKE (arXiv 2305.14795): a fact for each edit, with the edit's question as its paraphrase.

    The multi-hop questions follow from all edits of the case together, so they stand at its last fact. So do the hops
    that are not edited, as neighbours: the questions need them, too. They are about other entities than the edits, so
    they are no probes of the subject.
    """
    fields = Fields(record)
    edits = [(*_rewrite(edit), edit.maybe("question")) for edit in fields.objects("requested_rewrite")]
    if not edits:
        fields.faults.append("'requested_rewrite' has no edit")
    answers = tuple(dict.fromkeys([fields.text("new_answer"), *fields.texts("new_answer_alias")]))
    probes = [Probe("multihop", question, answers) for question in fields.texts("questions")]
    hops = [(hop.text("cloze"), hop.maybe("question"), hop.text("answer")) for hop in fields.objects("new_single_hops")]
    name = fields.label("case_id")
    fields.check()
    edited = {text for prompt, subject, *_, asked in edits for text in (prompt.replace("{}", subject), asked) if text}
    kept = [Neighbour(cloze, answer) for cloze, question, answer in hops if edited.isdisjoint((cloze, question))]
    facts, faults = [], []
    for i, (prompt, subject, target, old, question) in enumerate(edits, 1):
        rest = {"neighbours": kept, "probes": probes} if i == len(edits) else {}
        number = f"{name}/{i}" if name and len(edits) > 1 else name
        try:
            facts.append(Fact(prompt, subject, target, old, [question] if question else [], id=number, **rest))
        except FactError as error:
            faults.append(str(error))
    if faults:
        raise FactError("; ".join(faults))
    return facts


def _from_easyedit(record: Mapping[str, object]) -> list[Fact]:
    """EasyEdit's flat records: full prompts, one paraphrase, one neighbour (CounterFact), or tests of several kinds (KnowEdit)."""
    fields = Fields(record)
    prompt, subject, target = fields.text("prompt"), *(fields.text(key).strip() for key in ("subject", "target_new"))
    old = next(iter(names_in(fields, "ground_truth")), None)
    rephrase, name = fields.maybe("rephrase_prompt") or fields.maybe("rephrase"), fields.label("case_id")
    probes = knowedit_probes(fields)
    locality, answer = fields.maybe("locality_prompt"), fields.trimmed("locality_ground_truth")
    fields.check()
    fact = Fact.from_text(
        prompt,
        subject,
        target,
        old_target=old,
        paraphrases=() if rephrase is None else (rephrase,),
        neighbours=() if locality is None else (Neighbour(locality, answer),),
        probes=probes,
        id=name,
    )
    return [fact]


def _from_zsre(record: Mapping[str, object]) -> list[Fact]:
    """MEND's zsRE, read as ROME and MEMIT do: the model is taught the true answer, `answers[0]`.

    MEND's own counterfactual target `alt` and the base model's prediction `pred` are ignored, so the old target is not
    known. The neighbour keeps its "nq question: " and ends in a question mark. EasyEdit's question one step away follows from
    `alt`, so it is left out unless that is the target.
    """
    fields = Fields(record)
    question, subject, answers = fields.text("src"), fields.text("subject").strip(), fields.texts("answers")
    rephrase, loc, answer = fields.maybe("rephrase"), fields.maybe("loc"), fields.trimmed("loc_ans")
    name, probes = fields.label("case_id"), _new_question(fields)
    if answers and fields.maybe("alt") not in (None, answers[0]):
        probes = []
    if not answers:
        fields.faults.append("'answers' has no answer; the first one is what the model is taught")
    fields.check()
    fact = Fact.from_text(
        question,
        _as_it_stands(subject, question),
        answers[0].strip(),
        paraphrases=() if rephrase is None else (rephrase,),
        neighbours=() if loc is None else (Neighbour(_question(loc), answer),),
        probes=probes,
        id=name,
    )
    return [fact]


def _new_question(fields: Fields) -> list[Probe]:
    """The question one step away that EasyEdit (arXiv 2305.13172) adds to records of CounterFact and zsRE."""
    if fields.record.get("portability") is None:
        return []
    asked = fields.section("portability")
    question, answer = asked.trimmed("New Question"), asked.trimmed("New Answer")
    return [Probe("portability", question, (answer,))] if question and answer else []


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
    # before counterfact, some of whose keys it has
    Format(
        "mquake",
        "MQuAKE (CF, CF-3k, T) as its authors publish it: JSON with requested_rewrite (a list of edits, each of which "
        "becomes a fact), questions, new_answer, new_answer_alias and new_single_hops",
        lambda keys: {"requested_rewrite", "questions"} <= keys,
        _from_mquake,
    ),
    Format(
        "counterfact",
        "CounterFact as ROME and MEMIT publish it (also multi_counterfact): JSON with requested_rewrite, "
        "paraphrase_prompts, neighborhood_prompts and generation_prompts",
        lambda keys: "requested_rewrite" in keys,
        _from_counterfact,
        aliases=("multi_counterfact",),
    ),
    Format(
        "easyedit",
        "CounterFact as EasyEdit publishes it: JSON or JSONL with prompt, subject, target_new, ground_truth, "
        "rephrase_prompt, locality_prompt and locality_ground_truth; KnowEdit's portability and locality become probes",
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
        "rippleedits",
        "RippleEdits (popular, random, recent) as its authors publish it: JSON with edit, whose prompt is a sentence, and "
        f"the tests {', '.join(CRITERIA)}",
        lambda keys: "edit" in keys and not keys.isdisjoint(CRITERIA),
        read_rippleedits,
    ),
    Format(
        "csv",
        "CSV with the columns prompt, subject and target, and optionally old_target, paraphrases, neighbours and "
        "references (several separated by ' | ', a neighbour may be 'prompt => answer') and id",
        lambda keys: len(keys.intersection(REQUIRED)) >= 2,
        _from_csv,
        layout="csv",
    ),
    Format(
        "bluedit",
        "bluedit's own: JSON or JSONL with prompt, subject and target, and optionally old_target, paraphrases, "
        "neighbours (texts, or objects with prompt and answer), probes (objects with kind, prompt and answers), "
        "references and id",
        lambda keys: len(keys.intersection(REQUIRED)) >= 2,
        lambda record: [read_record(record)],
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
