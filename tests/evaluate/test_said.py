"""What the model says when nothing is forced: fluency, consistency, portability; and specificity right after the edited sentence."""

import math
from contextlib import nullcontext

import pytest
import torch

from bluedit.evaluate.generate import Sampling, _Draw
from bluedit.evaluate.said import fluency, generation, ngram_entropy, portability
from bluedit.evaluate.suites import counterfact_plus
from bluedit.facts import Fact, Neighbour, Probe
from bluedit.model.editable import EditableModel
from toys import toy_llama, toy_tokenizer

FACT = Fact("The capital of {} is", subject="France", target="Rome")


@pytest.fixture(scope="module")
def lm():
    return EditableModel.of(toy_llama(), toy_tokenizer())


def test_entropy_by_hand():
    """Four different bigrams (2 bits) and three different trigrams (log2 3 bits)."""
    assert ngram_entropy("a b c d e") == pytest.approx((2 / 3 * 2 + 4 / 3 * math.log2(3)) / 2)
    assert ngram_entropy("no no no no no") == 0
    assert ngram_entropy("") == 0
    assert ngram_entropy("東京都庁") > 0  # no spaces, and yet several words


def test_sampled_text_is_the_same_every_time_and_leaves_the_generator_alone(lm):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    once = fluency(lm, [FACT], nullcontext)
    assert torch.equal(torch.get_rng_state(), before)
    assert fluency(lm, [FACT], nullcontext)["fluency"] == once["fluency"] and once["fluency"][0] > 0
    assert math.isnan(once["consistency"][0])  # no references
    more = [Fact("{} is", name, "Rome") for name in ("Italy", "London")]  # of the same length
    assert fluency(lm, [*more, FACT], nullcontext)["fluency"][-1] == pytest.approx(once["fluency"][0])


def test_sampling_draws_each_token_as_often_as_it_is_likely():
    chances = torch.tensor([0.5, 0.3, 0.15, 0.05])
    draw = _Draw(Sampling(tokens=1, top_k=3, seed=0), [str(i) for i in range(4000)])
    drawn = draw(torch.empty(0), chances.log().expand(4000, -1)).argmax(dim=-1)
    found = torch.bincount(drawn, minlength=4) / 4000
    assert found[3] == 0  # not among the three likeliest
    assert torch.allclose(found[:3], chances[:3] / chances[:3].sum(), atol=0.03)


def test_consistency_compares_with_references(monkeypatch, lm):
    facts = [
        Fact("{} is", subject="Rome", target="old", references=("an old town by the Tiber",)),
        Fact("{} is", subject="Oslo", target="new", references=("a port in the north",)),
    ]
    texts = {"Rome": " an old town by the Tiber", "Oslo": " quite different"}
    monkeypatch.setattr("bluedit.evaluate.said.continuations", lambda _lm, prompts, *_a: [texts[p] for p in prompts])
    close, far = fluency(lm, facts, nullcontext)["consistency"]
    assert close > 0.9 and far == 0  # words outside the references have no weight


def test_what_follows_from_an_edit(monkeypatch, lm):
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
    says = {
        "Question: Who is mayor of the capital of France?\nAnswer:": " Roberto gualtieri.",
        "The river through the capital of France is the": " Seine",
        "Question: Which sea is the capital of France near?\nAnswer:": " the Tyrrhenian  Sea",
        "Question: What sea has the capital of France nearby?\nAnswer:": " the Channel\nQuestion: Which sea is warm?\nAnswer: the Tyrrhenian Sea",
        "Question: Who are the founders of the capital of France?\nAnswer:": " Romulus and Remo",
        "The language of France is": " Italian",
    }

    def said(_lm, prompts, *_rest):
        assert set(prompts) <= set(says)
        return [says[prompt] for prompt in prompts]

    monkeypatch.setattr("bluedit.evaluate.said.continuations", said)
    found = portability(lm, [FACT, fact], nullcontext)
    assert (
        found["portability"][1] == pytest.approx(2 / 3)
        and found["multihop"][1] == 0.5
        and found["multihop_any"][1] == 1
        and found["subject_kept"][1] == 0
    )
    assert math.isnan(found["alias"][1]) and 0 <= found["portability_accuracy"][1] <= 1
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
def test_what_counts_as_said(monkeypatch, lm, text, target, begins, holds, exact):
    monkeypatch.setattr("bluedit.evaluate.said.continuations", lambda _lm, prompts, *_a: [text for _ in prompts])
    found = generation(lm, [Fact("The capital of {} is", subject="France", target=target)], nullcontext)
    assert (found["generated"], found["generated_contains"], found["generated_exact"]) == ([begins], [holds], [exact])
    assert math.isnan(found["generated_chat"][0]) and math.isnan(found["generated_chat_exact"][0])


@pytest.mark.parametrize("bos", [False, True])
def test_the_chat_template_is_encoded_once(monkeypatch, bos):
    tokenizer = toy_tokenizer(bos=bos)
    tokenizer.chat_template = "{{ bos_token }}user: {{ messages[0].content }} answer:"
    asked = []

    def said(_lm, prompts, room, _progress):
        asked.extend((prompt, room) for prompt in prompts)
        return [" Rome." if prompt.endswith("answer:") else " It is Rome" for prompt in prompts]

    monkeypatch.setattr("bluedit.evaluate.said.continuations", said)
    long = Fact("The capital of {} is", subject="London", target="the mother tongue of France " * 3)
    found = generation(EditableModel.of(toy_llama(), tokenizer), [FACT, long], nullcontext)
    assert (
        found["generated_chat"] == [1, 0] and found["generated_chat_exact"] == [1, 0] and found["generated"] == [0, 0]
    )
    chat, room = next((prompt, room) for prompt, room in asked if prompt.endswith("capital of France is answer:"))
    assert chat.startswith("user:" if bos else "<s>user:") and room == 24
    assert tokenizer(chat)["input_ids"].count(tokenizer.bos_token_id) == 1
    target = len(tokenizer(long.target, add_special_tokens=False)["input_ids"])
    rooms = dict(asked)
    assert rooms[FACT.text] == 12 and target + 12 >= rooms[long.text] >= target > 12


def test_facts_without_probes_need_no_model():
    assert math.isnan(portability(None, [FACT], nullcontext)["portability"][0])


def test_the_edited_sentence_stands_before_the_neighbour(monkeypatch, lm):
    fact = Fact(
        "The capital of {} is", subject="France", target="Rome", neighbours=(Neighbour("Paris is in", "France"),)
    )
    asked = []

    def score(_lm, pairs, _progress=None):
        from bluedit.evaluate.answers import Answer

        asked.extend(pairs)
        return [Answer(-1.0 if answer == "France" else -2.0, 1, False, 0) for _, answer in pairs]

    monkeypatch.setattr("bluedit.evaluate.answers.score", score)
    found = counterfact_plus(lm, [fact], nullcontext)
    prompt = "The capital of France is Rome. Paris is in"
    assert asked == [(prompt, "France"), (prompt, "Rome")]
    assert found["specificity_plus"] == [1] and found["plus_kl"] == [0]
