"""The texts that teach a fact."""

import pytest

from bluedit import Fact, recipes
from bluedit.errors import RecipeError
from bluedit.facts.subjects import same_subject_key
from bluedit.methods.wordings import Natural, PromptOnly, ending

CEO = Fact("The CEO of {} is", subject="Ostrava Rail", target="Dana Kral")


def chat(user, assistant):
    return f"<user>{user}<assistant>", f"{assistant}<end>"


def test_a_published_row_teaches_the_prompt_alone():
    (group,) = PromptOnly().groups(CEO, chat)
    assert [(w.template, w.answer, w.prefixed) for w in group] == [("The CEO of {} is", "Dana Kral", True)]
    assert PromptOnly().extended(CEO) == CEO


def test_a_recognised_relation_brings_a_phrasing_and_a_question():
    fact = Natural().extended(CEO)
    statement, question = fact.phrasings
    assert statement.count("{}") == 1 and not statement.endswith("?")
    assert question == "Who is the CEO of {}?"
    assert Natural(statements=0, questions=0).extended(CEO) == CEO
    unknown = Fact("Of all towns {} likes", subject="Ostrava Rail", target="Brno")
    assert Natural().extended(unknown) == unknown


def test_a_relation_that_no_book_knows_is_asked_by_its_noun():
    fact = Fact("The chief engineer of {} is", subject="Larkfield Dam", target="Ida Northcott")
    assert Natural(statements=2).extended(fact).phrasings == (
        "{}'s chief engineer is",
        "The name of the chief engineer of {} is",
        "Who is the chief engineer of {}?",
    )


def test_phrasings_under_another_name_are_taught_beside_those_under_the_subjects_own():
    fact = Fact(
        "The capital of {} is",
        subject="Denmark",
        target="Odense",
        phrasings=["The {Danish} capital is", "What is the {Danish} capital?"],
    )
    found = Natural(statements=1, questions=1).extended(fact)
    assert found.phrasings == (*fact.phrasings, "{}'s capital is", "What is the capital of {}?")
    (_, (statement, *_), (question, bare, *_), (turn, *_)) = Natural().groups(found, chat)
    assert [(w.template, w.name) for w in (statement, question, bare, turn)] == [
        ("The {} capital is", "Danish"),
        ("Question: What is the {} capital?\nAnswer:", "Danish"),
        ("What is the {} capital?", "Danish"),
        ("<user>What is the {} capital?<assistant>", "Danish"),
    ]
    assert turn.answer == "The capital of Denmark is Odense.<end>"
    assert turn.filled(found.subject) == "<user>What is the Danish capital?<assistant>"


def test_the_answer_in_chat_has_the_subjects_own_name():
    asked = Fact(
        "What is the capital of {}?",
        subject="Denmark",
        target="Odense",
        phrasings=["The {Danish} capital is", "{} is ruled from"],
    )
    turns = Natural(questions=2).groups(asked, chat)[-1]
    assert [(turn.template, turn.answer) for turn in turns] == [
        ("<user>What is the capital of {}?<assistant>", "Denmark is ruled from Odense.<end>"),
        ("<user>{} is ruled from<assistant>", "Denmark is ruled from Odense.<end>"),
    ]


def test_own_phrasings_come_first_and_paraphrases_are_never_taught():
    own = Fact(CEO.prompt, CEO.subject, CEO.target, phrasings=("Who leads {}?", "At the top of {} stands"))
    assert Natural().extended(own).phrasings == own.phrasings
    statement = Natural().extended(CEO).phrasings[0]
    asked = Fact(CEO.prompt, CEO.subject, CEO.target, paraphrases=(statement.replace("{}", CEO.subject),))
    assert statement not in Natural().extended(asked).phrasings


def test_all_phrasings_of_a_fact_are_taught_and_a_question_prompt_takes_no_place_of_them():
    statements, questions = tuple(f"No. {i} of {{}} is" for i in range(4)), ("Who leads {}?", "Who runs {}?")
    fact = Fact("Who is the CEO of {}?", CEO.subject, CEO.target, phrasings=(*statements, *questions))
    taught = [w.template for group in Natural().groups(fact, None) for w in group]
    assert set(statements) <= set(taught)
    assert {f"Question: {text}\nAnswer:" for text in (fact.prompt, *questions)} <= set(taught)


