"""WikiBigEdit, HalluEditBench and UnKE: questions whose subject is named by the record, or must be found."""

from __future__ import annotations

from typing import Any

import pytest
from facts_help import Write, lines, refusal, unusable, without

from bluedit.facts import Fact, Neighbour, Probe, read_facts

WIKIBIGEDIT: dict[str, Any] = {
    "tag": "new",
    "subject": "Selden Rail",
    "relation": "chairperson",
    "object": "Ada Moor",
    "update": "Who chairs Selden Rail?",
    "ans": "Ada Moor",
    "rephrase": "Which person is in the chair of Selden Rail?",
    "personas": "Tell me, matey, who chairs Selden Rail?",
    "loc": "Who chairs Cusco Air?",
    "loc_ans": "Bo Lind",
    "mhop": "Where was the chair of Selden Rail born?",
    "mhop_ans": "Kuopio",
}


@pytest.mark.parametrize("format", [None, "wikibigedit"])
def test_wikibigedit(write: Write, format: str | None) -> None:
    (fact,) = read_facts(write("a.json", [WIKIBIGEDIT]), format=format)
    assert fact == Fact(
        "Who chairs {}?",
        "Selden Rail",
        "Ada Moor",
        paraphrases=["Which person is in the chair of Selden Rail?"],
        neighbours=[Neighbour("Who chairs Cusco Air?", "Bo Lind")],
        probes=[
            Probe("portability", "Tell me, matey, who chairs Selden Rail?", ("Ada Moor",)),
            Probe("multihop", "Where was the chair of Selden Rail born?", ("Kuopio",)),
        ],
    )


@pytest.mark.parametrize("empty", [None, "", float("nan")])
def test_wikibigedit_with_empty_parts(write: Write, empty: Any) -> None:
    absent = dict.fromkeys(("rephrase", "personas", "loc", "loc_ans", "mhop", "mhop_ans"), empty)
    (fact,) = read_facts(write("a.jsonl", lines({**WIKIBIGEDIT, **absent})))
    assert fact == Fact("Who chairs {}?", "Selden Rail", "Ada Moor")
    bare = {key: WIKIBIGEDIT[key] for key in ("update", "subject", "ans")}
    assert read_facts(write("b.jsonl", lines(bare))) == [fact]


def test_wikibigedit_as_a_table(write: Write) -> None:
    (fact,) = read_facts(write("a.csv", "subject,update,ans,loc\nselden rail,Who chairs Selden Rail?,Ada Moor,\n"))
    assert (fact.subject, fact.neighbours) == ("Selden Rail", ())


def test_wikibigedit_refuses(write: Write) -> None:
    records = [WIKIBIGEDIT, {**WIKIBIGEDIT, "subject": "Cusco Air"}, {**WIKIBIGEDIT, "ans": None}]
    assert refusal(write("a.json", records)) == unusable(
        3,
        "record 2: subject 'Cusco Air' does not occur in the prompt 'Who chairs Selden Rail?'; write it as it stands there",
        "record 3: 'ans' is missing",
    )


HALLU = (
    "topic,subject,relation,object,question,output_some_model,eval_some_model,multiple_choices,paraphrased_question,"
    "yes_question,no_question,locality_question,reversed_relation_question,question_2hop,answer_2hop,question_3hop,answer_3hop\n"
    "art_mural,Falk Wall,depicts,steam engine,What does Falk Wall depict?,A cat,0.0,\"['steam engine', 'A cat']\",\"What, then, is on Falk Wall?\","
    "Does Falk Wall depict a steam engine?,Does Falk Wall depict a cat?,Where is Falk Wall?,What depicts a steam engine?,"
    "Who built what Falk Wall depicts?,Ada Moor,Where was its builder born?,\n"
)


@pytest.mark.parametrize("format", [None, "hallueditbench"])
def test_hallueditbench(write: Write, format: str | None) -> None:
    (fact,) = read_facts(write("a.csv", HALLU), format=format)
    assert fact == Fact(
        "What does {} depict?",
        "Falk Wall",
        "steam engine",
        paraphrases=["What, then, is on Falk Wall?"],
        neighbours=[Neighbour("Where is Falk Wall?")],
        probes=[
            Probe("portability", "Does Falk Wall depict a steam engine?", ("Yes",)),
            Probe("portability", "Does Falk Wall depict a cat?", ("No",)),
            Probe("portability", "What depicts a steam engine?", ("Falk Wall",)),
            Probe("multihop", "Who built what Falk Wall depicts?", ("Ada Moor",)),
        ],
    )


