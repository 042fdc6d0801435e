"""MQuAKE: several edits in a case, and questions that follow from all of them."""

from __future__ import annotations

from typing import Any

import pytest
from facts_help import Write, lines, refusal, unusable, without

from bluedit.facts import Fact, Neighbour, Probe, read_facts


def edit(prompt: str, subject: str, new: str, old: str, question: str) -> dict[str, Any]:
    return {
        "prompt": prompt,
        "relation_id": "P0",
        "target_new": {"str": new, "id": "Q1"},
        "target_true": {"str": old, "id": "Q2"},
        "subject": subject,
        "question": question,
    }


def hop(cloze: str, question: str, answer: str, *alias: str) -> dict[str, Any]:
    return {"question": question, "cloze": cloze, "answer": answer, "answer_alias": list(alias)}


ANNA = edit("{} plays the", "Anna Vell", "cello", "flute", "Which instrument does Anna Vell play?")
CELLO = edit("The maker of the {} is", "cello", "Bo Lind", "Ada Moor", "Who is the maker of the cello?")
MQUAKE: dict[str, Any] = {
    "case_id": 12,
    "requested_rewrite": [ANNA, CELLO],
    "questions": [
        "Where does the maker of Anna Vell's instrument live?",
        "Anna Vell's instrument: where lives its maker?",
    ],
    "answer": "Lima",
    "answer_alias": [],
    "new_answer": "Oslo",
    "new_answer_alias": ["Christiania", "Oslo", "Kristiania"],
    "single_hops": [hop("Ada Moor lives in", "Where does Ada Moor live?", "Lima")],
    "new_single_hops": [
        hop("Anna Vell plays the", "Which instrument does Anna Vell play?", "cello"),
        hop("The maker of the cello is", "Who made the cello?", "Bo Lind"),
        hop("Bo Lind lives in", "Where does Bo Lind live?", "Oslo", "Christiania"),
    ],
    "orig": {"triples": [["Q3", "P0", "Q2"]]},
}


@pytest.mark.parametrize("format", [None, "mquake"])
def test_mquake_gives_one_fact_for_each_edit(write: Write, format: str | None) -> None:
    first, last = read_facts(write("a.json", [MQUAKE]), format=format)
    answers = ("Oslo", "Christiania", "Kristiania")
    probes = [Probe("multihop", question, answers) for question in MQUAKE["questions"]]
    assert first == Fact("{} plays the", "Anna Vell", "cello", "flute", [ANNA["question"]])
    kept = [Neighbour("Bo Lind lives in", "Oslo")]
    assert last == Fact("The maker of the {} is", "cello", "Bo Lind", "Ada Moor", [CELLO["question"]], kept, probes)
    assert [first.id, last.id] == ["12/1", "12/2"]


def test_mquake_with_one_edit_has_all_at_it(write: Write) -> None:
    hops = [hop("A differently put cloze", ANNA["question"], "cello"), *MQUAKE["new_single_hops"][1:]]
    record = {**MQUAKE, "requested_rewrite": [ANNA], "new_single_hops": hops}
    (fact,) = read_facts(write("a.jsonl", lines(record)))
    assert fact.id == "12"
    assert [p.kind for p in fact.probes] == ["multihop", "multihop"]
    expected = (Neighbour("The maker of the cello is", "Bo Lind"), Neighbour("Bo Lind lives in", "Oslo"))
    assert fact.neighbours == expected, "an edited hop is known by its question, too"


def test_mquake_without_the_optional_parts(write: Write) -> None:
    edits = [without(ANNA, "question", "target_true")]
    record = {"requested_rewrite": edits, "questions": ["Where?"], "new_answer": "Oslo"}
    probes = [Probe("multihop", "Where?", ("Oslo",))]
    expected = Fact("{} plays the", "Anna Vell", "cello", probes=probes)
    hops = [{"cloze": "Anna Vell plays the", "answer": "cello"}, {"cloze": "Bo Lind lives in", "answer": "Oslo"}]
    (fact,) = read_facts(write("c.json", [{**record, "new_single_hops": hops}]))
    assert fact.neighbours == (Neighbour("Bo Lind lives in", "Oslo"),), "hops without questions"
    assert read_facts(write("a.json", [record])) == [expected]
    assert read_facts(write("b.json", record)) == [expected], "a record by itself"


