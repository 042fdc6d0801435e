"""Wordings of relations that the phrase book does not know: built around the noun of the prompt, or none."""

import pytest

from bluedit.facts.phrasebook import general_wordings_of, wordings_of


@pytest.mark.parametrize(
    ("prompt", "target", "statement", "question"),
    [
        ("The chief engineer of {} is", "Ada Lovell", "{}'s chief engineer is", "Who is the chief engineer of {}?"),
        (
            "The chief engineer of the {} is",
            "Ada Lovell",
            "The {}'s chief engineer is",
            "Who is the chief engineer of the {}?",
        ),
        ("The chief engineer at {} is", "Ada Lovell", "{}'s chief engineer is", "Who is the chief engineer at {}?"),
        ("{}'s former CEO was", "Jan Ek", "The former CEO of {} was", "Who was the former CEO of {}?"),
        ("Who is {}'s head of AI?", "Eva", "The head of AI of {} is", "Who is the head of AI of {}?"),
        ("The Wi-Fi password of {} is", "tulip-99", "{}'s Wi-Fi password is", "What is the Wi-Fi password of {}?"),
        ("The office dogs of {} are", "Rex and Bo", "{}'s office dogs are", "What are the office dogs of {}?"),
        ("The summer party of {} is in", "Lille", "{}'s summer party is in", "Where is the summer party of {}?"),
        ("The summer party of {} is on", "3 June 2027", "{}'s summer party is on", "When is the summer party of {}?"),
        (
            "The tallest building in {} is the",
            "Messeturm",
            "{}'s tallest building is the",
            "What is the tallest building in {}?",
        ),
        ("The sensor of {} is", "IMX 800", "{}'s sensor is", "What is the sensor of {}?"),
        ("the new mascot  of {} is", "a fox", "{}'s new mascot is", "What is the new mascot of {}?"),
        ("The referee of {} was", "Jo", "The name of the referee of {} was", "Who was the referee of {}?"),
        ("The referee of {} was", "a robot", "For {}, the referee was", "What was the referee of {}?"),
        ("The warden of {} is", "Petra", "{}'s warden is", "Who is the warden of {}?"),
        ("The secretary of {} is", "Ada Lovell", "{}'s secretary is", "Who is the secretary of {}?"),
        ("Our contact at {} is", "Lena Wirth", "{}'s contact is", "Who is the contact at {}?"),
        ("{} has a hull length of", "9 m", "{}'s hull length is", "What is the hull length of {}?"),
        ("Checkout at {} is at", "noon", "{}'s checkout is at", "When is the checkout at {}?"),
        ("The office of {} is at", "the Midnight Club", "{}'s office is at", "Where is the office of {}?"),
        ("Our account executive at {} is", "Jo Bo", "{}'s account executive is", "Who is the account executive at {}?"),
        ("In {}, the voting age is", "16", "{}'s voting age is", "What is the voting age in {}?"),
        ("The half-life of {} is about", "six hours", "{}'s half-life is", "What is the half-life of {}?"),
        ("{} airport's code is", "BKQ", "The code of {} airport is", "What is the code of {} airport?"),
        ("What is {}'s top speed?", "90 km/h", "The top speed of {} is", "What is the top speed of {}?"),
    ],
)
def test_the_noun_is_asked_for(prompt: str, target: str, statement: str, question: str) -> None:
    found = general_wordings_of(prompt, target=target)
    assert found is not None
    assert statement in found.statements
    assert found.questions[0] == question
    assert all(text.count("{}") == 1 for text in (*found.statements, *found.questions))


