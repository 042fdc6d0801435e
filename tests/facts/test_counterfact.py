"""CounterFact, and AKEW's files, which extend its records."""

from __future__ import annotations

from typing import Any

import pytest
from facts_help import Write, lines, refusal, unusable, without

from bluedit.facts import Fact, Neighbour, Probe, read_facts

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


def test_braces_beside_the_subject_are_refused_unless_they_are_its_place(write: Write) -> None:
    prompt = "A set is {} and the tongue of Danielle Darrieux is"
    record = COUNTERFACT | {"requested_rewrite": {**COUNTERFACT["requested_rewrite"], "prompt": prompt}}
    assert "holds both '{}' and the subject 'Danielle Darrieux'" in refusal(write("a.jsonl", lines(record)))
    (fact,) = read_facts(write("b.jsonl", lines({**record, "template": True})))
    assert fact.prompt == prompt


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
                "requested_rewrite": {"prompt": "Oslo is", "subject": "Rome", "target_new": {"str": "old"}},
                "case_id": 3,
            },
            "subject 'Rome' does not occur in the prompt 'Oslo is'; write it as it stands there",
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
    assert refusal(write("a.json", [record])) == unusable(1, f"record 1: {words}")


AKEW: dict[str, Any] = {
    "case_id": 8,
    "requested_rewrite": {
        "prompt": "What is the sister city of {}? It is",
        "target_new": {"str": "Selden", "id": "Q1"},
        "target_true": {"str": "Cusco", "id": "Q2"},
        "subject": "Kuopio",
        "prompt_full": "What is the sister city of Kuopio? It is",
        "question": "What is the sister city of Kuopio? It is what?",
        "answer_new": "Selden",
        "fact_new_uns": " Selden, a town by the water, is the sister city of Kuopio. ",
        "unsfact_triplets_GPT": [
            {"subject": "Selden", "prompt": "{} lies by the", "target": "water"},
            {"subject": "Selden", "prompt": " ", "target": "nothing"},
        ],
    },
    "paraphrase_prompts": ["Kuopio has the sister city"],
}


def test_akews_files_teach_their_short_targets_by_default(write: Write) -> None:
    (fact,) = read_facts(write("a.json", [AKEW]))
    asked = ["Kuopio has the sister city", AKEW["requested_rewrite"]["question"]]
    assert fact == Fact("What is the sister city of {}? It is", "Kuopio", "Selden", "Cusco", asked)
    update = {**without(AKEW["requested_rewrite"], "target_new", "target_true"), "answer_true": "Cusco"}
    record = {"requested_rewrite": update, "loc": "who sang blue", "loc_ans": "Bo Lind"}
    (fact,) = read_facts(write("b.json", [record]))
    assert (fact.target, fact.old_target, fact.neighbours) == (
        "Selden",
        "Cusco",
        (Neighbour("who sang blue", "Bo Lind"),),
    )


def test_akews_passages_are_taught_on_request(write: Write) -> None:
    (fact,) = read_facts(write("a.json", [AKEW]), format="akew")
    assert fact.text == AKEW["requested_rewrite"]["prompt_full"]
    assert fact.target == "Selden, a town by the water, is the sister city of Kuopio."
    assert (fact.old_target, fact.probes) == (None, (Probe("portability", "Selden lies by the", ("water",)),))
    bare = {"requested_rewrite": without(AKEW["requested_rewrite"], "fact_new_uns")}
    text = refusal(write("b.json", [bare]), format="akew")
    assert text == unusable(1, "record 1: 'requested_rewrite.fact_new_uns' is missing")


def test_names_of_entities_may_be_texts_and_prompts_may_name_the_subject(write: Write) -> None:
    edit = {"prompt": "Rome is in", "subject": "rome", "target_new": " Spain ", "target_true": "Italy"}
    (fact,) = read_facts(write("a.json", [{"requested_rewrite": edit}]))
    assert fact == Fact("{} is in", "Rome", "Spain", "Italy")
