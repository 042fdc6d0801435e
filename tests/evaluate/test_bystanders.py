"""The bundled ordinary questions, and what counts as the same answer."""

import math
import re

import pytest
import torch
from report_help import CannedRespondent, chat_tokenizer

from bluedit.evaluate.bystanders import (
    Heard,
    ask_bystanders,
    bystander_questions,
    chat_perplexity,
    chat_turns,
    compare_bystanders,
    questions_beside,
    same_answer,
    says_the_same,
)
from bluedit.evaluate.sentences import first_sentence, up_to
from bluedit.facts import Fact
from bluedit.model.editable import EditableModel
from bluedit.text.prompts import encode_exact
from toys import toy_llama, toy_tokenizer


def test_there_are_enough_questions_of_every_kind():
    questions = bystander_questions()
    assert len(questions) >= 60
    assert sum(q.plain is not None for q in questions) >= 60 and sum(q.chat is not None for q in questions) >= 60
    assert all(q.plain or q.chat for q in questions)
    assert {q.topic for q in questions} == {
        *("capitals", "chief executives", "currencies", "headquarters", "founders", "authors"),
        *("arithmetic", "definitions", "instructions", "translations", "common knowledge"),
    }
    texts = [text for q in questions for text in (q.plain, q.chat) if text]
    assert len(set(texts)) == len(texts)
    assert not any(re.search(r"\s$|[.!?]$", q.plain) for q in questions if q.plain), "they are to be continued"
    assert all(re.search(r"[.?]$", q.chat) for q in questions if q.chat)
    assert len(chat_turns()) == 12 and all(user and answer for user, answer in chat_turns())


def test_questions_about_the_edited_subjects_are_left_out():
    everything = list(bystander_questions())
    assert questions_beside([Fact("The capital of {} is", subject="Atlantis", target="Rome")]) == everything
    beside = questions_beside(
        [
            Fact("The capital of {} is", subject="Lusitania", target="Rome", phrasings=["{Portugal}'s capital is"]),
            Fact("The {} has", subject="united nations", target="a new seat"),
            Fact("The word {} has", subject="ran", target="three letters"),
        ]
    )
    gone = [q.plain for q in everything if q not in beside]
    assert gone == ["The capital of Portugal is", "The United Nations has its headquarters in"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (" Paris. It is", "Paris."),
        ("\n\n Paris is the capital.\nThe", "Paris is the capital."),
        (" J. R. R. Tolkien. He", "J. R. R. Tolkien."),
        (" Dr. Smith and Mrs. Brown. They", "Dr. Smith and Mrs. Brown."),
        (" 1. Boil water. 2. Add", "1. Boil water."),
        (" 3.14 and more", "3.14 and more"),
        ("Yes! You can", "Yes!"),
        ("", ""),
    ],
)
def test_first_sentence(text, sentence):
    assert first_sentence(text) == sentence


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (" The CEO is Ilse Brandt. She", " The CEO is Ilse Brandt."),
        ("Hello. The CEO is Ilse Brandt. She", "Hello. The CEO is Ilse Brandt."),
        ("The CEO is Ilse Brandt.", None),  # it may go on as "Brandt.com"
        ("The CEO is Ilse Brandtson. She", None),
        ("The CEO is Dr. Ilse", None),
    ],
)
def test_the_sentences_that_mention_a_target(text, found):
    assert up_to(text, "Ilse Brandt") == found


def test_the_same_answer():
    assert same_answer("The capital is **Lisbon**.", "the capital is **lisbon**")
    assert same_answer("It’s Lisbon", "It's  Lisbon!")
    assert not same_answer("Lisbon", "Lisbon and Porto") and not same_answer("Lisbon", "Porto")
    assert not same_answer("3.14", "31.4")


@pytest.mark.parametrize(
    ("question", "one", "other", "same"),
    [
        ("What is the capital of Peru?", "The capital of Peru is Lima.", "Lima.", True),
        ("What is the capital of Peru?", "The capital of Peru is Lima.", "It is called Lima, in Peru.", True),
        ("What is the capital of Peru?", "The capital of Peru is Lima.", "The capital of Peru is Cusco.", False),
        ("What is the capital of Peru?", "The capital of Peru is Lima.", "The capital of Peru", False),
        ("What is 2 + 2?", "2 + 2 is 4.", "The sum is 4.", True),
        ("Water boils at", "100 degrees Celsius.", "100 degrees.", True),
        ("Water boils at", "100 degrees Celsius.", "90 degrees Celsius.", False),
        ("How do I boil an egg?", "Boil water, add the egg.", "Boil water and then add eggs.", True),
        ("How do I boil an egg?", "Boil water, add the egg.", "I am a language model.", False),
        ("Is ice cold?", "It is.", "it is", True),
        ("Who runs Acme?", "Acme is run by Jo Lee, who likes it", "Jo Lee, a former banker, runs it", True),
        ("Who runs Acme?", "Acme is run by Jo Lee, who likes it", "Al Ray, who likes it", False),
        ("Which coins does India use?", "They are Rupees, of a kind", "The Rupee, as they say", True),
        ("What is in a park?", "Trees and benches.", "A bench and a tree.", True),
        ("What is near?", "Cities.", "A city.", True),
        ("How long is it?", "It is 6,650 km long.", "It is 6,400 km long.", False),
        ("How long is it?", "It is 6,650 km long.", "6650 km.", True),
        ("May I eat it?", "You can eat it raw.", "You can't eat it raw.", False),
        ("Is it Paris?", "It is not Paris.", "No, it is not Paris.", True),
        ("When does water boil?", "Water boils at about 100", "The boiling point is about 100°C.", True),
    ],
)
def test_says_the_same(question, one, other, same):
    assert says_the_same(question, one, other) is says_the_same(question, other, one) is same