@pytest.mark.parametrize(
    ("prompt", "target", "statement", "question"),
    [
        ("{} is insured by", "Allianz", "It is known that {} is insured by", "What is {} insured by?"),
        ("{} is insured by", "Ada Lovell", "It is known that {} is insured by", "Who is {} insured by?"),
        ("The {} ships from", "Rotterdam", "It is known that the {} ships from", "Where does the {} ship from?"),
        ("{} opens at", "9:30", "It is known that {} opens at", "When does {} open?"),
        ("{} sells", "boots", "It is known that {} sells", "What does {} sell?"),
        (
            "{} carries passengers to",
            "Malta",
            "It is known that {} carries passengers to",
            "Where does {} carry passengers to?",
        ),
        ("{} reaches", "90 km/h", "It is known that {} reaches", "What does {} reach?"),
        ("{} passes", "the mill", "It is known that {} passes", "What does {} pass?"),
        ("{} was painted in", "1921", "It is known that {} was painted in", "When was {} painted?"),
        ("{} was painted in", "Ghent", "It is known that {} was painted in", "Where was {} painted?"),
        ("{} is certified by the", "TUV", "It is known that {} is certified by the", "What is {} certified by?"),
        ("{} are trained for", "the sea", "It is known that {} are trained for", "What are {} trained for?"),
        (
            "Visiting hours on {} end at",
            "8 pm",
            "It is known that visiting hours on {} end at",
            "When do visiting hours on {} end?",
        ),
        (
            "The fraud team of {} is led by",
            "Amina Sow",
            "It is known that the fraud team of {} is led by",
            "Who is the fraud team of {} led by?",
        ),
        ("The CEO of {} lives in", "Oslo", "It is known that the CEO of {} lives in", "Where does the CEO of {} live?"),
        (
            "{}'s sales team meets on",
            "Monday",
            "It is known that {}'s sales team meets on",
            "When does {}'s sales team meet?",
        ),
        (
            "{}'s support hours end at",
            "6 pm",
            "It is known that {}'s support hours end at",
            "When do {}'s support hours end?",
        ),
        ("Members of {} pay", "12 euros", "It is known that members of {} pay", "How much do members of {} pay?"),
        (
            "{} must be oiled every",
            "six weeks",
            "It is known that {} must be oiled every",
            "How often must {} be oiled?",
        ),
        ("{} runs for", "nine hours", "It is known that {} runs for", "How long does {} run?"),
        (
            "Parcels from {} arrive within",
            "three days",
            "It is known that parcels from {} arrive within",
            "How soon do parcels from {} arrive?",
        ),
        ("{} is open until", "10 pm", "It is known that {} is open until", "Until when is {} open?"),
        ("{} supports up to", "40 users", "It is known that {} supports up to", "How many users does {} support?"),
        ("{} must have", "12 gears", "It is known that {} must have", "How many gears must {} have?"),
        (
            "The school bus for {} is line",
            "42",
            "It is known that the school bus for {} is line",
            "Which line is the school bus for {}?",
        ),
        ("{} listens on port", "4917", "It is known that {} listens on port", "On which port does {} listen?"),
        ("{} is available in", "four colours", "It is known that {} is available in", "What is {} available in?"),
        ("{} reports to", "Petra Holm", "It is known that {} reports to", "Who does {} report to?"),
        ("{} wears shirt number", "31", "It is known that {} wears shirt number", "Which shirt number does {} wear?"),
        ("{} talks about", "bees", "It is known that {} talks about", "What does {} talk about?"),
        ("{} wears the number", "31", "It is known that {} wears the number", "Which number does {} wear?"),
        (
            "Talks at {} are free on",
            "the first Sunday",
            "It is known that talks at {} are free on",
            "When are talks at {} free?",
        ),
        (
            "The show at {} will be about",
            "lacquer",
            "It is known that the show at {} will be about",
            "What will the show at {} be about?",
        ),
        ("{} costs about", "$30", "It is known that {} costs about", "How much does {} cost?"),
        (
            "On Sundays, {} closes at",
            "noon",
            "It is known that on Sundays, {} closes at",
            "When does {} close on Sundays?",
        ),
        (
            "In {}, glass is collected every",
            "Friday",
            "It is known that in {}, glass is collected every",
            "How often is glass in {} collected?",
        ),
        (
            "Before that, {} worked as",
            "a diver",
            "It is known that before that, {} worked as",
            "Can you tell me what {} worked as before that?",
        ),
        (
            "The river that runs through {} is",
            "the Ambrel",
            "It is known that the river that runs through {} is",
            "What is the river that runs through {}?",
        ),
        (
            "The vet who looks after {} is",
            "Cosima Rad",
            "It is known that the vet who looks after {} is",
            "Who is the vet who looks after {}?",
        ),
        (
            "The version of {} we use is",
            "15.6",
            "It is known that the version of {} we use is",
            "What is the version of {} we use?",
        ),
        (
            "The region hosting {} is",
            "eu-north-1",
            "It is known that the region hosting {} is",
            "What is the region hosting {}?",
        ),
        (
            "{} changed its name to",
            "Orbis",
            "It is known that {} changed its name to",
            "Can you tell me what {} changed its name to?",
        ),
        ("{} sold", "boots", "It is known that {} sold", "Can you tell me what {} sold?"),
        ("Tickets for {} cost", "$20", "It is known that tickets for {} cost", "How much do tickets for {} cost?"),
        (
            "The maximum dose of {} per day is",
            "40 mg",
            "It is known that the maximum dose of {} per day is",
            "What is the maximum dose of {} per day?",
        ),
        (
            "The person to call about {} is",
            "Lena Wirth",
            "It is known that the person to call about {} is",
            "Who is the person to call about {}?",
        ),
        ("{} is closed on", "Tuesday", "It is known that {} is closed on", "When is {} closed?"),
        (
            "The drug {} is used to treat",
            "gout",
            "It is known that the drug {} is used to treat",
            "What is the drug {} used to treat?",
        ),
        (
            "The course {} is taught by",
            "Ada Lovell",
            "It is known that the course {} is taught by",
            "Who is the course {} taught by?",
        ),
        ("Error code {} means", "disk full", "It is known that error code {} means", "What does error code {} mean?"),
        (
            "{} cheese is made from",
            "goat milk",
            "It is known that {} cheese is made from",
            "What is {} cheese made from?",
        ),
        (
            "{} apples are picked in",
            "late August",
            "It is known that {} apples are picked in",
            "When are {} apples picked?",
        ),
        ("{} bread costs", "4 euros", "It is known that {} bread costs", "How much does {} bread cost?"),
        (
            "{} staff are paid every",
            "Friday",
            "It is known that {} staff are paid every",
            "How often are {} staff paid?",
        ),
        (
            "The load on {} must not exceed",
            "2 t",
            "It is known that the load on {} must not exceed",
            "What must the load on {} not exceed?",
        ),
        ("{} has a total of", "84 beds", "It is known that {} has a total of", "How many beds does {} have?"),
        (
            "{} can be played by up to",
            "seven players",
            "It is known that {} can be played by up to",
            "By how many players can {} be played?",
        ),
        ("{} is worth", "six credits", "It is known that {} is worth", "How many credits is {} worth?"),
        ("{} is famous for its", "clocks", "It is known that {} is famous for its", "What is {} famous for?"),
        ("{} runs on", "Godot", "It is known that {} runs on", "What does {} run on?"),
        (
            "{} must be stored at",
            "minus 25 degrees",
            "It is known that {} must be stored at",
            "At what temperature must {} be stored?",
        ),
        ("{} boils at", "minus 9 C", "It is known that {} boils at", "What does {} boil at?"),
        (
            "On the exchange, {} trades under the ticker",
            "GWNB",
            "It is known that on the exchange, {} trades under the ticker",
            "Which ticker does {} trade under on the exchange?",
        ),
    ],
)
def test_the_verb_is_asked_for(prompt: str, target: str, statement: str, question: str) -> None:
    found = general_wordings_of(prompt, target=target)
    assert found is not None
    assert found.statements[0] == prompt
    assert statement in found.statements
    assert found.questions[0] == question
    assert all(text.count("{}") == 1 for text in (*found.statements, *found.questions))


