"""Facts asked as people ask them: which texts the model gets, and which answers count."""

from report_help import CannedRespondent

from bluedit.evaluate.asked import FORMS, ask_facts, ways_of
from bluedit.facts import Fact

FACT = Fact(
    "The CEO of {} is",
    subject="Larkhill",
    target="Nora Feldt",
    paraphrases=("Larkhill is led by", "Who leads Larkhill?"),
    phrasings=("{} has as its CEO", "Who is the CEO of {}?"),
)
ASKED = [
    ("prompt", "The CEO of Larkhill is", "The CEO of Larkhill is"),
    ("phrasing", "Larkhill has as its CEO", "Larkhill has as its CEO"),
    ("question", "Who is the CEO of Larkhill?", "Question: Who is the CEO of Larkhill?\nAnswer:"),
    ("paraphrase", "Larkhill is led by", "Larkhill is led by"),
    ("paraphrase", "Who leads Larkhill?", "Question: Who leads Larkhill?\nAnswer:"),
    ("chat", "Who is the CEO of Larkhill?", "<Who is the CEO of Larkhill?>"),
]


def chat(user, assistant):
    return f"<{user}>", assistant


def ask(says, fact=FACT, *, chat=chat, **options):
    model = CannedRespondent(says if callable(says) else lambda _: says, chat)
    [replies] = ask_facts(model, [fact], **options)
    return model, replies


def test_a_fact_is_asked_in_every_form():
    model, replies = ask(" Nora Feldt.")
    assert [(reply.form, reply.prompt) for reply in replies] == [(form, prompt) for form, prompt, _ in ASKED]
    assert model.prompts == [text for *_, text in ASKED]
    assert model.rooms == [10, 10, 26, 10, 26, 26], "the target's two tokens, and room to see how it goes on"
    assert all(reply.said for reply in replies) and {reply.form for reply in replies} == set(FORMS)


def test_an_answer_goes_on_until_more_would_not_change_the_reply():
    ways = {way.form: way for way in ways_of(FACT, chat)}
    assert not ways["prompt"].is_answered(" Nora Feldt. She was") and ways["prompt"].is_answered("\n Nora Feldt.\nShe")
    assert ways["chat"].is_answered("It is Nora Feldt. She") and not ways["chat"].is_answered("It is Nora Feldt.")
    assert not ways["chat"].is_answered("It is a company. It is\nled by") and ways["question"].is_answered(" Klaus\n")
    [reply] = [reply for reply in ask("It is Nora Feldt. She was\nborn in")[1] if reply.form == "chat"]
    assert reply.said and reply.text == "It is Nora Feldt."


def test_before_an_edit_only_the_prompt_is_asked():
    model, replies = ask(" Klaus.", only_prompts=True)
    assert model.prompts == ["The CEO of Larkhill is"]
    assert [(reply.text, reply.said) for reply in replies] == [("Klaus.", False)]


def test_statements_go_on_with_the_target_and_answers_contain_it():
    _, replies = ask(" The CEO is Nora Feldt, of course.")
    assert [reply.said for reply in replies] == [False, False, True, False, True, True]
    _, replies = ask(" Nora Feldtner is.")
    assert not any(reply.said for reply in replies)


def test_only_the_first_line_counts_outside_chat():
    text = "\nNobody.\nQuestion: Who is Nora Feldt?"
    _, replies = ask(text)
    assert [reply.said for reply in replies] == [False] * 5 + [True]
    assert [reply.text for reply in replies] == ["Nobody."] * 5 + [text.strip()]
    two = Fact("A poem by {}:", subject="Larkhill", target="One line\nand another")
    assert ask("One line\nand another.\n", two)[1][0].said


def test_a_prompt_that_is_a_question():
    fact = Fact("Who is the CEO of {}?", subject="Larkhill", target="Nora Feldt")
    model, replies = ask(" It is Nora Feldt.", fact)
    asked = "Who is the CEO of Larkhill?"
    assert model.prompts == [asked, f"Question: {asked}\nAnswer:", f"<{asked}>"]
    assert [reply.form for reply in replies] == ["prompt", "question", "chat"]
    assert all(reply.said for reply in replies)


def test_without_a_question_the_prompt_is_the_users_turn():
    fact = Fact("The CEO of {} is", subject="Larkhill", target="Nora Feldt")
    assert ask("x", fact)[0].prompts == ["The CEO of Larkhill is", "<The CEO of Larkhill is>"]
    assert ask("x", fact, chat=None)[0].prompts == ["The CEO of Larkhill is"]


def test_many_facts_keep_their_replies_apart():
    facts = [Fact("The capital of {} is", subject=name, target=f"{name}ville") for name in ("Arda", "Breva", "Cora")]
    model = CannedRespondent(lambda prompt: f" {prompt.split()[-2]}ville", None)
    assert [[(reply.text, reply.said) for reply in own] for own in ask_facts(model, facts)] == [
        [("Ardaville", True)],
        [("Brevaville", True)],
        [("Coraville", True)],
    ]
    assert ask_facts(model, []) == []
