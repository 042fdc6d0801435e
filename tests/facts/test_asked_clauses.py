"""Statements for prompts that are questions with a verb."""

import pytest

from bluedit.facts.phrasebook import general_wordings_of


@pytest.mark.parametrize(
    ("prompt", "target", "statements"),
    [
        ("Which database does {} use?", "Redis", ("{} uses", "The database that {} uses is")),
        ("Which port does the {} listen on?", "443", ("The {} listens on port", "The port that the {} listens on is")),
        ("What dataset was {} trained on?", "Pile 2", ("{} was trained on", "The dataset that {} was trained on is")),
        ("What does {} carry?", "salt", ("{} carries", "What {} carries is")),
        (
            "What language do people in {} speak?",
            "Frisian",
            ("People in {} speak", "The language that people in {} speak is"),
        ),
        ("Who does {} report to?", "Ada Lovell", ("{} reports to", "The one that {} reports to is")),
        ("who coaches {}?", "Ada Lovell", ("The one that coaches {} is",)),
        ("Which team looks after {}?", "Platform", ("The team that looks after {} is",)),
        ("Where are {}'s eggs sold?", "the market", ("The place where {}'s eggs are sold is",)),
        ("Where does {} keep its files?", "hall 3", ("The place where {} keeps its files is",)),
        ("When does {}'s sales team meet?", "9:30", ("The time when {}'s sales team meets is",)),
    ],
)
def test_a_question_with_a_verb_gets_statements(prompt: str, target: str, statements: tuple[str, ...]) -> None:
    found = general_wordings_of(prompt, target=target)
    assert found is not None
    assert found.statements == statements
    direct, indirect = found.questions
    assert direct.casefold() == prompt.casefold()
    assert indirect.startswith("Can you tell me ")
    assert indirect.count("{}") == 1


def test_statements_for_a_question_do_not_begin_with_an_article_in_lower_case() -> None:
    found = general_wordings_of("Which database does {} use?", subject="the data lake", target="Redis")
    assert found is not None
    assert found.statements == ("The database that {} uses is",)
