"""CounterFact (arXiv 2202.05262) and the data sets that have its `requested_rewrite`: MQuAKE (2305.14795) and AKEW (2402.18909)."""

from __future__ import annotations

from dataclasses import dataclass

from bluedit.errors import FactError
from bluedit.facts._build import build, one_hop, read_neighbours
from bluedit.facts._fields import Fields
from bluedit.facts.fact import Fact
from bluedit.facts.probe import Neighbour, Probe


@dataclass(frozen=True)
class _Rewrite:
    """One requested rewrite: the edit, and the question that asks for the same."""

    prompt: str
    subject: str
    target: str
    old: str | None
    question: str | None

    @property
    def texts(self) -> set[str]:
        """The edit as a full prompt and as a question."""
        return {self.prompt.replace("{}", self.subject), self.question or ""} - {""}


def _rewrite(edit: Fields) -> _Rewrite:
    prompt, subject = edit.text("prompt"), edit.text("subject").strip()
    target, old = _entity(edit, "target_new", "answer_new"), _entity(edit, "target_true", "answer_true", required=False)
    return _Rewrite(prompt, subject, target or "", old or None, edit.maybe("question"))


def _entity(edit: Fields, key: str, answer: str, *, required: bool = True) -> str | None:
    """The name of an entity: text, or an object with the name under `str`; AKEW has it under another key as well."""
    if isinstance(edit.record.get(key), str):
        return edit.text(key).strip()
    if not edit.has(key) and edit.has(answer):
        return edit.text(answer).strip()
    if not edit.has(key) and not required:
        return None
    return edit.section(key).text("str").strip()


def read_counterfact(fields: Fields) -> list[Fact]:
    """ROME's and MEMIT's record, and AKEW's structured edit; neighbours without their own answer have the true target."""
    edit = _rewrite(fields.section("requested_rewrite"))
    neighbours = read_neighbours(fields, "neighborhood_prompts", key="target", default=edit.old)
    rest = {
        "old_target": edit.old,
        "paraphrases": [*fields.texts("paraphrase_prompts"), *([edit.question] if edit.question else [])],
        "neighbours": neighbours + _unrelated(fields),
        "probes": [Probe("generation", text) for text in fields.texts("generation_prompts")] + one_hop(fields),
        "id": fields.label("case_id"),
    }
    return [build(fields, edit.prompt, edit.subject, edit.target, **rest)]


def _unrelated(fields: Fields) -> list[Neighbour]:
    """The unrelated question that AKEW adds to a record."""
    loc, answer = fields.trimmed("loc"), fields.trimmed("loc_ans")
    return [Neighbour(loc, answer)] if loc else []


def read_mquake(fields: Fields) -> list[Fact]:
    """A case of MQuAKE: one fact for each edit, with the edit's question as its paraphrase.

    The multi-hop questions need all edits of the case, so they belong to its last fact. So do the hops that are not
    edited, as neighbours: the questions need them as well. They are about other entities, so they are no probes of the subject.
    """
    one = isinstance(fields.record.get("requested_rewrite"), dict)
    sections = [fields.section("requested_rewrite")] if one else fields.objects("requested_rewrite")
    edits = [_rewrite(edit) for edit in sections]
    if not edits:
        fields.faults.append("'requested_rewrite' has no edit")
    probes = _multihop(fields)
    hops = [(hop.text("cloze"), hop.maybe("question"), hop.text("answer")) for hop in fields.objects("new_single_hops")]
    name = fields.label("case_id")
    fields.check()
    edited = set().union(*(edit.texts for edit in edits))
    kept = [Neighbour(cloze, answer) for cloze, question, answer in hops if edited.isdisjoint((cloze, question))]
    facts, faults = [], []
    for i, edit in enumerate(edits, 1):
        rest = {"neighbours": kept + _unrelated(fields), "probes": probes} if i == len(edits) else {}
        rest |= {"paraphrases": [edit.question] if edit.question else [], "old_target": edit.old}
        rest["id"] = f"{name}/{i}" if name and len(edits) > 1 else name
        try:
            facts.append(build(fields, edit.prompt, edit.subject, edit.target, **rest))
        except FactError as error:
            faults.append(str(error))
    if faults:
        raise FactError("; ".join(faults))
    return facts


def _multihop(fields: Fields) -> list[Probe]:
    """The questions of a case; any of the new answers counts. Variants of the set have one question as text, or none."""
    questions = fields.one_or_more("questions") or fields.one_or_more("question")
    if not questions:
        return []
    answers = fields.one_or_more("new_answer")
    if not answers:
        fields.faults.append("'new_answer' is missing")
    answers += fields.one_or_more("new_answer_alias")
    return [Probe("multihop", question, tuple(dict.fromkeys(answers))) for question in questions]


def read_akew(fields: Fields) -> list[Fact]:
    """AKEW's unstructured edit: the full prompt is taught with the passage `fact_new_uns` as its target.

    What the passage says, as triples of subject, prompt and target, becomes probes.
    """
    one = isinstance(fields.record.get("requested_rewrite"), dict)
    sections = [fields.section("requested_rewrite")] if one else fields.objects("requested_rewrite")
    facts = []
    for section in sections:
        edit, passage = _rewrite(section), section.text("fact_new_uns").strip()
        triples = [
            [t.text(key) for key in ("prompt", "subject", "target")] for t in section.objects("unsfact_triplets_GPT")
        ]
        fields.check()
        asked = [*fields.texts("paraphrase_prompts"), *([edit.question] if edit.question else [])]
        probes = [Probe("portability", p.replace("{}", s), (t,)) for p, s, t in triples if p.strip() and t.strip()]
        rest = {"paraphrases": asked, "probes": probes, "id": fields.label("case_id")}
        facts.append(build(fields, edit.prompt, edit.subject, passage, **rest))
    return facts
