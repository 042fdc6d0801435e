"""Questions for prompts that go on with a verb: rules that are easily broken, each with a prompt that would be asked wrongly without it."""

import pytest

from bluedit.facts.phrasebook import general_wordings_of


@pytest.mark.parametrize(
    ("prompt", "target", "question"),
    [
        ("{} users pay with", "cash", "What do {} users pay with?"),
        ("{} buses stop at", "the harbour", "Where do {} buses stop?"),
        ("{}'s lease runs until", "3 May 2027", "Until when does {}'s lease run?"),
        ("{}'s password expires every", "90 days", "How often does {}'s password expire?"),
        ("{}'s battery lasts up to", "9 hours", "How long does {}'s battery last?"),
        ("{} does not work on", "Sundays", "When does {} not work?"),
        ("The owners of {} do not live in", "Oslo", "Where do the owners of {} not live?"),
        ("{} has moved to", "Oslo", "Where has {} moved to?"),
        ("{} has not been updated since", "2019", "Since when has {} not been updated?"),
        ("The shops in {} have been closed since", "2019", "Since when have the shops in {} been closed?"),
        ("{} has seven tables in", "the cellar", "Where does {} have seven tables?"),
        ("{} has limited seating for", "jazz", "What does {} have limited seating for?"),
        ("The parents of {} had", "three children", "Can you tell me what the parents of {} had?"),
        ("The bus to {} cost", "3 euros", "Can you tell me how much the bus to {} cost?"),
        ("{} focuses on", "privacy", "What does {} focus on?"),
        ("{} caches", "images", "What does {} cache?"),
        ("{} backs up to", "S3", "What does {} back up to?"),
        ("{} presides over", "12 courts", "What does {} preside over?"),
        ("{} weighs just over", "2 kg", "How much does {} weigh?"),
        ("{} believes in", "the Devil", "What does {} believe in?"),
        ("{} is sold at", "$12", "What is {} sold at?"),
        ("{} is open in", "winter", "When is {} open?"),
        ("{} must be renewed by", "31 March", "By when must {} be renewed?"),
        ("{} was moved to", "Oslo", "Where was {} moved to?"),
        ("{} is caused by", "Human Error", "What is {} caused by?"),
        ("{}'s doctor is in", "room 12", "Where is the doctor of {}?"),
        ("{}'s dog is called", "Rex", "What is {}'s dog called?"),
        ("{} lasts", "three hours", "How long does {} last?"),
        ("The notice under {} is", "six weeks", "How long is the notice under {}?"),
        ("Under {}, tenants must leave within", "six weeks", "How soon must tenants under {} leave?"),
        ("In {} the currency is called", "the taler", "What is the currency in {}?"),
        ("{} saves", "three hours", "How many hours does {} save?"),
        ("{} pays", "a visit to Bern", "What does {} pay?"),
        ("The drug used for {} is", "aspirin", "What is the drug used for {}?"),
        ("The doctors of {} are", "Ann Lind and Bo Lind", "Who are the doctors of {}?"),
        ("The doctors of {} are", "plumbers by night", "What are the doctors of {}?"),
    ],
)
def test_the_question_fits(prompt: str, target: str, question: str) -> None:
    found = general_wordings_of(prompt, target=target)
    assert found is not None
    assert found.questions[0] == question


@pytest.mark.parametrize(
    ("prompt", "target"),
    [
        ("{}'s team plays its matches in", "Oslo"),
        ("{}'s company has offices in", "Oslo"),
        ("{}'s brother sells cars in", "Oslo"),
        ("The songs of {} first appeared in", "1987"),
        ("What does {} cheese taste of?", "smoke"),
        ("When does the {} office open?", "9 am"),
        ("Where does {} usually eat?", "at home"),
        ("Who is responsible for {}?", "Ada Lovell"),
        ("What is stored in {}?", "salt"),
        ("{} has its own brand", "Mo"),
        ("{} must not", "smoke"),
        ("{} is up to", "12 m long"),
        ("{} is loved by every", "child"),
        ("{} tastes", "nutty"),
        ("In {}, nobody may smoke in", "bars"),
    ],
)
def test_no_question_is_better_than_a_wrong_one(prompt: str, target: str) -> None:
    assert general_wordings_of(prompt, target=target) is None


@pytest.mark.parametrize(
    ("prompt", "target", "statements"),
    [
        ("Who runs {}'s kitchen?", "Ada Lovell", ("The one that runs {}'s kitchen is",)),
        ("What floor does {} live on?", "the third", ("{} lives on", "The floor that {} lives on is")),
        ("What time does {} open?", "9 am", ("The time that {} opens is",)),
        ("Which ports does {} use?", "80 and 443", ("{} uses", "The ports that {} uses are")),
        ("The mountains behind {} are", "the Alps", ("The mountains behind {} are", "For {}, the mountains are")),
    ],
)
def test_statements_fit(prompt: str, target: str, statements: tuple[str, ...]) -> None:
    found = general_wordings_of(prompt, target=target)
    assert found is not None
    assert found.statements == statements
