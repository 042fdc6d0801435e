"""What the model says when nothing is forced: fluency, consistency, portability; and specificity right after the edited sentence."""

import math
from contextlib import nullcontext

import pytest

from bluedit.evaluate.said import fluency, ngram_entropy, portability
from bluedit.evaluate.suites import counterfact_plus
from bluedit.facts import Fact, Neighbour, Probe
from bluedit.lm.memory import EditableModel
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
    import torch

    torch.manual_seed(5)
    before = torch.get_rng_state()
    once = fluency(lm, [FACT], nullcontext)
    assert torch.equal(torch.get_rng_state(), before)
    assert fluency(lm, [FACT], nullcontext)["fluency"] == once["fluency"] and once["fluency"][0] > 0
    assert math.isnan(once["consistency"][0])  # no references


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
            Probe("subject", "The language of France is", ("French",)),
            Probe("subject", "The anthem of France is"),  # compared with the unedited model, not here
            Probe("generation", "France is"),
        ),
    )
    says = {
        "Question: Who is mayor of the capital of France?\nAnswer:": " Roberto gualtieri.",
        "The river through the capital of France is the": " Seine",
        "Question: Which sea is the capital of France near?\nAnswer:": " the Tyrrhenian  Sea",
        "The language of France is": " Italian",
    }

    def said(_lm, prompts, *_rest):
        assert set(prompts) == set(says)
        return [says[prompt] for prompt in prompts]

    monkeypatch.setattr("bluedit.evaluate.said.continuations", said)
    found = portability(lm, [FACT, fact], nullcontext)
    assert found["portability"][1] == 0.5 and found["multihop"][1] == 1 and found["subject_kept"][1] == 0
    assert math.isnan(found["alias"][1]) and 0 <= found["portability_accuracy"][1] <= 1
    assert all(math.isnan(values[0]) for values in found.values())


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