def test_hallueditbench_with_its_needed_columns_in_text_and_json(write: Write) -> None:
    expected = Fact("Who made the {}?", "Falk 7", "Ada Moor")
    assert read_facts(write("a.txt", "subject,object,question\nFalk 7,Ada Moor,Who made the Falk 7?\n")) == [expected]
    record = {"subject": "Falk 7", "object": "Ada Moor", "question": "Who made the Falk 7?", "question_2hop": None}
    assert read_facts(write("a.json", [record])) == [expected]


def test_hallueditbench_refuses(write: Write) -> None:
    path = write(
        "a.csv", "subject,object,question\nFalk 8,Ada Moor,Who made the Falk 7?\nFalk 7,,Who made the Falk 7?\n"
    )
    assert refusal(path) == unusable(
        2,
        "line 2: subject 'Falk 8' does not occur in the prompt 'Who made the Falk 7?'; did you mean 'Falk 7'?",
        "line 3: fact 'Who made the {}?': target is empty",
    )


UNKE: dict[str, Any] = {
    "id": "7",
    "question": "Why is barley soup fit for the first of May?",
    "para_question": "What makes barley soup fit for a feast?",
    "answer": "Barley soup is fit for a feast. A study at Selden found that it warms. ",
    "sub_question": ["Which soup is fit?", "Who found it?", "And what?"],
    "sub_answer": ["Barley soup", "A study at Selden"],
}


@pytest.mark.parametrize("format", [None, "unke"])
def test_unke_finds_the_subject_and_says_so(write: Write, format: str | None, caplog: pytest.LogCaptureFixture) -> None:
    (fact,) = read_facts(write("a.json", [UNKE]), format=format)
    assert fact == Fact(
        "Why is {} fit for the first of May?",
        "barley soup",
        "Barley soup is fit for a feast. A study at Selden found that it warms.",
        paraphrases=["What makes barley soup fit for a feast?"],
        probes=[
            Probe("portability", "Which soup is fit?", ("Barley soup",)),
            Probe("portability", "Who found it?", ("A study at Selden",)),
        ],
    )
    assert fact.id == "7"
    assert (
        "record 1: the record names no subject; 'barley soup' is taken, which question and answer share" in caplog.text
    )


@pytest.mark.parametrize(
    ("question", "answer", "subject"),
    [
        ("What is Ada B. Moor's work?", "Ada B. Moor has been a judge.", "Ada B. Moor"),
        ("What is Ada Moor's work?", "Ada Moor's work is law.", "Ada Moor's work"),
        ("In what is Bae Geu-rin known?", "The model Bae Geu-rin is known in Peru.", "Bae Geu-rin"),
        ("Did Moor, or rather Moor of Selden, sing?", "Moor of Selden did.", "Moor of Selden"),
        ("哈尔登杯是什么？", "哈尔登杯始于2006年。", "哈尔登杯"),
    ],
)
def test_the_first_words_that_question_and_answer_share(write: Write, question: str, answer: str, subject: str) -> None:
    (fact,) = read_facts(write("a.json", [{**UNKE, "question": question, "answer": answer}]))
    assert (fact.subject, fact.text) == (subject, question)


def test_unkes_subject_may_be_named(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    (fact,) = read_facts(write("a.json", [{**without(UNKE, "para_question"), "subject": "first of May"}]))
    assert fact.prompt == "Why is barley soup fit for the {}?"
    assert not caplog.messages


@pytest.mark.parametrize("question", ["How is it that they are so?", "a b " * 60 + "barley soup?"])
def test_an_unke_record_without_a_subject_is_refused(write: Write, question: str) -> None:
    text = refusal(write("a.json", [{**UNKE, "question": question}, UNKE]))
    assert text == unusable(
        2,
        "record 1: the record has no 'subject', and question and answer share no name: "
        f"{question!r}; add 'subject' with words of the question",
    )