def heard(prompt, text, *probabilities, form="plain"):
    return Heard(form, prompt, text, torch.tensor(probabilities).log())


def test_counts_divergence_and_the_worst():
    before = [
        heard("a", "one.", 0.5, 0.5),
        heard("b", "two", 0.5, 0.5),
        heard("c", "three", 0.5, 0.5),
        heard("d", "four", 1.0, 0.0),
        heard("a?", "one", 0.5, 0.5, form="chat"),
    ]
    after = [
        heard("a", "One", 0.9, 0.1),
        heard("b", "2", 0.5, 0.5),
        heard("c", "3", 0.6, 0.4),
        heard("d", "four", 1.0, 0.0),
        heard("a?", "one", 0.5, 0.5, form="chat"),
    ]
    found = compare_bystanders(before, after)
    assert found.asked == {"plain": 4, "chat": 1} and found.same == {"plain": 2, "chat": 1} == found.alike
    divergences = [0.5 * math.log(0.25 / 0.09), 0.0, 0.5 * math.log(0.25 / 0.24), 0.0, 0.0]
    assert found.kl == pytest.approx(sum(divergences) / 5, abs=1e-6)
    assert [(one.prompt, one.before, one.after, one.same) for one in found.worst] == [
        ("c", "three", "3", False),
        ("b", "two", "2", False),
        ("a", "one.", "One", True),
    ]
    assert found.worst[2].kl == pytest.approx(divergences[0], abs=1e-6)
    assert len(found.answers) == 5 and found.answers[:3] == found.worst
    assert compare_bystanders([], []) is None


def test_an_answer_in_other_words_counts_as_alike():
    found = compare_bystanders([heard("The capital is", "Lima.", 1.0)], [heard("The capital is", "called Lima", 1.0)])
    assert (found.same, found.alike) == ({"plain": 0}, {"plain": 1})


def test_the_forms_in_which_a_model_is_asked():
    questions = bystander_questions()[:2]
    model = CannedRespondent(lambda prompt: f" {len(prompt)}. And so on", chat=lambda user, _: (f"<{user}>", ""))
    found = ask_bystanders(model, questions)
    assert [(one.form, one.prompt, one.text) for one in found] == [
        ("plain", "The capital of Portugal is", "26."),
        ("chat", "What is the capital of Japan?", "31."),
    ]
    assert model.prompts[1] == "<What is the capital of Japan?>"
    found = ask_bystanders(model, questions, both=True)
    assert [(one.form, one.prompt) for one in found] == [
        ("plain", "The capital of Portugal is"),
        ("chat", "What is the capital of Portugal?"),
        ("plain", "The capital of Japan is"),
        ("chat", "What is the capital of Japan?"),
    ]
    found = ask_bystanders(model, bystander_questions())
    assert len(found) == len(bystander_questions()) >= 60
    assert all(sum(one.form == form for one in found) > 30 for form in ("plain", "chat"))
    plain = CannedRespondent(lambda _: " x")
    found = ask_bystanders(plain, bystander_questions())
    assert len(found) >= 60 and {one.form for one in found} == {"plain"}


def test_answers_before_an_edit_foretell_those_after_it():
    model = CannedRespondent(lambda prompt: f" {len(prompt)}. And so on", chat=lambda user, _: (f"<{user}>", ""))
    questions = bystander_questions()
    before = ask_bystanders(model, questions[:2])
    assert not model.expected
    ask_bystanders(model, questions[:3], before=before)
    assert model.expected == ["26.", "31.", ""]


@pytest.mark.parametrize("bos", [False, True])
def test_perplexity_of_chat_text_is_that_of_the_assistants_tokens(bos):
    lm = EditableModel.of(toy_llama(), chat_tokenizer(bos=bos))
    lm.model.config.max_position_embeddings = 1024
    loss, count = 0.0, 0
    for user, assistant in chat_turns():
        before, answer = encode_exact(lm.tokenizer, f"user: {user}\nassistant: ", f"{assistant}</s>")
        ids = torch.tensor([before + answer])
        assert ids[0, -1] == lm.tokenizer.eos_token_id and (ids[0, 0] == lm.tokenizer.bos_token_id) == bos
        with torch.no_grad():
            logprobs = lm.model(ids).logits[0].log_softmax(dim=-1)
        for place, token in enumerate(answer, len(before)):
            loss -= float(logprobs[place - 1, token])
        count += len(answer)
    assert chat_perplexity(lm) == pytest.approx(math.exp(loss / count), rel=1e-9)


def test_models_without_chat_text():
    assert chat_perplexity(EditableModel.of(toy_llama(), toy_tokenizer())) is None
    lm = EditableModel.of(toy_llama(), chat_tokenizer())
    lm.model.config.max_position_embeddings = 20
    assert chat_perplexity(lm) is None