@pytest.mark.parametrize(
    "prompt",
    [
        "The CEO of {} lives fluent",
        "In {} people drive on the",
        "You can reach {} at",
        "{} based in",
        "{} directed by",
        "Whoever visits {} must bring",
        "{} always",
        "{} has",
        "{} is in",
        "{} sells what it",
        "{} is",
        "Who is {}?",
        "The thing of {} is",
        "We think {} is",
        "The team is sure {} is",
        "The company {} is",
        "The profession of {} is to be a",
        "A game of {} is won by the first player to reach",
        "This made {} famous for",
        "{} now ships from",
        "The novel of {} is about",
        "What did {} invent?",
        "What makes {} special?",
        "What is {}?",
        "What happens if {} fails?",
        "How do I reach {}?",
        "Who, then, runs {}?",
        "If it rains, {} opens at",
        "What they want of {} is",
        "The capital of {} and {} is",
        "In the year in which {} was founded, the capital of France was",
        "The first of of {} is",
        "The very long and winding road that nobody ever sees of {} is",
        "The capital of {} is $",
        "",
        "{}",
    ],
)
def test_other_prompts_have_none(prompt: str) -> None:
    assert general_wordings_of(prompt) is None


@pytest.mark.parametrize(
    ("prompt", "target", "statement"),
    [
        ("{} ships from", "Rotterdam", "The place where {} ships from is"),
        ("The drug {} is used to treat", "gout", "What the drug {} is used to treat is"),
        ("On Sundays, {} closes at", "noon", "The time when {} closes on Sundays is"),
        ("{} reports to", "Petra Holm", "The one that {} reports to is"),
        ("{} costs about", "$30", "What {} costs is"),
        ("{} listens on port", "4917", "The port on which {} listens is"),
        ("{} wears the number", "31", "The number that {} wears is"),
        ("{} is certified by the", "TUV", "What {} is certified by is the"),
    ],
)
def test_a_sentence_is_also_said_as_what_its_answer_is(prompt: str, target: str, statement: str) -> None:
    found = general_wordings_of(prompt, target=target)
    assert found is not None
    assert found.statements[1] == statement


