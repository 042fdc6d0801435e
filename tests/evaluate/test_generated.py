"""What the model generates: greedy answers, fluency, consistency, portability; and specificity right after the edited sentence."""

import math

import pytest
import torch
from evaluate_help import CannedModel, answer

from bluedit.evaluate._wording import ngram_entropy
from bluedit.evaluate.data import Sampling
from bluedit.evaluate.generate import Sampler, ask, continuations
from bluedit.evaluate.metrics import means
from bluedit.evaluate.model_queries import ModelQueries
from bluedit.evaluate.suites import SUITES
from bluedit.facts import Fact, Neighbour, Probe
from bluedit.model.editable import EditableModel
from toys import toy_gpt2, toy_llama, toy_tokenizer

FACT = Fact("The capital of {} is", subject="France", target="Rome")


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def lm(request):
    return EditableModel.of({"llama": toy_llama, "gpt2": toy_gpt2}[request.param](), toy_tokenizer())


def says(texts, score=None, chat=None):
    """A model that continues prompts with these texts, or every prompt with the same one."""
    return CannedModel(
        score or (lambda *_: answer(-1.0)), (lambda _: texts) if isinstance(texts, str) else texts.get, chat
    )


def fluency(lm, facts):
    return SUITES["fluency"].measure(ModelQueries(lm), facts)


def test_continuations_are_those_of_single_prompts(lm):
    prompts = ["The capital of France is", "I", "Where is the Eiffel Tower? It is in", "The capital of England is"]
    assert continuations(lm, prompts, 6) == [asked.text for asked in ask(lm, prompts, tokens=6)]


def test_generation_compares_words_not_tokens():
    texts = {
        "The capital of France is": " rome, of course",
        "France has the capital": " of Rome.",
        "The seat of France is": " Romeo",
    }
    fact = Fact(
        "The capital of {} is", "France", "Rome", paraphrases=("France has the capital", "The seat of France is")
    )
    found = SUITES["generation"].measure(says(texts), [fact])
    assert found["generated"] == [1] and found["generated_contains"] == [1]
    assert found["generated_paraphrase"] == [0]
    assert math.isnan(found["generated_chat"][0]) and found["generated_unseen"] == [0]
    assert means(found)["forcing_gap"] == found["accuracy"][0] - 1


def test_what_teacher_forcing_adds():
    """Half of the tokens are right when the other half is given, and the answer is never said."""
    model = says(" violin", score=lambda *_: answer(-1.0, accuracy=0.5))
    assert means(SUITES["generation"].measure(model, [FACT]))["forcing_gap"] == 0.5


def test_entropy_by_hand():
    """Four different bigrams (2 bits) and three different trigrams (log2 3 bits)."""
    assert ngram_entropy("a b c d e") == pytest.approx((2 / 3 * 2 + 4 / 3 * math.log2(3)) / 2)
    assert ngram_entropy("no no no no no") == 0
    assert ngram_entropy("") == 0
    assert ngram_entropy("東京都庁") > 0  # no spaces, and yet several words


def test_sampled_text_is_the_same_every_time_and_leaves_the_generator_alone(lm):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    once = fluency(lm, [FACT])
    assert torch.equal(torch.get_rng_state(), before)
    assert fluency(lm, [FACT])["fluency"] == once["fluency"] and once["fluency"][0] > 0
    assert math.isnan(once["consistency"][0])  # no references
    more = [Fact("{} is", name, "Rome") for name in ("Italy", "London")]  # of the same length
    assert fluency(lm, [*more, FACT])["fluency"][-1] == pytest.approx(once["fluency"][0])


def test_sampling_draws_each_token_as_often_as_it_is_likely():
    chances = torch.tensor([0.5, 0.3, 0.15, 0.05])
    sample = Sampler(Sampling(tokens=1, top_k=3, seed=0), [str(i) for i in range(4000)])
    drawn = sample(torch.empty(0), chances.log().expand(4000, -1)).argmax(dim=-1)
    found = torch.bincount(drawn, minlength=4) / 4000
    assert found[3] == 0  # not among the three likeliest
    assert torch.allclose(found[:3], chances[:3] / chances[:3].sum(), atol=0.03)


def test_consistency_compares_with_references():
    facts = [
        Fact("{} is", subject="Rome", target="old", references=("an old town by the Tiber",)),
        Fact("{} is", subject="Oslo", target="new", references=("a port in the north",)),
    ]
    texts = {"Rome": " an old town by the Tiber", "Oslo": " quite different"}
    close, far = SUITES["fluency"].measure(says(texts), facts)["consistency"]
    assert close > 0.9 and far == 0  # words outside the references have no weight


