"""`bluedit facts expand`."""

from __future__ import annotations

import json

import pytest
from cli_help import assert_fails, assert_fits, flat, run

from bluedit import read_facts


@pytest.fixture
def facts(tmp_path):
    file = tmp_path / "facts.jsonl"
    file.write_text(json.dumps({"prompt": "The capital of {} is", "subject": "France", "target": "Rome"}) + "\n")
    return file


def test_companions_are_shown_and_nothing_is_written(facts):
    result = run("facts", "expand", facts)
    assert result.exit_code == 0
    for text in (
        "5 companions",
        "The French capital is",
        "inverse",
        "Rome is the capital of",
        "What is the capital of",
        "Rome is a city in",
    ):
        assert text in flat(result.stdout)
    assert [file.name for file in facts.parent.iterdir()] == [facts.name]


def test_chosen_companions_are_written_with_the_facts(facts, tmp_path):
    out = tmp_path / "more.jsonl"
    result = run("facts", "expand", facts, "--out", out, "--keep", "1,4-5")
    assert result.exit_code == 0, result.stderr
    assert f"3 companions and 1 fact written to {out}" in result.stdout
    assert [fact.id for fact in read_facts(out)][1:] == ["1/inverse", "1/question", "1/consequence"]
    run("facts", "expand", facts, "--rule", "inverse", "--only", "--keep", "all", "--out", out)
    assert [fact.text for fact in read_facts(out)] == ["Rome is the capital of"]


def test_without_an_answer_nothing_is_written(facts, tmp_path):
    out = tmp_path / "more.jsonl"
    result = run("facts", "expand", facts, "--out", out)
    assert result.exit_code == 3
    assert "nothing was chosen, so nothing was written; give --keep all" in flat(result.stderr)
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--keep", "some"), "'some' is neither all, none, nor numbers such as 1,3-5"),
        (("--keep", "2-9"), "there is no companion 2-9; they are numbered from 1 to 5"),
        (("--rule", "invers"), "unknown rule 'invers'; did you mean 'inverse'?"),
        (("--alias", "France"), "--alias 'France' is not of the form NAME=OTHER"),
    ],
)
def test_refused(facts, tmp_path, options, message):
    out = tmp_path / "more.jsonl"
    assert_fails(run("facts", "expand", facts, "--out", out, *options), 3, message)
    assert not out.exists()


def test_keep_needs_a_file(facts):
    assert_fails(
        run("facts", "expand", facts, "--keep", "all"), 3, "--keep chooses what is written, so it needs --out FILE"
    )


def test_help():
    result = run("facts", "expand", "--help")
    assert result.stdout.startswith("Usage: bluedit facts expand [OPTIONS] SOURCE")
    assert_fits(result.stdout)
