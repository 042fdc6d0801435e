"""Tables of facts: columns, quotes, lists in cells, and the line of each fault."""

from __future__ import annotations

import pytest
from facts_help import FACT, Write, refusal, unusable

from bluedit.facts import Fact, Neighbour, read_facts


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
    assert refusal(path) == unusable(
        6,
        "line 6: fact '{} is in': target is empty",
        "line 8: 'target' is missing",
        "line 9: 4 cells, but the header has 3; put a cell with commas in double quotes",
        "line 11: fact '{} is\\nin': subject is empty",
    )


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
    assert text == unusable(1, f"line 2: {words}")


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
            "FILE: the header in line 1 cannot be used: column 'id' occurs 2 times",
        ),
        (
            "prompt,subject,target,probes,reference",
            "FILE: the header in line 1 cannot be used: 'probes' cannot be a column, because its values are objects; "
            "write these facts as JSON or JSONL; unknown column 'reference' (did you mean 'references'?)",
        ),
        ("\n\nprompt,subject", "FILE: the header in line 3 cannot be used: column 'target' is missing"),
        ("prompt;subject;target", "FILE: the columns are separated by semicolons; separate them by commas"),
        (
            "prompt\tsubject\ttarget",
            "FILE: the columns are separated by tabs; separate them by commas, or name the file .tsv",
        ),
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


@pytest.mark.parametrize("choice", ["refuse", "skip"])
@pytest.mark.parametrize(
    ("row", "fault"),
    [
        (
            '"{} is in,Rome,Spain',
            "broken CSV (unexpected end of data); check the double quotes; what follows was not read",
        ),
        (
            'x,"Rome" it is,Spain',
            "broken CSV (',' expected after '\"'); check the double quotes; what follows was not read",
        ),
        (
            '"{} is in,Rome,Spain\n{} is in,Kuopio,Peru"',
            "1 cell, but the header has 3; check the double quotes; a cell holds what looks like other rows",
        ),
        (
            f"{{}} is in,Rome,{'x' * 131073}",
            "a cell has more than 131072 characters, because a double quote is missing or because the text is that long; "
            "check the double quotes, or write these facts as JSONL; what follows was not read",
        ),
    ],
)
def test_csv_with_a_wrong_quote_is_refused_since_nobody_knows_what_is_lost(
    write: Write, row: str, fault: str, choice: str
) -> None:
    path = write("a.csv", f"prompt,subject,target\n{{}} is in,Rome,Spain\n{row}\n{{}} is in,Oslo,Peru\n")
    anyway = "so the file is refused even with bad_records='skip' (--bad-records skip)"
    assert refusal(path, bad_records=choice) == f"FILE: line 3: {fault}, {anyway}"
    assert read_facts(path, limit=1) == [FACT], "what stands before it can be trusted"
    assert refusal(path, skip=8) == f"FILE: line 3: {fault}, {anyway}"


def test_csv_with_a_short_row_of_several_lines_can_be_skipped(write: Write) -> None:
    path = write("a.csv", 'prompt,subject,target\n"{},\nit says, is in",Rome\n{} is in,Rome,Spain\n')
    assert refusal(path) == unusable(2, "line 2: 'target' is missing")
    assert read_facts(path, bad_records="skip") == [FACT]


def test_phrasings_and_queries_are_lists_in_a_cell(write: Write) -> None:
    path = write(
        "a.csv",
        "prompt,subject,target,phrasings,paraphrases,queries,question\n"
        '{} is in,Rome,Spain,{} lies in | What is around Rome? It is,"Where, in all, is Rome?",Rome? In | And Rome? In,Where is Rome?\n',
    )
    (fact,) = read_facts(path)
    assert fact.phrasings == ("{} lies in", "What is around {}? It is")
    assert fact.paraphrases == ("Where, in all, is Rome?", "Rome? In", "And Rome? In", "Where is Rome?")


def test_the_column_template_says_that_braces_are_the_place(write: Write) -> None:
    table = 'prompt,subject,target,template\n"{} is older than Rome\'s wall and is in",Rome,Spain,%s\n'
    assert read_facts(write("a.csv", table % "yes"))[0].subject == "Rome"
    assert "holds both '{}' and the subject 'Rome'" in refusal(write("b.csv", table % ""))
