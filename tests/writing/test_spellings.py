"""A name that the tokenizer makes other tokens of at a text's beginning has other keys there: a column and a target of its own."""

from dataclasses import replace

import pytest
import torch

from bluedit import Fact, explain_edit
from bluedit.methods.recipe import Recipe
from bluedit.methods.subjects import Unit
from bluedit.methods.wordings import Natural
from bluedit.writing.keys import KeyPlace, batch_rows
from toys import FACTS, toy_tokenizer

MAYOR = Fact("The mayor of {} is", subject="Paris", target="Rome", phrasings=("{}'s mayor is", 'Of "{}" the mayor is'))
RIVER = Fact("{}'s river is", subject="Paris", target="London")  # begins with the subject
TOKENIZER = toy_tokenizer()
WITHIN, START = (tuple(TOKENIZER.convert_tokens_to_ids(tokens)) for tokens in (["ĠParis"], ["Par", "is"]))


def laid(*facts, spellings=True, prefixes=("You said this.",)):
    recipe = Recipe("plain", wordings=Natural(chat=False), subjects=Unit(spellings=spellings))
    return batch_rows(TOKENIZER, facts, prefixes, recipe)


def words(rows, column):
    return {row.word for row in rows.rows if row.fact == column and not row.is_drift}


def test_every_spelling_of_the_subject_has_a_column():
    rows = laid(FACTS[0], MAYOR)
    spelled = [place.word for place in rows.places]
    assert rows.owners[:2] == ((0,), (1,)) and set(rows.owners[2:]) == {(1,)}
    assert spelled[1] == WITHIN and START in spelled[2:]
    assert [words(rows, column) for column in range(rows.n)] == [{word} for word in spelled]
    assert sorted(row.fact for row in rows.rows if row.is_drift) == list(range(rows.n))
    assert not rows.after_subject


def test_facts_about_one_subject_share_them():
    rows = laid(RIVER, MAYOR)
    assert rows.places[0] == KeyPlace(after=False, word=START)  # the first fact's prompt
    within = rows.places.index(KeyPlace(after=False, word=WITHIN))
    assert rows.owners[0] == rows.owners[within] == (0, 1)  # RIVER after a sentence


def test_the_words_before_the_last_one_do_not_matter():
    river = Fact("{}'s river is", subject="the old Paris", target="Rome", phrasings=("The river of {} is",))
    assert [place.word for place in laid(river).places] == [WITHIN]


def test_a_last_token_that_is_the_same_after_other_tokens_is_another_word():
    first, second = (TOKENIZER(text)["input_ids"] for text in ("France", "a France"))
    assert first[-1] == second[-1] and first != second[-len(first) :]
    land = Fact("{} is", subject="France", target="Rome", phrasings=("A land called {} is",))
    assert laid(land).n == 2


@pytest.mark.parametrize("spellings", [True, False])
def test_another_name_has_a_column_of_its_own(spellings):
    named = replace(FACTS[0], subject="Paris", phrasings=("The mayor of {Rome} is",))
    rows = laid(named, spellings=spellings)
    rome = tuple(TOKENIZER(" Rome")["input_ids"])
    column = rows.places.index(KeyPlace(after=False, word=rome))
    assert rows.owners[column] == (0,) and words(rows, column) == {rome}
    assert {row.name for row in rows.rows if row.fact == column and not row.is_drift} == {"Rome"}
    drift = [row for row in rows.rows if row.is_drift and row.fact == column]
    assert [TOKENIZER.decode(row.ids).strip() for row in drift] == ["Rome"]
    assert rome not in words(rows, 0)


def test_an_answer_that_has_either_name_is_a_later_mention():
    named = Fact(
        "The mayor of {} is", subject="Paris", target="Oslo", phrasings=("The mayor of {Rome} is", "Who rules {Rome}?")
    )
    rows = [row for row in laid(named).rows if row.again]
    assert rows and {row.name for row in rows} == {"Rome"}
    assert all(TOKENIZER.decode(row.ids[repeat.at]).strip() == "Paris" for row in rows for repeat in row.again)


