"""`bluedit facts`, `recipes` and `metrics`."""

from __future__ import annotations

import json

from cli_help import assert_fails, assert_fits, flat, run

from bluedit import read_facts, world_facts
from bluedit.cli.reference import markdown, metric_markdown, option_rows, part_rows
from bluedit.evaluate.metrics import METRICS, OF_A_MODEL
from bluedit.methods.presets import DEFAULT, PRESETS


def test_facts_are_shown(tmp_path):
    record = {"prompt": "{} is in", "subject": "Rome", "target": "France", "old_target": "Italy"}
    (tmp_path / "facts.jsonl").write_text(json.dumps(record) + "\n")
    result = run("facts", tmp_path / "facts.jsonl")
    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines() if "─" not in line] == [
        ["1", "fact"],
        ["prompt", "new", "answer", "old", "answer"],
        ["Rome", "is", "in", "France", "Italy"],
    ]


def test_facts_with_details():
    result = run("facts", "world:3", "--details")
    assert result.exit_code == 0
    facts = world_facts(3, seed=0)
    for fact in facts:
        assert_fits(result.stdout, fact.text, fact.subject, fact.target, fact.old_target, *fact.paraphrases)
        assert all(flat(f"{n.prompt} => {n.answer}") in flat(result.stdout) for n in fact.neighbours)


def test_facts_are_converted(tmp_path):
    result = run("facts", "world:7", "--out", tmp_path / "world.jsonl")
    assert result.exit_code == 0
    assert result.stdout == f"7 facts written to {tmp_path / 'world.jsonl'}\n"
    assert len(read_facts(tmp_path / "world.jsonl")) == 7
    for options, expected in ((("--limit", 3), slice(3)), (("--skip", 2, "--limit", 3), slice(2, 5))):
        run("facts", "world:7", "--out", tmp_path / "part.jsonl", *options)
        found = [fact.text for fact in read_facts(tmp_path / "part.jsonl")]
        assert found == [fact.text for fact in read_facts(tmp_path / "world.jsonl")][expected]
    last = run("facts", "world:5", "--skip", 900, "--out", tmp_path / "last.jsonl")
    assert last.exit_code == 0 and len((tmp_path / "last.jsonl").read_text().splitlines()) == 2
    assert_fails(run("facts", "world:7", "--skip", -1), 3, "skip=-1 is negative")
    assert_fails(run("facts", "world:many"), 3, "'world:many' does not end in a number; write for example world:20")
    assert_fails(run("facts", "world:²"), 3, "'world:²' does not end in a number; write for example world:20")


def test_conflicts_are_told_and_converted_all_the_same(tmp_path, caplog):
    record = {"prompt": "{} is in", "subject": "Rome", "target": "France"}
    lines = [json.dumps(record), json.dumps(record | {"target": "Spain"})]
    (tmp_path / "facts.jsonl").write_text("\n".join(lines))
    result = run("facts", tmp_path / "facts.jsonl", "--out", tmp_path / "out.jsonl")
    assert result.exit_code == 0
    assert "facts 1 and 2 contradict each other" in caplog.text
    assert len(read_facts(tmp_path / "out.jsonl")) == 2


def test_bad_records_can_be_skipped(mess):
    result = run("facts", mess / "easyedit.json")
    assert_fails(result, 3, f"{mess / 'easyedit.json'}: 1 of 1 records cannot be used")
    assert "subject 'Darrieux' does not occur in the prompt 'The mother tongue of Danielle is'" in flat(result.stderr)
    (mess / "two.csv").write_text("prompt,subject,target\nThe capital of {} is,France,Rome\nIt,France,Rome\n")
    result = run("facts", mess / "two.csv", "--bad-records", "skip")
    assert result.exit_code == 0
    assert result.stdout.startswith("1 fact\n")
    assert_fails(
        run("facts", mess / "two.csv", "--bad-records", "skipp"),
        3,
        "unknown choice 'skipp' for bad records; did you mean 'skip'?",
    )


def test_recipes():
    result = run("recipes")
    assert result.exit_code == 0
    assert_fits(result.stdout, "name with BLUE method", *PRESETS)
    assert f"Default: {DEFAULT}." in result.stdout
    details = run("recipes", "--details")
    assert_fits(details.stdout, *PRESETS, *(recipe.paper for recipe in PRESETS.values()))
    assert all(flat(recipe.use) in flat(details.stdout) for recipe in PRESETS.values())


def test_parts_and_options():
    parts, options = run("recipes", "--parts"), run("recipes", "--options")
    assert parts.exit_code == options.exit_code == 0
    assert_fits(parts.stdout, "part what it does", *(row[0] for row in part_rows()))
    assert_fits(options.stdout, "option default meaning", *(row[0] for row in option_rows()))
    assert_fits(options.stdout, *(row[2] for row in option_rows()))
    assert run("recipes", "--parts", "--options").stdout == f"{parts.stdout}\n{options.stdout}"


def test_metrics():
    every = METRICS | OF_A_MODEL
    result = run("metrics")
    assert result.exit_code == 0
    assert_fits(result.stdout, "metric meaning", *every, *(metric.definition for metric in every.values()))
    details = run("metrics", "--details")
    assert_fits(details.stdout, *every, *(metric.source for metric in every.values()))


def test_markdown():
    assert run("recipes", "--markdown").stdout == markdown()
    assert run("metrics", "--markdown").stdout == metric_markdown()