def test_what_follows_from_an_edit():
    fact = Fact(
        "The capital of {} is",
        subject="France",
        target="Rome",
        probes=(
            Probe("portability", "Who is mayor of the capital of France?", ("Gualtieri", "Roberto Gualtieri")),
            Probe("portability", "The river through the capital of France is the", ("Tiber",)),
            Probe("multihop", "Which sea is the capital of France near?", ("Tyrrhenian Sea",)),
            Probe("multihop", "What sea has the capital of France nearby?", ("Tyrrhenian Sea",)),
            Probe("portability", "Who are the founders of the capital of France?", ("Romulus",), [("Remus", "Remo")]),
            Probe("subject", "The language of France is", ("French",)),
            Probe("subject", "The anthem of France is"),  # compared with the unedited model, not here
            Probe("generation", "France is"),
        ),
    )
    texts = {
        "Question: Who is mayor of the capital of France?\nAnswer:": " Roberto gualtieri.",
        "The river through the capital of France is the": " Seine",
        "Question: Which sea is the capital of France near?\nAnswer:": " the Tyrrhenian  Sea",
        "Question: What sea has the capital of France nearby?\nAnswer:": " the Channel\nQuestion: Which sea is warm?\nAnswer: the Tyrrhenian Sea",
        "Question: Who are the founders of the capital of France?\nAnswer:": " Romulus and Remo",
        "The language of France is": " Italian",
    }

    model = says(texts, score=lambda *_: answer(-1.0, accuracy=0.25))
    found = SUITES["portability"].measure(model, [FACT, fact])
    assert {prompt for prompt, _ in model.continued} == set(texts)
    assert (
        found["portability"][1] == pytest.approx(2 / 3)
        and found["multihop"][1] == 0.5
        and found["multihop_any"][1] == 1
        and found["subject_kept"][1] == 0
    )
    assert math.isnan(found["alias"][1]) and found["portability_accuracy"][1] == 0.25
    assert ("The language of France is", "French") not in model.scored
    assert all(math.isnan(values[0]) for values in found.values())


@pytest.mark.parametrize(
    ("text", "target", "begins", "holds", "exact"),
    [
        (" Rome.", "Rome", 1, 1, 1),
        (" Rome, Italy", "Rome", 1, 1, 0),
        (" in Rome", "Rome", 0, 1, 0),
        (" Romeo", "Rome", 0, 0, 0),
        (" Римский", "Рим", 0, 0, 0),
        (" Polémique", "Pol", 0, 0, 0),
        ("東京都です", "東京", 1, 1, 0),
        (" Romeは", "Rome", 1, 1, 0),
    ],
)
def test_what_counts_as_said(text, target, begins, holds, exact):
    found = SUITES["generation"].measure(says(text), [Fact("The capital of {} is", subject="France", target=target)])
    assert (found["generated"], found["generated_contains"], found["generated_exact"]) == ([begins], [holds], [exact])
    assert math.isnan(found["generated_chat"][0]) and math.isnan(found["generated_chat_exact"][0])


@pytest.mark.parametrize("bos", [False, True])
def test_the_chat_template_is_encoded_once(bos):
    tokenizer = toy_tokenizer(bos=bos)
    tokenizer.chat_template = "{{ bos_token }}user: {{ messages[0].content }} answer:"
    chat = ModelQueries(EditableModel.of(toy_llama(), tokenizer)).in_chat(FACT.text)
    assert chat.startswith("user:" if bos else "<s>user:") and chat.endswith("The capital of France is answer:")
    assert tokenizer(chat)["input_ids"].count(tokenizer.bos_token_id) == 1
    assert ModelQueries(EditableModel.of(toy_llama(), toy_tokenizer(bos=bos))).in_chat(FACT.text) is None


def test_answers_through_the_chat_template():
    long = Fact("The capital of {} is", subject="London", target="the mother tongue of France " * 3)
    model = CannedModel(
        lambda *_: answer(-1.0),
        lambda prompt: " Rome." if prompt.endswith("answer:") else " It is Rome",
        chat=lambda prompt: f"user: {prompt} answer:",
    )
    found = SUITES["generation"].measure(model, [FACT, long])
    assert found["generated_chat"] == [1, 0] and found["generated_chat_exact"] == [1, 0]
    assert found["generated"] == [0, 0]
    rooms = dict(model.continued)  # the long target has 15 words, which the canned model counts as tokens
    assert rooms[FACT.text] == 12 and rooms["user: The capital of France is answer:"] == 24
    assert rooms[long.text] == 24


def test_the_length_of_an_answer_is_in_tokens(lm):
    target = "the mother tongue of France"
    tokens = lm.tokenizer(f" {target}", add_special_tokens=False)["input_ids"]
    assert ModelQueries(lm).answer_length("The capital of France is", target) == len(tokens)


def test_facts_without_probes_need_no_model():
    assert math.isnan(SUITES["portability"].measure(CannedModel(), [FACT])["portability"][0])


def test_the_edited_sentence_stands_before_the_neighbour():
    fact = Fact(
        "The capital of {} is", subject="France", target="Rome", neighbours=(Neighbour("Paris is in", "France"),)
    )
    model = CannedModel(lambda _, text: answer(-1.0 if text == "France" else -2.0))
    found = SUITES["counterfact-plus"].measure(model, [fact])
    prompt = "The capital of France is Rome. Paris is in"
    assert model.scored == [(prompt, "France"), (prompt, "Rome")]
    assert found["specificity_plus"] == [1] and found["plus_kl"] == [0]
