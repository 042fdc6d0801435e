"""An edit says which of its facts were taught in made-up wordings, or on their prompt alone."""

import pytest
from editing_help import edit, make_editor

from bluedit import Fact

ALONE = Fact("In {} people drive on the", subject="France", target="The")
MADE = Fact("The library of {} is owned by", subject="France", target="The")
KNOWN = Fact("The capital of {} is", subject="France", target="The")


def notes(statistics, facts, recipe="natural-blue", **settings):
    made = edit(
        make_editor(statistics=statistics), facts, recipe, settings={"objective.steps": 2, "reteach": 0} | settings
    )
    return made.notes


def test_questions_made_from_the_prompt_are_named(statistics):
    found = notes(statistics, [MADE])
    assert len(found) == 1
    assert "1 fact was taught in questions made from the prompt" in found[0]
    assert "'What is the library of France owned by?'" in found[0]
    assert "--phrasing" in found[0]


def test_prompts_alone_are_named(statistics):
    found = notes(statistics, [ALONE, MADE])
    assert [note.partition(",")[0] for note in found] == [
        "1 fact was taught in questions made from the prompt",
        "1 fact was taught on its prompt alone",
    ]


def test_known_relations_and_questions_of_ones_own_need_no_note(statistics):
    own = Fact(MADE.prompt, subject="France", target="The", phrasings=["Whose is the library of {}?"])
    assert notes(statistics, [KNOWN]) == []
    assert notes(statistics, [own], **{"wordings.questions": 1}) == []


@pytest.mark.parametrize("fact", [ALONE, MADE])
def test_recipes_that_teach_the_prompt_alone_say_nothing(fact, statistics):
    assert notes(statistics, [fact], "memit-seq-blue") == []
