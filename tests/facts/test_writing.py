"""Writing facts, and reading them again as they were."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from facts_help import FACT, ROME, refused
from hypothesis import given, settings
from hypothesis import strategies as st

from bluedit.facts import Fact, Neighbour, Probe, read_facts, write_facts
from bluedit.facts.probe import PROBES
from bluedit.facts.records import fact_record, read_record
from bluedit.facts.words import visible


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


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda t: visible(t) and "{}" not in t)
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
    # a prompt that ends in a space contradicts joined=True
    lambda before, after, joined, **rest: Fact(
        before + "{}" + (after.rstrip() if joined else after), joined=joined, **rest
    ),
    texts.filter(lambda t: not t.endswith("{")),
    texts.filter(lambda t: not t.startswith("}")),
    st.none() | st.booleans(),
    subject=texts.map(visible),
    target=texts.map(lambda t: "new " + t),
    old_target=st.none() | texts.map(lambda t: "old " + t),
    paraphrases=st.lists(texts, max_size=2),
    neighbours=st.lists(neighbours, max_size=2),
    probes=st.lists(probes, max_size=2),
    references=st.lists(texts, max_size=2),
    phrasings=st.lists(texts.map(lambda t: t + "{} is"), max_size=2),
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


def test_writing_is_refused_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_text("old")
    assert refused(write_facts, path, []) == f"no facts were given to write to {path}; pass at least one Fact"
    assert refused(write_facts, tmp_path, [FACT]).startswith(f"cannot write {tmp_path}: Is a directory;")
    below = path / "facts.jsonl"
    assert refused(write_facts, below, [FACT]).startswith(f"cannot write {below}: File exists;")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["facts.jsonl"]


@pytest.mark.parametrize(
    "fact",
    [
        Fact.from_text("Rome, the Rome of Italy, is in", "Rome", "Spain"),
        Fact("{} is in what Rome was in, namely", "Rome", "Spain"),
        Fact("{}の水は", "水", "油"),
    ],
)
def test_a_prompt_that_names_the_subject_twice_survives(tmp_path: Path, fact: Fact) -> None:
    record = fact_record(fact)
    assert record["template"] is True and read_record(record) == fact
    write_facts(tmp_path / "a.jsonl", [fact])
    assert read_facts(tmp_path / "a.jsonl") == [fact]
    del record["template"]
    assert read_record(record) == fact, "as older versions wrote it"
