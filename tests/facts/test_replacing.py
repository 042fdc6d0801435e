"""Which facts take the place of others."""

from dataclasses import replace

from bluedit import Fact
from bluedit.facts.replacing import replaced_by

ANN = Fact("The CEO of {} is", "Acme", "Ann", phrasings=("{}'s CEO is", "Who is the CEO of {}?"))
TOWN = Fact("The headquarters of {} is in", "Acme", "Ghent", phrasings=("{} is based in",))


def test_the_same_prompt_is_the_same_fact_whatever_the_spelling_of_its_subject():
    again = Fact("the CEO of  {} is", "the ACME", "Bob")
    assert replaced_by([ANN, TOWN, again]) == [2, None, None]
    assert replaced_by([ANN, replace(ANN, subject="Apex")]) == [None, None]
    assert replaced_by([ANN, again, replace(again, target="Eve")]) == [2, 2, None], "the latest one"


def test_a_correction_in_other_words():
    other_words = Fact("{}'s CEO is", "Acme", "Bob")
    assert replaced_by([ANN, TOWN, other_words]) == [2, None, None]
    shared = Fact("At the top of {} stands", "Acme", "Bob", phrasings=("Who is the CEO of {}?",))
    assert replaced_by([ANN, shared]) == [1, None]
    assert replaced_by([other_words, ANN]) == [1, None], "the earlier prompt is among the later one's wordings"


def test_the_same_answer_in_other_words_stands_beside_it():
    assert replaced_by([ANN, Fact("{}'s CEO is", "Acme", "Ann")]) == [None, None]
    assert replaced_by([]) == []
