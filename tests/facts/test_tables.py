"""Tables as Excel, pandas and others write them: lists in cells, columns without names, other case, tabs."""

from __future__ import annotations

import pytest
from facts_help import FACT, Write, refusal, unusable

from bluedit.facts import Fact, Neighbour, read_facts

HEAD = "prompt,subject,target"


def cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


@pytest.mark.parametrize(
    "text",
    [
        '["{} lies in", "Rome, of all, is in"]',
        "['{} lies in', 'Rome, of all, is in']",
        "['{} lies in',\n \"Rome, of all, is in\"]",
    ],
)
def test_a_list_of_json_or_python_in_a_cell(write: Write, text: str) -> None:
    path = write("a.csv", f"{HEAD},phrasings\n{{}} is in,Rome,Spain,{cell(text)}\n")
    assert read_facts(path)[0].phrasings == ("{} lies in", "{}, of all, is in")


def test_lists_in_every_column_that_takes_several(write: Write) -> None:
    cells = [
        '["Rome? In"]',
        "['In which country?']",
        '["Oslo is in => Norway", {"prompt": "Milan is in", "answer": "Italy"}, "Bern is in"]',
        '["Spain | is hot", "Madrid"]',
        "['Where is Rome?', 'And Rome?']",
        "[]",
    ]
    row = ",".join(map(cell, cells))
    path = write(
        "a.csv", f"{HEAD},paraphrases,queries,neighbours,references,question,phrasings\n{{}} is in,Rome,Spain,{row}\n"
    )
    (fact,) = read_facts(path)
    assert fact.paraphrases == ("Rome? In", "In which country?", "Where is Rome?", "And Rome?")
    assert fact.neighbours == (
        Neighbour("Oslo is in", "Norway"),
        Neighbour("Milan is in", "Italy"),
        Neighbour("Bern is in"),
    )
    assert (fact.references, fact.phrasings) == (("Spain | is hot", "Madrid"), ())


@pytest.mark.parametrize(
    "text",
    [
        '["{} lies in", "{} was in"',
        "['{} lies in' '{} was in']",  # numpy's; Python reads it as one text
        "['{} lies in', 3]",
        "['{} lies \\din']",
        "[“{} lies in”, “{} was in”]",
        "['{} lies in'] | {} was in",
        "[{'prompt': '{} lies in'}]",
    ],
)
def test_a_cell_that_begins_like_a_list_and_is_none_is_refused(write: Write, text: str) -> None:
    path = write("a.csv", f"{HEAD},phrasings\n{{}} is in,Rome,Spain,{cell(text)}\n")
    words = f'\'phrasings\' begins like a list and cannot be read as one: {text!r}; write one | two, or ["one", "two"]'
    assert refusal(path) == unusable(1, f"line 2: {words}")


def test_a_list_of_other_things_names_what_is_wrong(write: Write) -> None:
    path = write("a.csv", f'{HEAD},phrasings\n{{}} is in,Rome,Spain,"[""{{}} lies in"", 3]"\n')
    assert refusal(path) == unusable(1, "line 2: 'phrasings[1]' must be text, not a number")


@pytest.mark.parametrize(
    "text", ["[INST] Where is Rome? [/INST]", "[1] Rome is in", "Rome is in\nthe land; of", "[Rome] is in"]
)
def test_other_brackets_semicolons_and_line_breaks_are_text(write: Write, text: str) -> None:
    path = write("a.csv", f"{HEAD},paraphrases\n{{}} is in,Rome,Spain,{cell(text)}\n")
    assert read_facts(path)[0].paraphrases == (text,)


def test_lists_in_cells_of_other_formats(write: Write) -> None:
    table = 'update,subject,ans,rephrase,personas\nWhere is Rome?,Rome,Spain,"[\'Rome is where?\', \'And Rome?\']","[""Rome, matey?""]"\n'
    (fact,) = read_facts(write("a.csv", table))
    assert fact.paraphrases == ("Rome is where?", "And Rome?")
    assert [probe.prompt for probe in fact.probes] == ["Rome, matey?"]
    text = refusal(write("b.csv", "question,subject,object,paraphrased_question\nIs Rome?,Rome,yes,['And Rome?\n"))
    assert "'paraphrased_question' begins like a list and cannot be read as one: \"['And Rome?\"; write" in text


@pytest.mark.parametrize(
    "table",
    [
        f",,\n{HEAD}\n,,\n{{}} is in,Rome,Spain\n , ,\n,,\n",
        f"{HEAD},,\n{{}} is in,Rome,Spain,,\n,,,,\n",
        "prompt,,subject,target\n{} is in,,Rome,Spain\n",
        f",{HEAD}\n7,{{}} is in,Rome,Spain\n",
        f"Unnamed: 0,{HEAD},Unnamed: 4\n0,{{}} is in,Rome,Spain,\n",
        "Prompt,SUBJECT, Target \n{} is in,Rome,Spain\n",
    ],
)
def test_what_table_programs_add_is_left_out(write: Write, table: str) -> None:
    assert read_facts(write("a.csv", table)) == [FACT]


