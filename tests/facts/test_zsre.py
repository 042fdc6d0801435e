"""zsRE as MEND publishes it, and its translations with one record per language."""

from __future__ import annotations

from typing import Any

import pytest
from facts_help import Write, lines, refusal, unusable, without

from bluedit.facts import Fact, Neighbour, Probe, read_facts

ZSRE = {
    "subject": "WEFS",
    "src": "When was WEFS established?",
    "pred": "1998",
    "rephrase": "When has WEFS been established?",
    "alt": "1997",
    "answers": ["1987", "in 1987"],
    "loc": "nq question: who voiced gaston",
    "loc_ans": "Richard White",
    "cond": "1998 >> 1997 || When was WEFS established?",
}


REWRITE = {"requested_rewrite": {"prompt": "{} is in", "subject": "Rome", "target_new": {"str": "Spain"}}}


def test_zsre_teaches_the_true_answer_as_memit_does(write: Write) -> None:
    (fact,) = read_facts(write("a.jsonl", lines(ZSRE)))
    neighbours = [Neighbour("nq question: who voiced gaston?", "Richard White")]
    paraphrases = ["When has WEFS been established?"]
    assert fact == Fact("When was {} established?", "WEFS", "1987", None, paraphrases, neighbours)


def test_zsre_adds_no_second_question_mark(write: Write) -> None:
    (fact,) = read_facts(write("a.jsonl", lines({**ZSRE, "loc": "nq question: who voiced gaston? "})))
    assert fact.neighbours[0].prompt == "nq question: who voiced gaston?"


def test_zsre_subject_in_other_case_is_used_as_it_stands(write: Write) -> None:
    (fact,) = read_facts(write("a.jsonl", lines({**ZSRE, "subject": "Wefs"})))
    assert (fact.prompt, fact.subject) == ("When was {} established?", "WEFS")


def test_easyedits_question_one_step_away(write: Write) -> None:
    more = {
        "portability": {"Recalled Relation": "(x)", "New Question": "What is 1987 divisible by?", "New Answer": "3"}
    }
    for record in ({**ZSRE, "alt": "1987"}, without(ZSRE, "alt"), REWRITE):
        (fact,) = read_facts(write("a.jsonl", lines({**record, **more})))
        assert fact.probes[-1] == Probe("portability", "What is 1987 divisible by?", ("3",))
    (fact,) = read_facts(write("a.jsonl", lines({**ZSRE, **more})))
    assert not fact.probes, "what follows from MEND's counterfactual does not follow from what is taught"
    (fact,) = read_facts(write("a.jsonl", lines({**REWRITE, "portability": {"New Question": "What is?"}})))
    assert all(probe.kind != "portability" for probe in fact.probes)


def test_zsre_without_the_optional_parts(write: Write) -> None:
    (fact,) = read_facts(write("a.jsonl", lines(without(ZSRE, "rephrase", "loc", "loc_ans", "alt", "pred", "cond"))))
    assert fact == Fact("When was {} established?", "WEFS", "1987")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"answers": []}, "'answers' has no answer; the first one is what the model is taught"),
        (
            {"answers": "1987"},
            "'answers' must be a list, not text; 'answers' has no answer; the first one is what the model is taught",
        ),
        (
            {"subject": "Oslo"},
            "subject 'Oslo' does not occur in the prompt 'When was WEFS established?'; write it as it stands there",
        ),
    ],
)
def test_zsre_refuses(write: Write, changes: dict[str, Any], words: str) -> None:
    text = refusal(write("a.jsonl", lines({**ZSRE, **changes})))
    assert text == unusable(1, f"line 1: {words}")


def test_zsre_without_answers_is_taught_its_alternative(write: Write) -> None:
    (fact,) = read_facts(write("a.jsonl", lines(without(ZSRE, "answers"))))
    assert fact.target == "1997"


@pytest.mark.parametrize("question", ["谁唱了蓝色？", "who sang blue?", "من غنى؟"])
def test_no_question_mark_is_added_to_one_of_another_script(write: Write, question: str) -> None:
    (fact,) = read_facts(write("a.jsonl", lines({**ZSRE, "loc": question})))
    assert fact.neighbours[0].prompt == question


MZSRE: dict[str, Any] = {
    "fi": {
        "subject": "Selden Cup",
        "src": "Milloin Selden Cup perustettiin?",
        "rephrase": "Minä vuonna Selden Cup alkoi?",
        "alt": "2006",
        "loc": "kuka lauloi sinisen",
        "loc_ans": "Bo Lind",
        "portability": {"New Question": "Mikä laji on vuonna 2006 perustettu Selden Cup?", "New Answer": "hiihto"},
    },
    "zh": {
        "subject": "哈尔登杯",
        "src": "哈尔登杯是什么时候创立的？",
        "rephrase": "哈尔登杯始于哪一年？",
        "alt": "2006年",
        "answers": ["1999年"],
        "loc": "谁唱了蓝色？",
        "loc_ans": "博·林德",
        "portability": {"New Question": "2006年创立的哈尔登杯是什么运动？", "New Answer": "滑雪"},
    },
}


def test_the_first_language_is_taught_and_the_others_are_asked(write: Write) -> None:
    (fact,) = read_facts(write("a.json", [MZSRE]))
    assert fact == Fact(
        "Milloin {} perustettiin?",
        "Selden Cup",
        "2006",
        None,
        ["Minä vuonna Selden Cup alkoi?"],
        [Neighbour("kuka lauloi sinisen?", "Bo Lind"), Neighbour("谁唱了蓝色？", "博·林德")],
        [
            Probe("portability", "Mikä laji on vuonna 2006 perustettu Selden Cup?", ("hiihto",)),
            Probe("alias", "哈尔登杯是什么时候创立的？", ("2006年",)),
            Probe("portability", "2006年创立的哈尔登杯是什么运动？", ("滑雪",)),
        ],
    )


@pytest.mark.parametrize("format", ["mzsre:zh", "bizsre:zh"])
def test_another_language_can_be_taught(write: Write, format: str) -> None:
    (fact,) = read_facts(write("a.jsonl", lines(MZSRE)), format=format)
    assert (fact.prompt, fact.target, fact.old_target) == ("{}是什么时候创立的？", "2006年", "1999年")
    assert fact.probes[1] == Probe("alias", "Milloin Selden Cup perustettiin?", ("2006",))
    assert fact.id == ""
    (fact,) = read_facts(write("b.jsonl", lines({"case_id": 5, **MZSRE})))
    assert (fact.subject, fact.id) == ("Selden Cup", "5")


def test_mzsre_refuses(write: Write) -> None:
    path = write("a.json", [MZSRE, {"zh": MZSRE["zh"]}, {"fi": without(MZSRE["fi"], "alt"), "case_id": 3}])
    assert refusal(path, format="mzsre:fi") == unusable(
        3,
        "record 2: the record has no language 'fi'; choose one of zh",
        "record 3: 'fi.alt' is missing",
    )


def test_translations_that_lost_their_subject_can_be_skipped(write: Write) -> None:
    lost = {**MZSRE, "fi": {**MZSRE["fi"], "subject": "Seldenin malja"}}
    path = write("a.json", [lost, MZSRE, lost])
    words = "subject 'Seldenin malja' does not occur in the prompt 'Milloin Selden Cup perustettiin?'"
    assert refusal(path).count(words) == 2
    assert len(read_facts(path, bad_records="skip")) == 1
