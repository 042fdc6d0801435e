"""The data sets of what follows from an edit: MQuAKE and RippleEdits."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from facts_help import Write, lines, refusal, without

from bluedit.facts import Fact, Neighbour, Probe, check_batch, read_facts, write_facts

# MQuAKE


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
            {"requested_rewrite": ANNA},
            "'requested_rewrite' must be a list, not an object; 'requested_rewrite' has no edit",
        ),
        (
            {"requested_rewrite": [ANNA, "x", without(CELLO, "subject")]},
            "'requested_rewrite[1]' must be an object, not text; 'requested_rewrite[2].subject' is missing",
        ),
        (
            {"requested_rewrite": [{**ANNA, "target_new": {"str": 3}}], "new_answer": None},
            "'requested_rewrite[0].target_new.str' must be text, not a number; 'new_answer' is missing",
        ),
        ({"new_answer_alias": "Christiania"}, "'new_answer_alias' must be a list, not text"),
        ({"questions": ["Where?", 1]}, "'questions[1]' must be text, not a number"),
        ({"new_single_hops": [{"answer": "x"}]}, "'new_single_hops[0].cloze' is missing"),
        (
            {"requested_rewrite": [{**ANNA, "prompt": "Anna plays"}, {**CELLO, "target_true": {"str": "Bo Lind"}}]},
            "fact '12/1': the prompt must contain '{}' exactly once, where the subject stands; 'Anna plays' has it 0 "
            "times; fact '12/2': target and old_target are both 'Bo Lind': there is nothing to change",
        ),
        (
            {"new_answer": " ", "new_answer_alias": [], "questions": ["Where?"]},
            "fact '12/2': the answers of the probe 'Where?' must be a list of texts, none of them empty",
        ),
    ],
)
def test_mquake_refuses(write: Write, changes: dict[str, Any], words: str) -> None:
    text = refusal(write("a.json", [MQUAKE, {**MQUAKE, **changes}]))
    assert text == f"FILE: 1 of 2 records cannot be used\nrecord 2: {words}"


# RippleEdits


def query(prompt: str, *answers: list[str]) -> dict[str, Any]:
    """A test query; an answer is its value and its aliases."""
    return {
        "prompt": prompt,
        "answers": [{"value": value, "aliases": aliases} for value, *aliases in answers],
        "query_type": "regular",
        "phrase": None,
    }


def case(*queries: dict[str, Any]) -> dict[str, Any]:
    asked = [query("This was asked before the edit", ["and is no probe"])]
    return {"test_queries": list(queries), "test_condition": "OR", "condition_queries": asked}


def ripple(new: str, old: str | None = None, **tests: list[dict[str, Any]]) -> dict[str, Any]:
    about = {"subject_id": "Q90", "relation": "CAPITAL"}
    before = {} if old is None else {"original_fact": {"prompt": old, **about, "target_id": "Q3"}}
    edited = {"prompt": new, **about, "target_id": "Q4", **before}
    return {"example_type": "popular", "edit": edited, "Forgetfulness": [], **tests}


ROME = "The name of the capital city of France is Rome."
PARIS = "The name of the capital city of France is Paris."


def test_rippleedits(write: Write) -> None:
    record = ripple(
        ROME,
        PARIS,
        Logical_Generalization=[case(query("The name of the country which Rome is the capital of is", ["France"]))],
        Compositionality_I=[
            case(query("The river through the capital of France is the", ["Tiber", "Tevere"])),
            case(query("The river through the capital of France is the", ["Aniene"], ["Tiber", "T", "7", ""])),
        ],
        Compositionality_II=[case(query("The seat of the Louvre's country is", ["Rome", " Roma "]))],
        Subject_Aliasing=[
            case(query("The capital of the French Republic is", ["Rome"]), query("The capital of Gaul is", ["Rome"]))
        ],
        Relation_Specificity=[case(query("The currency of France is", ["euro"]), query("Its anthem is"))],
        Forgetfulness=[case(query("Another capital of France is", ["", "?"]))],
    )
    (fact,) = read_facts(write("a.json", [record]))
    probes = [
        Probe("portability", "The name of the country which Rome is the capital of is", ("France",)),
        Probe("portability", "The river through the capital of France is the", ("Tiber", "Tevere")),
        Probe("portability", "The river through the capital of France is the", ("Aniene",), [("Tiber", "7")]),
        Probe("portability", "The seat of the Louvre's country is", ("Rome", "Roma")),
        Probe("alias", "The capital of the French Republic is", ("Rome",)),
        Probe("alias", "The capital of Gaul is", ("Rome",)),
        Probe("subject", "The currency of France is", ("euro",)),
    ]
    expected = Fact("The name of the capital city of {} is", "France", "Rome", "Paris", probes=probes)
    assert fact == expected
    assert fact.id == "Q90/CAPITAL"
    write_facts(again := write("b.jsonl", ""), [fact])
    assert read_facts(again) == [expected]


@pytest.mark.parametrize(
    ("sentence", "fact"),
    [
        ("The gender of Bank of Oslo is male.", Fact("The gender of {} is", "Bank of Oslo", "male")),
        (
            "The name of the country of citizenship of Jo of Ur is Peru.",
            Fact("The name of the country of citizenship of {} is", "Jo of Ur", "Peru"),
        ),
        (
            "The place of birth of Jo is Washington, D.C..",
            Fact("The place of birth of {} is", "Jo", "Washington, D.C."),
        ),
        (
            "The name of the head of state of the Isle of Man is Bo.",
            Fact("The name of the head of state of {} is", "the Isle of Man", "Bo"),
        ),
        (
            "The name of the author of list of kings in Ur is Bo.",
            Fact("The name of the author of {} is", "list of kings in Ur", "Bo"),
        ),
        (
            "The name of the author of Life is short is Bo.",
            Fact("The name of the author of {} is", "Life is short", "Bo"),
        ),
        ("The names of the siblings of Jo are Bo.", Fact("The names of the siblings of {} are", "Jo", "Bo")),
        (
            "The name of the continent which Peru is part of is Asia.",
            Fact("The name of the continent which {} is part of is", "Peru", "Asia"),
        ),
        (
            "The name of the sports team which Jo is a member of is FC Ur.",
            Fact("The name of the sports team which {} is a member of is", "Jo", "FC Ur"),
        ),
        (
            "The name of the country which list of things which sing is associated with is Peru.",
            Fact("The name of the country which {} is associated with is", "list of things which sing", "Peru"),
        ),
        (
            "The name of the league which Ur plays in is A.",
            Fact("The name of the league which {} plays in is", "Ur", "A"),
        ),
        (
            "The name of the award Jo won is Order of Ur.",
            Fact("The name of the award {} won is", "Jo", "Order of Ur"),
        ),
        (
            "The name of the position held by Jo is king of Ur.",
            Fact("The name of the position held by {} is", "Jo", "king of Ur"),
        ),
        ("The name of the currency in Ur is yen.", Fact("The name of the currency in {} is", "Ur", "yen")),
        ("The number of children Jo of Ur has is 3.", Fact("The number of children {} has is", "Jo of Ur", "3")),
        ("The list of kings is followed by Ur.", Fact("{} is followed by", "The list of kings", "Ur")),
        ("The Sound of Ur follows Ur is.", Fact("{} follows", "The Sound of Ur", "Ur is")),
    ],
)
def test_rippleedits_sentences(write: Write, sentence: str, fact: Fact) -> None:
    assert read_facts(write("a.json", [ripple(sentence)])) == [fact]


@pytest.mark.parametrize("key", ["original_fact", "previous_fact"])
def test_the_true_sentence_shows_where_the_target_begins(write: Write, key: str) -> None:
    start = "The name of the anthem of Ur is "
    record = ripple(start + "What is mine is yours.")
    record["edit"][key] = {"prompt": start + "Who is Bo."}
    (fact,) = read_facts(write("a.json", [record]))
    assert fact == Fact("The name of the anthem of {} is", "Ur", "What is mine is yours", "Who is Bo")


def test_targets_that_begin_alike_are_whole(write: Write) -> None:
    (fact,) = read_facts(
        write("a.json", [ripple("The gender of Jo is trans man.", "The gender of Jo is trans woman.")])
    )
    assert (fact.prompt, fact.target, fact.old_target) == ("The gender of {} is", "trans man", "trans woman")


def test_rippleedits_records_with_nothing_to_teach_are_left_out(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    idle = [
        ripple("The gender of Jo is ."),
        ripple("The gender of  is male."),
        ripple(" follows Ur."),
        ripple(ROME, ROME),
    ]
    path = write("a.json", [idle[0], ripple(ROME, PARIS), *idle[1:]])
    with caplog.at_level(logging.WARNING, "bluedit"):
        (fact,) = read_facts(path)
    assert fact.target == "Rome"
    assert caplog.messages == [
        f"{path}: 4 records have nothing to teach and are left out: record 1, record 3, record 4, record 5"
    ]
    assert refusal(write("b.json", idle)) == "FILE: none of the 4 records has anything to teach; read others"


def test_an_unnamed_truth_is_an_unknown_truth(write: Write) -> None:
    (fact,) = read_facts(write("a.json", [ripple("The gender of Jo is male.", "The gender of Jo is .")]))
    assert (fact.target, fact.old_target) == ("male", None)


# KnowEdit


KNOWEDIT: dict[str, Any] = {
    "subject": "France",
    "prompt": "The capital of France is",
    "target_new": "Rome",
    "ground_truth": ["Paris"],
    "rephrase": "France has the capital",
    "portability": {
        "Logical_Generalization": [{"prompt": "Is Paris its capital?", "ground_truth": [["no"], ["it is not", "no"]]}],
        "Reasoning": [{"prompt": "The river through it is the", "ground_truth": "Tiber"}],
        "Subject_Aliasing": [{"prompt": "The capital of Gaul is", "ground_truth": ["Rome", "Roma"]}],
    },
    "locality": {
        "Relation_Specificity": [
            {"prompt": "The currency of France is", "ground_truth": [["euro"]]},
            {"prompt": "Its anthem is", "ground_truth": [[""]]},
        ]
    },
}


def test_knowedit_keeps_its_tests(write: Write) -> None:
    probes = [
        Probe("portability", "Is Paris its capital?", ("no", "it is not")),
        Probe("alias", "The capital of Gaul is", ("Rome", "Roma")),
        Probe("portability", "The river through it is the", ("Tiber",)),
        Probe("subject", "The currency of France is", ("euro",)),
    ]
    (fact,) = read_facts(write("a.json", [KNOWEDIT]))
    assert fact.old_target == "Paris" and fact.paraphrases == ("France has the capital",)
    assert sorted(map(str, fact.probes)) == sorted(map(str, probes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"portability": []}, "'portability' must be an object, not a list"),
        ({"ground_truth": [[3]]}, "'ground_truth' must be text or lists of texts, not a number"),
        (
            {"locality": {"Forgetfullness": []}},
            "unknown key 'locality.Forgetfullness' (did you mean 'Forgetfulness'?)",
        ),
    ],
)
def test_knowedit_refuses(write: Write, changes: dict[str, Any], words: str) -> None:
    assert words in refusal(write("a.json", [KNOWEDIT, {**KNOWEDIT, **changes}]))


CANNOT = "cannot tell the subject and the target in the edit"
ADVICE = "word it as RippleEdits does, e.g. 'The mother tongue of SUBJECT is TARGET.'"


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (ripple("Rome, the capital of France."), f"{CANNOT} 'Rome, the capital of France.'; {ADVICE}"),
        (ripple(""), f"{CANNOT} ''; {ADVICE}"),
        (
            ripple(ROME, "The gender of Jo is male."),
            f"{CANNOT} {ROME!r} (the true sentence is 'The gender of Jo is male.'); {ADVICE}",
        ),
        ({"edit": "x", "Forgetfulness": []}, "'edit' must be an object, not text"),
        (
            {"edit": {"original_fact": {}}, "Forgetfulness": {}},
            "'edit.prompt' is missing; 'edit.original_fact.prompt' is missing; 'Forgetfulness' must be a list, not an object",
        ),
        (
            ripple(ROME, Subject_Aliasing=[case(query("x", ["Rome"])), {"test_queries": [{"answers": ["Rome"]}, 3]}]),
            "'Subject_Aliasing[1].test_queries[1]' must be an object, not a number; "
            "'Subject_Aliasing[1].test_queries[0].prompt' is missing; "
            "'Subject_Aliasing[1].test_queries[0].answers[0]' must be an object, not text",
        ),
        (
            ripple(ROME, Forgetfulness=[case({"prompt": "x", "answers": [{"value": 3, "aliases": "y"}]})]),
            "'Forgetfulness[0].test_queries[0].answers[0].value' must be text, not a number; "
            "'Forgetfulness[0].test_queries[0].answers[0].aliases' must be a list, not text",
        ),
        (
            ripple(ROME, Forgetfulness=[case(query(" ", ["Rome"]))]),
            "fact 'Q90/CAPITAL': a probe is not a Probe with a prompt",
        ),
    ],
)
def test_rippleedits_refuses(write: Write, record: dict[str, Any], words: str) -> None:
    text = refusal(write("a.json", [record, ripple(ROME, PARIS)]))
    assert text == f"FILE: 1 of 2 records cannot be used\nrecord 1: {words}"


def test_facts_of_both_make_a_batch(write: Write) -> None:
    facts = read_facts(write("a.json", [MQUAKE])) + read_facts(write("b.json", [ripple(ROME, PARIS)]))
    check_batch(facts)
