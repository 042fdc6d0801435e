"""How records are stored in a file, how its format is told, and the text of each refusal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from facts_help import FACT, ROME, Write, lines, refusal, unusable

from bluedit.errors import FactError
from bluedit.facts import Fact, Neighbour, formats, read_facts


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
    assert refusal(path) == unusable(
        6,
        "line 2: a record must be a JSON object with named keys, not text",
        "line 5: broken JSON at column 35: Expecting value",
        "line 6: fact '{} is in': target is empty",
    )


@pytest.mark.parametrize("wrapped", [False, True])
def test_records_of_an_array_are_numbered(write: Write, wrapped: bool) -> None:
    records = [ROME, ROME, [], {**ROME, "target": 1}]
    assert refusal(write("a.json", {"version": 1, "facts": records} if wrapped else records)) == unusable(
        4,
        "record 3: a record must be a JSON object with named keys, not a list",
        "record 4: 'target' must be text, not a number",
    )


def test_a_list_of_anything_but_records_is_refused(write: Write) -> None:
    assert refusal(write("a.json", {"facts": ["Rome"]})) == unusable(
        1,
        "record 1: a record must be a JSON object with named keys, not text",
    )
    assert "its first record has 'prompt', 'paraphrases';" in refusal(
        write("b.json", {"prompt": "{} is in", "paraphrases": ["Rome lies in"]})
    )


def test_at_most_twenty_faults_are_shown(write: Write) -> None:
    text = refusal(write("a.json", [ROME] * 3 + [{**ROME, "target": ""}] * 23)).split("\n")
    assert text[0] == unusable(26, *[""] * 23).split("\n")[0]
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
    assert refusal(path, skip=2) == unusable(3, "line 4: fact '3': target is empty")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"limit": 0}, "a limit of 0 would read nothing; give at least 1, or none for all records"),
        ({"skip": -1}, "skip=-1 is negative; pass how many records to leave out, or 0"),
        ({"skip": 2}, "skip=2 leaves no record of FILE, which has 1; skip fewer"),
        ({"format": "zrse"}, "unknown format 'zrse' of a fact file; did you mean 'zsre' or 'mzsre' or 'bizsre'?"),
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
         "mquake, counterfact, easyedit, wikibio, zsre, mzsre, rippleedits, wikibigedit, hallueditbench, unke, akew, known, csv, bluedit"),
    ],
)  # fmt: skip
def test_a_file_is_refused(write: Write, name: str, content: object, words: str) -> None:
    text = refusal(write(name, content))
    assert text[: len(words)] == words


@pytest.mark.parametrize(
    ("record", "nearest"),
    [
        ({"question": "x", "answer": "y"}, "unke, which also needs para_question or sub_question"),
        ({"prompt": "x", "subjct": "y", "target_new": "z"}, "easyedit, which also needs subject"),
        ({"prompt": "x", "paraphrases": []}, "csv, which also needs subject, target"),
        ({"src": "x", "subject": "y", "loc": "z"}, "zsre, which also needs answers or alt"),
        ({"update": "x", "answer": "y", "subject": "z", "mhop": ""}, "wikibigedit, which also needs ans"),
        ({"requested_rewrites": {}}, "mquake, which also needs requested_rewrite"),
        ({"questoin": "x", "subject": "y", "object": "z"}, "hallueditbench, which also needs question"),
        ({"text": "x", "label": "y", "concept": "z"}, "wikibio, which also needs labels"),
    ],
)
def test_records_of_no_known_format_get_the_nearest_first(write: Write, record: dict[str, Any], nearest: str) -> None:
    text = refusal(write("a.json", [record])).split("\n")
    keys = ", ".join(map(repr, record))
    assert text[0] == (
        f"cannot tell the format of FILE: its first record has {keys}; the nearest format is {nearest}. "
        "Known formats, the nearest first:"
    )
    table = formats()
    first = nearest.split(",")[0]
    assert text[1] == f"  {first}: {table[first]}"
    assert sorted(text[1:]) == sorted(f"  {name}: {description}" for name, description in table.items())


def test_a_record_without_keys_and_a_table_of_other_columns_are_refused(write: Write) -> None:
    assert "its first record has no keys at all;" in refusal(write("b.json", [{}]))
    text = refusal(write("c.csv", "subject,object,topic\na,b,c\n"))
    assert text.startswith(
        "cannot tell the format of FILE: its header has 'subject', 'object', 'topic'; the nearest format is "
    )
    assert "\n  hallueditbench: " in text.split("Known formats")[1].split("\n  counterfact")[0]


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
    assert list(table)[-2:] == ["csv", "bluedit"] and len(table) == 14
    assert all(len(text) > 20 and not text.endswith(".") for text in table.values())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("zsre:zh", "the format 'zsre' has no variant 'zh'; only mzsre:... has variants"),
        ("mzsre:", "the format 'mzsre' has no variant ''; only mzsre:... has variants"),
        ("unkee", "unknown format 'unkee' of a fact file; did you mean 'unke'"),
    ],
)
def test_variants_and_close_names_of_formats(write: Write, name: str, words: str) -> None:
    assert refusal(write("a.jsonl", lines(ROME)), format=name).startswith(words)


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