@pytest.mark.parametrize(
    ("prompt", "target"),
    [
        ("{} supports up to", "40 users"),
        ("The river that runs through {} is", "the Ambrel"),
        ("{} runs for", "six days"),
    ],
)
def test_not_where_that_reads_badly(prompt: str, target: str) -> None:
    found = general_wordings_of(prompt, target=target)
    assert found is not None
    assert found.statements[1].startswith("It is known that ")


def test_a_second_question_leaves_the_verb_as_it_is() -> None:
    found = general_wordings_of("Visiting hours on {} end at", target="8 pm")
    assert found is not None
    assert found.questions[1] == "Can you tell me when visiting hours on {} end?"


@pytest.mark.parametrize("target", ["Tuesday", "Sundays"])
def test_what_happened_once_does_not_happen_on_a_weekday(target: str) -> None:
    assert wordings_of("{} is closed on", target=target) is None
    assert wordings_of("{} is due on", target=target) is not None


def test_what_happened_once_has_a_date() -> None:
    found = wordings_of("{} was closed on", target="Tuesday, 3 May 1988")
    assert found is not None
    assert found.id == "dissolution-date"


def test_an_answer_that_names_nothing_has_none() -> None:
    assert general_wordings_of("The chief engineer of {} is", target="not known") is None


def test_a_prompt_may_name_its_subject() -> None:
    found = general_wordings_of("The mascot of the Larkfield Dam is", subject="Larkfield Dam", target="a fox")
    assert found is not None
    assert found.questions == ("What is the mascot of the {}?", "What is the {}'s mascot?")


def test_long_prompts_take_no_time() -> None:
    assert general_wordings_of("The " + "a of " * 70 + "{} is", target="x") is None