def test_limit_and_skip_count_records_not_facts(write: Write) -> None:
    path = write("a.json", [{**MQUAKE, "case_id": i} for i in range(3)])
    assert [f.id for f in read_facts(path, limit=2)] == ["0/1", "0/2", "1/1", "1/2"]
    assert [f.id for f in read_facts(path, skip=2)] == ["2/1", "2/2"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"requested_rewrite": []}, "'requested_rewrite' has no edit"),
        (
            {"requested_rewrite": "x"},
            "'requested_rewrite' must be a list, not text; 'requested_rewrite' has no edit",
        ),
        (
            {"requested_rewrite": [ANNA, "x", without(CELLO, "subject")]},
            "'requested_rewrite[1]' must be an object, not text; 'requested_rewrite[2].subject' is missing",
        ),
        (
            {"requested_rewrite": [{**ANNA, "target_new": {"str": 3}}], "new_answer": None},
            "'requested_rewrite[0].target_new.str' must be text, not a number; 'new_answer' is missing",
        ),
        ({"new_answer_alias": {}}, "'new_answer_alias' must be a list, not an object"),
        ({"questions": ["Where?", 1]}, "'questions[1]' must be text, not a number"),
        ({"new_single_hops": [{"answer": "x"}]}, "'new_single_hops[0].cloze' is missing"),
        (
            {"requested_rewrite": [{**ANNA, "prompt": "Anna plays"}, {**CELLO, "target_true": {"str": "Bo Lind"}}]},
            "subject 'Anna Vell' does not occur in the prompt 'Anna plays'; write it as it stands there; "
            "fact '12/2': target and old_target are both 'Bo Lind': there is nothing to change",
        ),
        (
            {"new_answer": " ", "new_answer_alias": [], "questions": ["Where?"]},
            "fact '12/2': the answers of the probe 'Where?' must be a list of texts, none of them empty",
        ),
    ],
)
def test_mquake_refuses(write: Write, changes: dict[str, Any], words: str) -> None:
    text = refusal(write("a.json", [MQUAKE, {**MQUAKE, **changes}]))
    assert text == unusable(2, f"record 2: {words}")


def test_variants_of_mquake(write: Write) -> None:
    """One edit as an object, names as texts, one question, a prompt that names the subject, and no questions at all."""
    named = {**ANNA, "prompt": "Anna Vell plays the", "target_new": "cello", "target_true": "flute"}
    record = {
        **MQUAKE,
        "requested_rewrite": named,
        "questions": "Where?",
        "new_answer_alias": "Christiania",
        "split": "test",
    }
    (fact,) = read_facts(write("a.json", [record]))
    assert (fact.prompt, fact.target, fact.old_target) == ("{} plays the", "cello", "flute")
    assert fact.probes == (Probe("multihop", "Where?", ("Oslo", "Christiania")),)
    bare = {"requested_rewrite": [ANNA, CELLO]}
    assert [f.probes for f in read_facts(write("b.json", [bare]))] == [(), ()]


def test_akew_extends_mquake(write: Write) -> None:
    edit = {**ANNA, "fact_new_uns": "Anna Vell was given a cello.", "unsfact_triplets_GPT": []}
    record = {**MQUAKE, "requested_rewrite": [edit], "loc": "who sang blue", "loc_ans": "Bo Lind"}
    (fact,) = read_facts(write("a.json", [record]))
    assert (fact.target, fact.neighbours[-1]) == ("cello", Neighbour("who sang blue", "Bo Lind"))
    (fact,) = read_facts(write("a.json", [record]), format="akew")
    assert (fact.target, fact.paraphrases) == ("Anna Vell was given a cello.", (ANNA["question"],))