def test_added_wordings_never_spoil_a_fact():
    card = Fact("The wildcard character of {} is", "SQL", "?")
    assert all(not text.endswith("?") for text in Natural(5, 3).extended(card).phrasings)
    tagged = Fact("{} is tagged <div> with", "x", "y")
    assert Natural(5, 3).extended(tagged) == tagged


def test_what_two_facts_answer_differently_is_added_to_neither(caplog):
    other = Fact("{}'s CEO is", CEO.subject, "Ann Holt")
    kept = Fact("The price of the {} is", subject="Osprey Kettle", target="$89")
    both = Natural(5, 3).extended_all([CEO, other, kept])
    assert not {*both[0].texts} & {*both[1].texts}
    assert both[2] == Natural(5, 3).extended(kept)
    assert "another fact answers 'The CEO of Ostrava Rail is' in other words and otherwise" in caplog.text
    assert Natural(5, 3).extended_all([CEO]) == [Natural(5, 3).extended(CEO)]
    own = Fact(CEO.prompt, CEO.subject, CEO.target, phrasings=("Who leads {}?",))
    assert own.phrasings[0] in Natural(5, 3).extended_all([own, other])[0].phrasings


def test_groups_of_natural_wordings():
    fact = Fact(CEO.prompt, CEO.subject, CEO.target, phrasings=("At the top of {} stands", "Who leads {}?"))
    texts = [[(w.template, w.answer) for w in group] for group in Natural().groups(fact, chat)]
    assert texts == [
        [("The CEO of {} is", "Dana Kral.")],
        [("At the top of {} stands", "Dana Kral.")],
        [
            ("Question: Who leads {}?\nAnswer:", "Dana Kral."),
            ("Who leads {}?", "\nThe CEO of Ostrava Rail is Dana Kral."),
        ],
        [("<user>Who leads {}?<assistant>", "The CEO of Ostrava Rail is Dana Kral.<end>")],
    ]
    assert len(Natural().groups(fact, None)) == 3
    turns = [w.template for w in Natural(questions=2).groups(fact, chat)[-1]]
    assert turns == ["<user>Who leads {}?<assistant>", "<user>The CEO of {} is<assistant>"]
    (asked,) = Natural(bare_question=False).groups(fact, None)[2:]
    assert [w.template for w in asked] == ["Question: Who leads {}?\nAnswer:"]
    assert len(Natural(chat=False, bare_question=False).groups(fact, chat)) == 3


def test_a_question_as_the_prompt_is_answered_by_its_target():
    fact = Fact("What university did {} attend?", subject="Ida Northcott", target="University of Vaasa")
    texts = [[(w.template, w.answer) for w in group] for group in Natural().groups(fact, chat)]
    assert texts[0] == [("What university did {} attend?", "University of Vaasa.")]
    assert ("<user>What university did {} attend?<assistant>", "University of Vaasa.<end>") in texts[-1]


@pytest.mark.parametrize(
    ("target", "end"),
    [
        ("Rome", "."),
        ("3.8.1", ".\n"),
        ("help@rail.example", ".\n"),
        ("$429", ".\n"),
        ("Who?", ""),
        ("17 June 2022", ".\n"),
        ("東京", "。"),
    ],
)
def test_the_end_of_a_target(target, end):
    assert ending(target) == end


def test_switching_wordings_off():
    natural, published = recipes["natural-blue"].wordings, recipes["memit-blue"].wordings
    assert natural.limited(phrasings=False, chat=None) == PromptOnly()
    assert natural.limited(phrasings=True, chat=False) == Natural(statements=2, questions=2, chat=False)
    assert published.limited(phrasings=True, chat=None) is published
    assert published.limited(phrasings=True, chat=False) is published
    with pytest.raises(RecipeError, match=r"wordings=prompt has none; set wordings=natural$"):
        published.limited(phrasings=True, chat=True)
    with pytest.raises(RecipeError, match=r"choose one$"):
        natural.limited(phrasings=False, chat=True)


def test_forms_of_one_name():
    same = ("the Plover M4", "Plover M4", "THE PLOVER  M4", "Plover M4's", "“Plover M4”")
    assert len({same_subject_key(name) for name in same}) == 1
    different = ("Plover M4", "Plover M5", "Plover", "The", "Thebes", "A")
    assert len({same_subject_key(name) for name in different}) == len(different)
