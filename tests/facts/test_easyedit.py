"""EasyEdit's flat records, KnowEdit's files (WikiBio included) and CKnowEdit's."""

from __future__ import annotations

from typing import Any

import pytest
from facts_help import Write, lines, refusal, unusable

from bluedit.facts import Fact, Neighbour, Probe, read_facts

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
KNOWEDIT: dict[str, Any] = {
    "subject": "France",
    "prompt": "The capital of France is",
    "target_new": "Rome",
    "ground_truth": ["Paris"],
    "rephrase": "France has the capital",
    "portability": {
        "Logical_Generalization": [{"prompt": "Is Paris its capital?", "ground_truth": [["no"], ["it is not", "no"]]}],
        "Reasoning": [{"prompt": "The river through it is the", "ground_truth": "Tiber"}],
        "Subject_Aliasing": [{"prompt": "The capital of Gaul is", "ground_truth": ["Rome", "Roma"]}],
    },
    "locality": {
        "Relation_Specificity": [
            {"prompt": "The currency of France is", "ground_truth": [["euro"]]},
            {"prompt": "Its anthem is", "ground_truth": [[""]]},
        ]
    },
}


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
    assert refusal(write("a.jsonl", lines(EASYEDIT, *bad))) == unusable(
        4,
        f"line 2: subject 'Paris' does not occur in the prompt {EASYEDIT['prompt']!r}; write it as it stands there",
        "line 3: fact '4': target and old_target are both 'Beirut': there is nothing to change",
        "line 4: 'target_new' must be text, not a list",
    )


def test_knowedit_keeps_its_tests(write: Write) -> None:
    probes = [
        Probe("portability", "Is Paris its capital?", ("no", "it is not")),
        Probe("alias", "The capital of Gaul is", ("Rome", "Roma")),
        Probe("portability", "The river through it is the", ("Tiber",)),
        Probe("subject", "The currency of France is", ("euro",)),
    ]
    (fact,) = read_facts(write("a.json", [KNOWEDIT]))
    assert fact.old_target == "Paris" and fact.paraphrases == ("France has the capital",)
    assert sorted(map(str, fact.probes)) == sorted(map(str, probes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"portability": [3]}, "'portability' must be an object, not a list"),
        ({"ground_truth": [[3]]}, "'ground_truth' must be text or lists of texts, not a number"),
        (
            {"locality": {"Forgetfullness": []}},
            "unknown key 'locality.Forgetfullness' (did you mean 'Forgetfulness'?)",
        ),
    ],
)
def test_knowedit_refuses(write: Write, changes: dict[str, Any], words: str) -> None:
    assert words in refusal(write("a.json", [KNOWEDIT, {**KNOWEDIT, **changes}]))


@pytest.mark.parametrize(
    ("changes", "old"),
    [
        ({"target_old": "air"}, "air"),
        ({"target_old": None}, None),
        ({"ground_truth": ["steam"], "target_old": "air"}, "steam"),
    ],
)
def test_cknowedits_names_of_keys(write: Write, changes: dict[str, Any], old: str | None) -> None:
    record = {
        "prompt": "What does a dormant volcano hold?",
        "subject": "Dormant volcano",
        "target_new": "water",
        "rephrase": ["What is in a dormant volcano?"],
        "portability": [{"prompt": "What may flood a crater?", "answer": "water"}, {"prompt": "And?", "answer": " "}],
        "locality": [{"prompt": "What does a well hold?", "answer": "oil"}],
        **changes,
    }
    (fact,) = read_facts(write("a.jsonl", lines(record)))
    assert (fact.prompt, fact.subject) == ("What does a {} hold?", "dormant volcano")
    assert (fact.old_target, fact.paraphrases) == (old, ("What is in a dormant volcano?",))
    assert fact.probes == (Probe("portability", "What may flood a crater?", ("water",)),)
    assert fact.neighbours == (Neighbour("What does a well hold?", "oil"),)


WIKIBIO: dict[str, Any] = {
    "text": "This is a passage about anna vell, baron of selden. Anna Vell was born in Cusco. ",
    "labels": "She was a cellist of some renown.",
    "concept": "Anna Vell, Baron of Selden",
    "locality": {"Relation_Specificity": [{"prompt": "The father of Anna Vell is", "ground_truth": ["Bo Vell"]}]},
}


@pytest.mark.parametrize("format", [None, "wikibio"])
def test_wikibio_goes_on_with_another_sentence(
    write: Write, format: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    (fact,) = read_facts(write("a.json", [WIKIBIO]), format=format)
    assert fact.prompt == "This is a passage about {}. Anna Vell was born in Cusco."
    assert (fact.subject, fact.target) == ("anna vell, baron of selden", WIKIBIO["labels"])
    assert fact.probes == (Probe("subject", "The father of Anna Vell is", ("Bo Vell",)),)
    assert "in other upper and lower case" in caplog.text and "ends in a space" not in caplog.text


def test_a_test_with_several_prompts_is_several_probes(write: Write) -> None:
    test = {"prompt": ["Who is her father?", "Her father is"], "ground_truth": [["Bo Vell"]]}
    (fact,) = read_facts(write("a.json", [{**WIKIBIO, "locality": {"Forgetfulness": [test]}}]))
    assert [p.prompt for p in fact.probes] == test["prompt"]
    bare = {**WIKIBIO, "locality": {"Forgetfulness": [{"ground_truth": "x"}]}}
    text = refusal(write("b.json", [bare]))
    assert text == unusable(1, "record 1: 'locality.Forgetfulness[0].prompt' is missing")


@pytest.mark.parametrize(
    ("changes", "paraphrases"),
    [
        ({"rephrase_prompt": "", "rephrase": "Lyon is twinned with"}, ("Lyon is twinned with",)),
        ({"rephrase_prompt": " "}, ()),
        ({"rephrase_prompt": ["Lyon's twin is", ""]}, ("Lyon's twin is",)),
    ],
)
def test_blank_rewordings_are_left_out(write: Write, changes: dict[str, Any], paraphrases: tuple[str, ...]) -> None:
    (fact,) = read_facts(write("a.jsonl", lines({**EASYEDIT, **changes})))
    assert fact.paraphrases == paraphrases