def test_rows_of_empty_cells_are_not_counted(write: Write) -> None:
    path = write("a.csv", f"{HEAD}\n,,\n{{}} is in,Rome,Spain\n,,\n{{}} is in,Rome,\n")
    assert refusal(path) == unusable(2, "line 5: fact '{} is in': target is empty")
    assert refusal(write("b.csv", f"{HEAD}\n,,\n")) == "FILE holds no records; write at least one fact into it"


@pytest.mark.parametrize(
    ("header", "row", "fault"),
    [
        (f",{HEAD}", "a,{} is in,Rome,Spain", "'a' stands in column 1"),
        (f"{HEAD},", "{} is in,Rome,Spain,7", "'7' stands in column 4"),
        (f"{HEAD},,", "{} is in, mostly,Rome,Spain,", "'Spain' stands in column 4"),
    ],
)
def test_cells_of_a_column_without_a_name_are_refused(write: Write, header: str, row: str, fault: str) -> None:
    path = write("a.csv", f"{header}\n{row}\n")
    words = "which has no name in the header; name the column or empty the cell"
    assert refusal(path) == unusable(1, f"line 2: {fault}, {words}")


def test_a_row_may_not_be_longer_than_the_header_even_if_it_ends_in_empty_cells(write: Write) -> None:
    """A comma without quotes has moved its cells: what looks like the subject is none."""
    path = write("a.csv", f"{HEAD},old_target\nThe land of {{}}, now,Rome,Spain,\n")
    assert "5 cells, but the header has 4" in refusal(path)


def test_column_names_in_other_case(write: Write) -> None:
    (fact,) = read_facts(write("a.csv", "Prompt,Subject,Target,Old Target,ID\n{} is in,Rome,Spain,Italy,x\n"))
    assert (fact.old_target, fact.id) == ("Italy", "x")
    assert read_facts(write("a.txt", "PROMPT,SUBJECT,TARGET\n{} is in,Rome,Spain\n")) == [FACT]
    (fact,) = read_facts(write("b.csv", "Question,Subject,Object\nIs Rome?,Rome,yes\n"))
    assert fact == Fact("Is {}?", "Rome", "yes")


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        ("prompt,Prompt,subject,target", "unknown column 'Prompt' (did you mean 'prompt'?)"),
        ("Prompt,PROMPT,subject,target", "column 'prompt' occurs 2 times"),
        (
            "Probes,prompt,subject,target",
            "'probes' cannot be a column, because its values are objects; write these facts as JSON or JSONL",
        ),
        ("question,question,subject,object", "column 'question' occurs 2 times"),
    ],
)
def test_headers_that_cannot_be_told_apart(write: Write, header: str, fault: str) -> None:
    text = refusal(write("a.csv", f"{header}\na,b,c,d\n"))
    assert text == f"FILE: the header in line 1 cannot be used: {fault}"


def test_an_index_with_a_name_of_pandas_that_counts_nothing_is_refused(write: Write) -> None:
    text = refusal(write("a.csv", f"Unnamed: 0,{HEAD}\na,{{}} is in,Rome,Spain\n"))
    assert text.startswith("FILE: the header in line 1 cannot be used: unknown column 'Unnamed: 0' (choose one of ")


@pytest.mark.parametrize("format", [None, "csv"])
def test_a_table_with_tabs(write: Write, format: str | None) -> None:
    path = write(
        "a.tsv", "\tprompt\tsubject\ttarget\tphrasings\n0\t{} is in\tRome\tSpain, mostly\t{} lies in | {} was in\n"
    )
    (fact,) = read_facts(path, format=format)
    assert (fact.target, fact.phrasings) == ("Spain, mostly", ("{} lies in", "{} was in"))
    assert refusal(write("b.TSV", "prompt\tsubject\ttarget\n{} is in\ta\tb\tc\n"), format=format) == unusable(
        1, "line 2: 4 cells, but the header has 3; put a cell with tabs in double quotes"
    )


@pytest.mark.parametrize(
    ("name", "separator", "words"),
    [
        ("a.tsv", ",", "by commas; separate them by tabs, or name the file .csv"),
        ("a.tsv", ";", "by semicolons; separate them by tabs"),
        ("a.txt", "\t", "by tabs; separate them by commas, or name the file .tsv"),
        ("a.txt", ";", "by semicolons; separate them by commas"),
    ],
)
def test_the_wrong_separator(write: Write, name: str, separator: str, words: str) -> None:
    table = f"{HEAD}\n{{}} is in,Rome,Spain\n".replace(",", separator)
    assert refusal(write(name, table)) == f"FILE: the columns are separated {words}"
