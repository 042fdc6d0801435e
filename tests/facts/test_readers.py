"""Fact files: every format, how it is told, and the words in which a file is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from facts_help import Write, lines, refusal, without
from hypothesis import given, settings
from hypothesis import strategies as st

from bluedit.errors import FactError
from bluedit.facts import Fact, Neighbour, Probe, formats, read_facts, write_facts
from bluedit.facts.fact import PROBES

ROME = {"prompt": "{} is in", "subject": "Rome", "target": "Spain"}
FACT = Fact("{} is in", "Rome", "Spain")

COUNTERFACT = {
    "case_id": 0,
    "pararel_idx": 2796,
    "requested_rewrite": {
        "prompt": "The mother tongue of {} is",
        "relation_id": "P103",
        "target_new": {"str": "English", "id": "Q1860"},
        "target_true": {"str": "French", "id": "Q150"},
        "subject": "Danielle Darrieux",
    },
    "paraphrase_prompts": ["Shayna does this and Yossel goes still. Danielle Darrieux, a native"],
    "neighborhood_prompts": ["The native language of Montesquieu is", "Raymond Barre is a native speaker of"],
    "attribute_prompts": ["The mother tongue of Douglas Adams is"],
    "generation_prompts": ["Danielle Darrieux's mother tongue is"],
}
EASYEDIT = {
    "case_id": 4,
    "prompt": "What is the twin city of Lyon? It is",
    "target_new": "Manila",
    "subject": "Lyon",
    "ground_truth": "Beirut",
    "rephrase_prompt": "The twin city of Lyon is",
    "locality_prompt": "The twin city of Trieste is",
    "locality_ground_truth": "Beirut",
}
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


# bluedit's own format


def test_own_format_with_everything(write: Write) -> None:
    record = {
        **ROME,
        "old_target": "Italy",
        "paraphrases": ["Where is Rome? In"],
        "neighbours": ["Milan is in", {"prompt": "Oslo is in", "answer": "Norway"}],
        "probes": [
            {"kind": "portability", "prompt": "In Rome they speak", "answers": ["Spanish", "Castilian"]},
            {"kind": "subject", "prompt": "The river of Rome is the"},
            {"kind": "generation", "prompt": "Rome is", "answers": []},
        ],
        "references": ["Spain lies south of France.", "Madrid is in Spain."],
        "id": 7,
    }
    (fact,) = read_facts(write("a.jsonl", lines(record)))
    expected = [Neighbour("Milan is in"), Neighbour("Oslo is in", "Norway")]
    probes = [
        Probe("portability", "In Rome they speak", ("Spanish", "Castilian")),
        Probe("subject", "The river of Rome is the"),
        Probe("generation", "Rome is"),
    ]
    references = ("Spain lies south of France.", "Madrid is in Spain.")
    assert fact == Fact("{} is in", "Rome", "Spain", "Italy", ["Where is Rome? In"], expected, probes, references)
    assert fact.probes == tuple(probes)
    assert fact.references == references
    assert fact.id == "7"


def test_own_format_with_the_subject_in_the_prompt(write: Write) -> None:
    path = write("a.jsonl", lines({**ROME, "prompt": "Is Rome in Rome? Rome is in"}))
    assert [f.prompt for f in read_facts(path)] == ["Is Rome in Rome? {} is in"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"neighbors": []}, "unknown key 'neighbors' (did you mean 'neighbours'?)"),
        ({"target": 5}, "'target' must be text, not a number"),
        ({"target": None}, "'target' is missing"),
        ({"paraphrases": "one"}, "'paraphrases' must be a list, not text"),
        ({"paraphrases": ["one", {}]}, "'paraphrases[1]' must be text, not an object"),
        ({"neighbours": [True]}, "'neighbours[0]' must be text or an object, not true or false"),
        ({"neighbours": [{"answer": "x"}]}, "'neighbours[0].prompt' is missing"),
        (
            {"neighbours": [{"prompt": "x", "anwser": "y"}]},
            "unknown key 'neighbours[0].anwser' (did you mean 'answer'?)",
        ),
        ({"probes": ["x"]}, "'probes[0]' must be an object, not text"),
        (
            {"probes": [{"kind": "alias", "prompt": "x", "answers": "y"}, {"answer": ["z"]}]},
            "'probes[0].answers' must be a list, not text; unknown key 'probes[1].answer' (did you mean 'answers'?); "
            "'probes[1].kind' is missing; 'probes[1].prompt' is missing",
        ),
        (
            {"probes": [{"kind": "multi-hop", "prompt": "x"}, {"kind": "alias", "prompt": "y"}]},
            "fact '{} is in': the probe 'x' is of the unknown kind 'multi-hop'; did you mean 'multihop'?; "
            "the probe 'y' has no answer",
        ),
        ({"references": "one"}, "'references' must be a list, not text"),
        ({"references": ["one", 2]}, "'references[1]' must be text, not a number"),
        ({"references": [" "]}, "fact '{} is in': a reference is empty or not text"),
        ({"id": [1]}, "'id' must be text, not a list"),
        ({"subject": "\ud800"}, "'subject' has half a surrogate pair in '\\ud800'; write the character itself"),
        ({"target": ""}, "fact '{} is in': target is empty"),
        (
            {"id": "x", "old_target": "Spain"},
            "fact 'x': target and old_target are both 'Spain': there is nothing to change",
        ),
        (
            {"prompt": "Oslo is in"},
            "subject 'Rome' does not occur in the prompt 'Oslo is in'; write it exactly as it stands there",
        ),
        ({"target": 5, "tag": 1, "id": {}}, "'target' must be text, not a number; 'id' must be text, not an object"),
    ],
)
def test_own_format_refuses(write: Write, changes: dict[str, Any], words: str) -> None:
    text = refusal(write("a.jsonl", lines({**ROME, **changes})))
    if "tag" in changes:
        unknown = "unknown key 'tag' (did you mean 'target'?); "
        assert text == f"FILE: 1 of 1 records cannot be used\nline 1: {unknown}{words}"
    else:
        assert text == f"FILE: 1 of 1 records cannot be used\nline 1: {words}"


def test_an_unknown_key_like_no_other_gets_the_whole_list(write: Write) -> None:
    text = refusal(write("a.jsonl", lines({**ROME, "zzz": 1})))
    known = "id, neighbours, old_target, paraphrases, probes, prompt, references, subject, target"
    assert text.endswith(f"line 1: unknown key 'zzz' (choose one of {known})")


# CSV


def test_csv_with_everything(write: Write) -> None:
    path = write(
        "a.csv",
        "prompt,subject,target,old_target,paraphrases,neighbours,references,id\n"
        '{} is in,Rome,Spain,Italy,"Where is Rome, really? In | Rome lies in",Oslo is in => Norway | Milan is in,'
        '"Spain is hot, mostly. | Spain => Madrid",r1\n'
        "Oslo is in,Oslo,Peru,,,,,\n",
    )
    first, second = read_facts(path)
    paraphrases = ["Where is Rome, really? In", "Rome lies in"]
    neighbours = [Neighbour("Oslo is in", "Norway"), Neighbour("Milan is in")]
    references = ["Spain is hot, mostly.", "Spain => Madrid"]
    assert first == Fact("{} is in", "Rome", "Spain", "Italy", paraphrases, neighbours, references=references)
    assert second == Fact("{} is in", "Oslo", "Peru")
    assert (first.id, second.id) == ("r1", "")


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_csv_with_and_without_byte_order_mark(write: Write, mark: str, newline: str) -> None:
    path = write("a.csv", mark + newline.join(["prompt, subject, target", '"{} is in", "Rome", Spain ', ""]))
    assert read_facts(path) == [FACT]


def test_csv_lines_are_counted_through_blank_lines_and_cells_with_line_breaks(write: Write) -> None:
    path = write(
        "a.csv",
        'prompt,subject,target\n"{}\nis in\n",Rome,Spain\n\n{} is in,Oslo,\n{} is in,Rome,Peru\n'
        '{} is in,Rome\n{} is in,Rome,Spain,Italy\n,,\n"{} is\nin",,Chile\n',
    )
    assert refusal(path).split("\n") == [
        "FILE: 5 of 7 records cannot be used",
        "line 6: fact '{} is in': target is empty",
        "line 8: 'target' is missing",
        "line 9: 4 cells, but the header has 3; put a cell with commas in double quotes",
        "line 10: subject '' does not occur in the prompt ''; write it exactly as it stands there",
        "line 11: fact '{} is\\nin': subject is empty",
    ]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ('{} is in,Rome,Spain,"a | ",', "fact '{} is in': a paraphrase is empty or not text"),
        (
            "{} is in,Rome,Spain,,Oslo =>",
            "the neighbour 'Oslo =>' has no answer after '=>'; write it, or leave the arrow out",
        ),
    ],
)
def test_csv_refuses_empty_parts_of_a_list(write: Write, row: str, words: str) -> None:
    text = refusal(write("a.csv", f"prompt,subject,target,paraphrases,neighbours\n{row}\n"))
    assert text == f"FILE: 1 of 1 records cannot be used\nline 2: {words}"


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (
            "prompt,subjct,target",
            "FILE: the header in line 1 cannot be used: unknown column 'subjct' (did you mean 'subject'?); "
            "column 'subject' is missing",
        ),
        (
            "prompt,subject,target,id,id",
            "FILE: the header in line 1 cannot be used: column 'id' stands there 2 times",
        ),
        (
            "prompt,subject,target,probes,reference",
            "FILE: the header in line 1 cannot be used: 'probes' cannot be a column, for its values are objects; "
            "write these facts as JSON or JSONL; unknown column 'reference' (did you mean 'references'?)",
        ),
        ("\n\nprompt,subject", "FILE: the header in line 3 cannot be used: column 'target' is missing"),
        ("prompt;subject;target", "FILE: the columns are separated by semicolons; separate them by commas"),
        ("prompt\tsubject\ttarget", "FILE: the columns are separated by tabs; separate them by commas"),
        ("prompt,subject,target", "FILE holds no records; write at least one fact into it"),
        ('""', "FILE holds no records; write at least one fact into it"),
        (
            '"prompt,subject,target',
            "FILE: line 1: broken CSV (unexpected end of data); check the double quotes; what follows was not read",
        ),
    ],
)
def test_csv_refuses_a_header(write: Write, header: str, words: str) -> None:
    assert refusal(write("a.csv", header)) == words


def test_csv_with_an_open_quote_loses_nothing_in_silence(write: Write) -> None:
    path = write("a.csv", 'prompt,subject,target\n{} is in,Rome,\n"{} is in,Rome,Spain\n{} is in,Oslo,Peru\n')
    assert refusal(path).split("\n") == [
        "FILE: 2 of 2 records cannot be used",
        "line 2: fact '{} is in': target is empty",
        "line 3: broken CSV (unexpected end of data); check the double quotes; what follows was not read",
    ]


# The benchmarks


def check_counterfact(fact: Fact) -> None:
    answers = [Neighbour(str(p), "French") for p in COUNTERFACT["neighborhood_prompts"]]
    paraphrases = COUNTERFACT["paraphrase_prompts"]
    probes = [Probe("generation", "Danielle Darrieux's mother tongue is")]
    prompt = "The mother tongue of {} is"
    assert fact == Fact(prompt, "Danielle Darrieux", "English", "French", paraphrases, answers, probes)
    assert fact.id == "0"


@pytest.mark.parametrize("format", [None, "counterfact", "multi_counterfact"])
def test_counterfact_as_rome_publishes_it(write: Write, format: str | None) -> None:
    (fact,) = read_facts(write("a.json", [COUNTERFACT]), format=format)
    check_counterfact(fact)


def test_counterfact_as_lines(write: Write) -> None:
    facts = read_facts(write("a.jsonl", lines(COUNTERFACT, {**COUNTERFACT, "case_id": 1})))
    check_counterfact(facts[0])
    assert [f.id for f in facts] == ["0", "1"]


def test_multi_counterfact_neighbours_with_their_own_answer(write: Write) -> None:
    neighbours = [{"prompt": "Hume speaks", "target": " English"}, "Montesquieu speaks"]
    (fact,) = read_facts(write("a.json", [{**COUNTERFACT, "neighborhood_prompts": neighbours}]))
    assert fact.neighbours == (Neighbour("Hume speaks", "English"), Neighbour("Montesquieu speaks", "French"))


def test_counterfact_without_the_optional_parts(write: Write) -> None:
    rewrite = without(COUNTERFACT["requested_rewrite"], "target_true")  # pyright: ignore[reportArgumentType]
    record = {"requested_rewrite": rewrite, "neighborhood_prompts": ["Hume speaks"], "paraphrase_prompts": None}
    (fact,) = read_facts(write("a.json", [record]))
    assert (fact.old_target, fact.paraphrases, fact.neighbours) == (None, (), (Neighbour("Hume speaks"),))


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"requested_rewrite": "x"}, "'requested_rewrite' must be an object, not text"),
        ({"requested_rewrite": None}, "'requested_rewrite' is missing"),
        (
            {"requested_rewrite": {"subject": "Rome", "target_new": {"str": 1}, "target_true": []}},
            "'requested_rewrite.prompt' is missing; 'requested_rewrite.target_new.str' must be text, not a number; "
            "'requested_rewrite.target_true' must be an object, not a list",
        ),
        (
            {
                "requested_rewrite": {"prompt": "Rome is", "subject": "Rome", "target_new": {"str": "old"}},
                "case_id": 3,
            },
            "fact '3': the prompt must contain '{}' exactly once, where the subject stands; 'Rome is' has it 0 times",
        ),
        (
            {
                "requested_rewrite": {"prompt": "{} is", "subject": "Rome", "target_new": {"str": "old"}},
                "neighborhood_prompts": [{"prompt": 1, "target": "a"}],
            },
            "'neighborhood_prompts[0].prompt' must be text, not a number",
        ),
        (
            {**COUNTERFACT, "generation_prompts": [" "]},
            "fact '0': a probe is not a Probe with a prompt",
        ),
    ],
)
def test_counterfact_refuses(write: Write, record: dict[str, Any], words: str) -> None:
    assert refusal(write("a.json", [record])) == f"FILE: 1 of 1 records cannot be used\nrecord 1: {words}"


@pytest.mark.parametrize("as_lines", [True, False])
def test_easyedit(write: Write, as_lines: bool) -> None:
    (fact,) = read_facts(write("a.json", lines(EASYEDIT) if as_lines else [EASYEDIT]))
    neighbours = [Neighbour("The twin city of Trieste is", "Beirut")]
    prompt = "What is the twin city of {}? It is"
    assert fact == Fact(prompt, "Lyon", "Manila", "Beirut", ["The twin city of Lyon is"], neighbours)
    assert fact.id == "4"


def test_easyedit_without_the_optional_parts(write: Write) -> None:
    (fact,) = read_facts(write("a.jsonl", lines({k: EASYEDIT[k] for k in ("prompt", "subject", "target_new")})))
    assert fact == Fact("What is the twin city of {}? It is", "Lyon", "Manila")


def test_easyedit_refuses(write: Write) -> None:
    bad = [{**EASYEDIT, "subject": "Paris"}, {**EASYEDIT, "target_new": "Beirut"}, {**EASYEDIT, "target_new": []}]
    assert refusal(write("a.jsonl", lines(EASYEDIT, *bad))).split("\n") == [
        "FILE: 3 of 4 records cannot be used",
        f"line 2: subject 'Paris' does not occur in the prompt {EASYEDIT['prompt']!r}; "
        "write it exactly as it stands there",
        "line 3: fact '4': target and old_target are both 'Beirut': there is nothing to change",
        "line 4: 'target_new' must be text, not a list",
    ]


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
    for record in ({**ZSRE, "alt": "1987"}, without(ZSRE, "alt"), COUNTERFACT):
        (fact,) = read_facts(write("a.jsonl", lines({**record, **more})))
        assert fact.probes[-1] == Probe("portability", "What is 1987 divisible by?", ("3",))
    (fact,) = read_facts(write("a.jsonl", lines({**ZSRE, **more})))
    assert not fact.probes, "what follows from MEND's counterfactual does not follow from what is taught"
    (fact,) = read_facts(write("a.jsonl", lines({**COUNTERFACT, "portability": {"New Question": "What is?"}})))
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
            "subject 'Oslo' does not occur in the prompt 'When was WEFS established?'; "
            "write it exactly as it stands there",
        ),
        (
            {"loc": ""},
            "fact 'When was {} established?': a neighbour is not a Neighbour with a prompt and an answer that is text, not empty, or None",
        ),
    ],
)
def test_zsre_refuses(write: Write, changes: dict[str, Any], words: str) -> None:
    text = refusal(write("a.jsonl", lines({**ZSRE, **changes})))
    assert text == f"FILE: 1 of 1 records cannot be used\nline 1: {words}"


# How the records lie in the file


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", [ROME]),
        ("a.jsonl", [ROME]),
        ("zsre.csv", [ROME]),
        ("a.json", json.dumps([ROME], indent=2)),
        ("a.json", ROME),
        ("a.json", json.dumps(ROME, indent=2)),
        ("a.jsonl", json.dumps(ROME, indent=2)),
        ("a.jsonl", "\n  \n" + lines(ROME) + "\n"),
        ("a.json", lines(ROME)),
        ("a.txt", lines(ROME)),
        ("a", "\ufeff" + lines(ROME)),
        ("a.JSONL", lines(ROME).replace("\n", "\r\n")),
        ("a.json", {"version": 1, "facts": [ROME]}),
        ("a.json", json.dumps({"facts": [ROME]}, indent=2)),
        ("counterfact.CSV", "prompt,subject,target\n{} is in,Rome,Spain"),
        ("a.txt", "target,subject,prompt\nSpain,Rome,{} is in"),
    ],
)
def test_the_layout_is_told_from_extension_and_content(write: Write, name: str, content: object) -> None:
    assert read_facts(write(name, content)) == [FACT]


def test_an_own_record_with_a_list_of_objects_is_a_record(write: Write) -> None:
    (fact,) = read_facts(write("a.json", {**ROME, "neighbours": [{"prompt": "Oslo is in"}]}))
    assert fact.neighbours == (Neighbour("Oslo is in"),)


def test_unicode_line_separators_do_not_end_a_record(write: Write) -> None:
    path = write("a.jsonl", json.dumps({**ROME, "subject": "Ro\u2028me"}, ensure_ascii=False) + "\n")
    assert [f.subject for f in read_facts(path)] == ["Ro\u2028me"]


def test_all_faults_are_reported_together(write: Write) -> None:
    broken = '{"prompt": "{} is in", "subject": }\n'
    path = write("a.jsonl", lines(ROME, "x", ROME) + "\n" + broken + lines({**ROME, "target": ""}, ROME))
    assert refusal(path).split("\n") == [
        "FILE: 3 of 6 records cannot be used",
        "line 2: a record must be a JSON object with named keys, not text",
        "line 5: broken JSON at column 35: Expecting value",
        "line 6: fact '{} is in': target is empty",
    ]


@pytest.mark.parametrize("wrapped", [False, True])
def test_records_of_an_array_are_numbered(write: Write, wrapped: bool) -> None:
    records = [ROME, ROME, [], {**ROME, "target": 1}]
    assert refusal(write("a.json", {"version": 1, "facts": records} if wrapped else records)).split("\n") == [
        "FILE: 2 of 4 records cannot be used",
        "record 3: a record must be a JSON object with named keys, not a list",
        "record 4: 'target' must be text, not a number",
    ]


def test_a_list_of_anything_but_records_is_refused(write: Write) -> None:
    assert refusal(write("a.json", {"facts": ["Rome"]})).split("\n") == [
        "FILE: 1 of 1 records cannot be used",
        "record 1: a record must be a JSON object with named keys, not text",
    ]
    assert "its first record has 'prompt', 'paraphrases';" in refusal(
        write("b.json", {"prompt": "{} is in", "paraphrases": ["Rome lies in"]})
    )


def test_at_most_twenty_faults_are_shown(write: Write) -> None:
    text = refusal(write("a.json", [ROME] * 3 + [{**ROME, "target": ""}] * 23)).split("\n")
    assert text[0] == "FILE: 23 of 26 records cannot be used"
    assert text[1] == "record 4: fact '{} is in': target is empty"
    assert (len(text), text[-1]) == (22, "... and 3 more")


def test_exactly_twenty_faults_have_no_more(write: Write) -> None:
    text = refusal(write("a.json", [{**ROME, "target": ""}] * 20)).split("\n")
    assert (len(text), text[-1]) == (21, "record 20: fact '{} is in': target is empty")


def test_skip_and_limit_choose_records_and_keep_their_lines(write: Write) -> None:
    records = [{**ROME, "id": i, "target": "" if i == 3 else "Spain"} for i in range(5)]
    path = write("a.jsonl", lines(*records))
    assert [f.id for f in read_facts(path, limit=2, skip=1)] == ["1", "2"]
    assert [f.id for f in read_facts(path, skip=4)] == ["4"]
    assert refusal(path, skip=2) == "FILE: 1 of 3 records cannot be used\nline 4: fact '3': target is empty"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"limit": 0}, "limit=0 would read nothing; pass at least 1, or None for all records"),
        ({"skip": -1}, "skip=-1 is negative; pass how many records to leave out, or 0"),
        ({"skip": 2}, "skip=2 leaves no record of FILE, which has 1; skip fewer"),
        ({"format": "zrse"}, "unknown format 'zrse' of a fact file; did you mean 'zsre'?"),
    ],
)
def test_options_are_refused(write: Write, options: dict[str, Any], words: str) -> None:
    assert refusal(write("a.jsonl", lines(ROME)), **options) == words


def test_a_format_that_is_asked_for_is_not_told_anew(write: Write) -> None:
    assert read_facts(write("a.txt", "subject,target,prompt\nRome,Spain,{} is in"), format="csv") == [FACT]
    text = refusal(write("a.jsonl", lines(ROME)), format="zsre")
    assert text.split("\n")[1] == (
        "line 1: 'src' is missing; 'answers' has no answer; the first one is what the model is taught"
    )


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", "", "FILE is empty; expected facts as JSON, JSONL or CSV"),
        ("a.csv", "\ufeff \n", "FILE is empty; expected facts as JSON, JSONL or CSV"),
        ("a.json", "[]", "FILE holds no records; write at least one fact into it"),
        ("a.json", {"facts": []}, "FILE holds no records; write at least one fact into it"),
        ("a.json", b"PK\x03\x00", "FILE is a binary file (zero byte at 3); facts are JSON, JSONL or CSV text"),
        ("a.csv", "prompt".encode("utf-16"), "FILE is UTF-16 text; save it as UTF-8"),
        ("a.csv", b"prompt\n\nS\xe3o", "FILE is not UTF-8: line 3 has the byte 0xe3; save the file as UTF-8"),
        ("a.json", '[\n{"prompt": 1,}]', "FILE: broken JSON at line 2, column 14: "
         "Expecting property name enclosed in double quotes"),
        ("a.json", "[" * 100_000, "FILE: broken JSON: maximum recursion depth exceeded"),
        ("a.json", "[" + "1" * 5000 + "]", "FILE: broken JSON: Exceeds the limit (4300 digits) for integer string"),
        ("a.json", "42", "FILE holds a number; expected a JSON array of records, or one record in each line"),
        ("a.json", '"text"', "FILE holds text; expected a JSON array of records, or one record in each line"),
        ("a.json", "null", "FILE holds null; expected a JSON array of records, or one record in each line"),
        ("a.jsonl", "42", "FILE: 1 of 1 records cannot be used\n"
         "line 1: a record must be a JSON object with named keys, not a number"),
        ("a.jsonl", "{]", "FILE: 1 of 1 records cannot be used\nline 1: broken JSON at column 2: "
         "Expecting property name enclosed in double quotes"),
        ("a.txt", "Rome is in Spain.", "cannot tell the format of FILE: it begins neither like JSON nor with a CSV "
         "header that has the columns prompt, subject, target; pass format= as one of "
         "mquake, counterfact, easyedit, zsre, rippleedits, csv, bluedit"),
    ],
)  # fmt: skip
def test_a_file_is_refused(write: Write, name: str, content: object, words: str) -> None:
    text = refusal(write(name, content))
    assert text[: len(words)] == words


def test_records_of_no_known_format_are_refused(write: Write) -> None:
    text = refusal(write("a.json", [{"question": "x", "answer": "y"}])).split("\n")
    assert text[0] == ("cannot tell the format of FILE: its first record has 'question', 'answer'; known formats are")
    assert text[1:] == [f"  {name}: {description}" for name, description in formats().items()]
    assert "its first record has no keys at all;" in refusal(write("b.json", [{}]))


def test_a_missing_file_gets_close_names(write: Write, tmp_path: Path) -> None:
    write("facts.jsonl", lines(ROME))
    write("other.csv", "x")
    assert refusal(tmp_path / "fcats.jsonl") == "there is no file FILE; did you mean 'facts.jsonl'?"
    assert refusal(tmp_path / "zzzzzzzzz") == "there is no file FILE; check the name"
    missing = tmp_path / "no" / "a.csv"
    assert refusal(missing) == f"there is no file FILE; the folder {missing.parent} does not exist either"


def test_a_folder_is_refused(write: Write, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    write("facts.jsonl", lines(ROME))
    assert refusal(tmp_path) == "FILE is a folder; pass one file of facts in it, such as 'facts.jsonl'"
    assert refusal(empty) == "FILE is a folder; pass one file of facts"


def test_a_path_through_a_file_is_refused(write: Write) -> None:
    path = write("a.json", [ROME]) / "b.json"
    assert refusal(path) == "cannot read FILE: Not a directory"


def test_formats_are_described() -> None:
    table = formats()
    assert list(table) == ["mquake", "counterfact", "easyedit", "zsre", "rippleedits", "csv", "bluedit"]
    assert all(len(text) > 20 and not text.endswith(".") for text in table.values())


# Writing


def test_written_facts_are_read_again(tmp_path: Path) -> None:
    facts = [
        Fact(
            "{} is in",
            "Zü\u2028rich",
            " Peru",
            "Italy\n",
            ["a", "b"],
            [Neighbour("c"), Neighbour("d", "e")],
            [Probe("alias", "f", ("g", "h")), Probe("generation", "i")],
            ["j | k", "l"],
            "1",
        ),
        FACT,
    ]
    path = tmp_path / "facts.jsonl"
    write_facts(path, iter(facts))
    again = read_facts(str(path))
    assert again == facts
    assert [f.id for f in again] == ["1", ""]
    assert [p.name for p in tmp_path.iterdir()] == ["facts.jsonl"]
    assert json.loads(path.read_text().split("\n")[1]) == ROME


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda t: t.strip() and "{}" not in t)
neighbours = st.builds(Neighbour, texts, st.none() | texts)
some = st.lists(texts, min_size=1, max_size=2)
probes = st.sampled_from(PROBES).flatmap(
    lambda kind: st.builds(
        Probe,
        st.just(kind),
        texts,
        {"subject": st.just([]) | some, "generation": st.just([])}.get(kind, some),
    )
)
any_fact = st.builds(
    lambda before, after, **rest: Fact(before + "{}" + after, **rest),
    texts.filter(lambda t: not t.endswith("{")),
    texts.filter(lambda t: not t.startswith("}")),
    subject=texts.map(str.strip),
    target=texts.map(lambda t: "new " + t),
    old_target=st.none() | texts.map(lambda t: "old " + t),
    paraphrases=st.lists(texts, max_size=2),
    neighbours=st.lists(neighbours, max_size=2),
    probes=st.lists(probes, max_size=2),
    references=st.lists(texts, max_size=2),
    id=st.text(st.characters(exclude_categories=["Cs"]), max_size=3),
)


@settings(max_examples=60, deadline=None)
@given(facts=st.lists(any_fact, min_size=1, max_size=3))
def test_any_facts_survive_writing_and_reading(facts: list[Fact], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    write_facts(path, facts)
    again = read_facts(path)
    assert again == facts
    assert [f.id for f in again] == [f.id for f in facts]


def written(path: Path, facts: list[Fact]) -> str:
    with pytest.raises(FactError) as caught:
        write_facts(path, facts)
    return str(caught.value)


def test_writing_is_refused_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_text("old")
    assert written(path, []) == f"no facts were given to write to {path}; pass at least one Fact"
    half = Fact("{} is in", "Rome", "\ud800")
    assert written(path, [half]) == f"cannot write {path}: a fact has half a surrogate pair, '\\ud800'"
    assert written(tmp_path, [FACT]).startswith(f"cannot write {tmp_path}: Is a directory;")
    below = path / "facts.jsonl"
    assert written(below, [FACT]).startswith(f"cannot write {below}: File exists;")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["facts.jsonl"]


def test_a_data_set_of_the_hub(tmp_path, monkeypatch):
    """A folder stands in for one: the package datasets reads both alike."""
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    records = [{"prompt": f"{name} is in", "subject": name, "target_new": "Asia"} for name in ("Oslo", "Bern", "Rome")]
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    facts = read_facts(f"hf:{tmp_path / 'set'}", skip=1, limit=1)
    assert facts == [Fact("{} is in", subject="Bern", target="Asia")]
    with pytest.raises(FactError, match="cannot read the dataset hf:"):
        read_facts(f"hf:{tmp_path / 'nothing'}")


def test_a_data_set_of_the_hub_without_the_package(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(FactError, match="hf:x needs the package datasets; run: pip install datasets"):
        read_facts("hf:x")
