"""Texts that may bring the old answer back, and the choice between new, old and not sure."""

import pytest
from evaluate_help import CannedModel, answer

from bluedit.errors import FactError
from bluedit.evaluate._firm import LURES, UNSURE, choices, lures
from bluedit.evaluate.suites import SUITES
from bluedit.facts import Fact

FACT = Fact("The capital of {} is", "France", "Rome", "Paris")
QUESTION = Fact("Which city is the capital of {}?", "France", "Rome", "Paris")


def test_lures_end_with_the_prompt():
    texts = lures(FACT)
    assert len(texts) == len(set(texts)) == len(LURES)
    assert all(text.endswith(FACT.text) and "Rome" not in text for text in texts)
    assert sum("Paris" in text for text in texts) == 3


def test_what_a_lure_brings_back():
    """Two continuations say the old answer, one the new one; where the old answer stands nearby, it is the more probable one."""
    texts = iter([" Paris", " Paris, of course", " Rome.", " Parisian"])
    model = CannedModel(
        lambda prompt, target: answer(-2.0 if (target == "Rome") == ("Paris" in prompt) else -1.0),
        lambda _: next(texts),
    )
    found = SUITES["lures"].measure(model, [FACT])
    assert found == {"lured_new": [0.25], "lured_old": [0.5], "lured_efficacy": [0.25]}


def test_a_choice_in_every_order():
    asked = choices(FACT)
    assert len(asked) == len({text for text, _ in asked}) == len({order for _, order in asked}) == 6
    for text, order in asked:
        lines = text.split("\n")
        assert lines[0] == "How does this go on? The capital of France is ___"
        names = {"choice_new": "Rome", "choice_old": "Paris", "choice_unsure": UNSURE}
        assert lines[1:4] == [f"{letter}. {names[name]}" for letter, name in zip("ABC", order, strict=True)]
    assert choices(QUESTION)[0][0].startswith("How does this go on? Which city is the capital of France? ___\n")


def test_a_liking_for_a_letter_cancels():
    found = SUITES["choice"].measure(CannedModel(lambda _, letter: answer(-1.0 if letter == "B" else -2.0)), [FACT] * 2)
    third = [pytest.approx(1 / 3)] * 2
    assert found == {"choice_new": third, "choice_old": third, "choice_unsure": third}


def test_a_model_that_knows_what_it_picks():
    def score(text, letter):
        return answer(-1.0 if f"{letter}. Paris" in text else -2.0)

    found = SUITES["choice"].measure(CannedModel(score), [FACT])
    assert found == {"choice_new": [0], "choice_old": [1], "choice_unsure": [0]}


@pytest.mark.parametrize("name", ["lures", "choice"])
def test_without_an_old_answer_it_says_so(name):
    with pytest.raises(
        FactError, match=f"'{name}' offers the old answer, and 1 of 2 facts have no old_target, e.g. 'The"
    ):
        SUITES[name].check([FACT, Fact("The capital of {} is", "Spain", "Oslo")])