def test_without_the_option_a_subject_has_one_key():
    rows = laid(FACTS[0], MAYOR, RIVER, spellings=False)
    assert rows.owners == ((0,), (1, 2))
    assert rows.places == (KeyPlace(after=False),) * 2
    assert {WITHIN, START} <= words(rows, 1)


def test_published_recipes_average_all_keys_of_a_subject():
    assert batch_rows(TOKENIZER, [MAYOR, replace(MAYOR, subject="France")], ("You said this.",), Recipe("plain")).n == 2


@pytest.fixture(scope="module")
def shares(tmp_path_factory):
    """With and without the option, what a text that begins with the subject receives of its target's residual at the first layer."""
    from editing_help import make_editor

    found = {}
    for on in (True, False):
        editor = make_editor(statistics=tmp_path_factory.mktemp("statistics"))
        editor.edit(
            [MAYOR],
            "natural-joint",
            settings={"layers": [1, 2], "subjects.spellings": on, "objective.steps": 4, "preserve.lambda": 1.0},
            chat=False,
            known="edit",
            report=False,
        )
        asked = {one.text: one for one in explain_edit(editor, 1).asked}
        found[on] = asked["Paris's mayor is"]
    return found


def test_what_is_written_is_what_was_optimised(tmp_path):
    """An evaluation starts from some texts of a column; what is missing is measured on all of them, so its target has to be, too."""
    from editing_help import make_editor

    found, first = {}, []

    def on_write(write):
        if write.step.layer == 1:
            target = found[write.step.target]
            first.append((write.missing, target.z - target.start))

    editor = make_editor(statistics=tmp_path)
    editor.trace.on_target = lambda site, target: found.update({site.layer: target})
    editor.trace.on_write = on_write
    how = {"layers": [1, 2], "objective.steps": 4, "objective.clamp": 9.0, "preserve.lambda": 1.0, "reteach": 0}
    river = replace(RIVER, phrasings=("The river of {} is", "The name of the river of {} is"))
    editor.edit([river], "natural-joint", settings=how, chat=False, known="edit", report=False)
    ((missing, delta), *_) = first
    assert missing.shape[1] > 1, "a column for each spelling"
    assert torch.allclose(missing, delta, atol=1e-4)


def test_every_column_of_a_subject_has_the_steps_of_its_facts(tmp_path):
    from editing_help import make_editor

    steps = []
    editor = make_editor(statistics=tmp_path)
    editor.trace.on_target = lambda _site, target: steps.append(target.steps.tolist())
    mayor = Fact("{}'s mayor is", "Paris", "Rome", phrasings=("The mayor of {} is",))
    how = {"layers": [1, 2], "objective.steps": 4, "objective.steps_growth": 1.0, "objective.stop_loss": 0.0}
    editor.edit([RIVER, mayor], "natural-joint", settings=how | {"reteach": 0}, chat=False, known="edit", report=False)
    assert set(steps[0]) == {7}, "two facts, of which one column has no prompt"


def test_a_text_that_begins_with_the_subject_receives_its_own_residual(shares):
    assert shares[True].position == "subject, other tokens"
    assert shares[False].position == "subject"
    assert shares[True].delivered[1] > shares[False].delivered[1] + 0.1


def test_statements_that_begin_with_the_subject_are_taught_after_one_sentence_too():
    rows = laid(MAYOR, prefixes=("You said this.", "It rained."))
    texts = {TOKENIZER.decode(row.ids[: row.target_start]): row for row in rows.rows if row.group == 1}
    assert texts["Paris's mayor is"].word == START
    after = texts["You said this. Paris's mayor is"]
    assert after.word == WITHIN and after.kind == "taught"
    assert "It rained. Paris's mayor is" not in texts
    assert 'You said this. Of "Paris" the mayor is' not in texts
