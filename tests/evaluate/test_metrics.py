"""The metrics: by hand on made-up answers, and against plain transcriptions on toy models."""

from __future__ import annotations

import math
from contextlib import nullcontext

import pytest
import torch
from evaluate_help import next_tokens, other_weights

from bluedit import Fact, Neighbour, world_facts
from bluedit.errors import FactError
from bluedit.evaluate.answers import Answer
from bluedit.evaluate.generate import ask, continuations
from bluedit.evaluate.metrics import METRICS, means
from bluedit.evaluate.said import generation
from bluedit.evaluate.suites import SUITES, counterfact, locality, zsre
from bluedit.model.editable import EditableModel
from toys import FACTS, toy_gpt2, toy_llama, toy_tokenizer


def answer(
    mean: float, said: bool = False, tokens: int = 2, first: tuple[int, ...] = (0, 0), accuracy: float = 0.0
) -> Answer:
    return Answer(mean * tokens, tokens, said, 0, first, accuracy)


def counterfact_facts() -> list[Fact]:
    return [
        Fact(
            "The capital of {} is",
            subject="France",
            target="Rome",
            old_target="Paris",
            paraphrases=("France has the capital", "The seat of France is"),
            neighbours=(
                Neighbour("The capital of Gaul is", "Paris"),
                Neighbour("Paris is in", "Paris"),
                Neighbour("x is", "y"),
                Neighbour("Lyon is in"),  # without an answer there is nothing to compare
            ),
        ),
        Fact(
            "{} plays the",
            subject="Élise",
            target="drum kit",
            old_target="violin",
            paraphrases=("Élise is good at the",),
        ),
    ]


def test_counterfact_by_hand(monkeypatch):
    """Answers made up; every figure worked out on paper."""
    asked = {
        ("The capital of France is", "Rome"): answer(-1.0, said=True),
        ("The capital of France is", "Paris"): answer(-2.0),
        ("France has the capital", "Rome"): answer(-3.0, said=True),  # loses to the old answer
        ("France has the capital", "Paris"): answer(-2.0),
        ("The seat of France is", "Rome"): answer(-1.0, tokens=9),  # wins per token, not in total
        ("The seat of France is", "Paris"): answer(-2.0, tokens=1),
        ("The capital of Gaul is", "Rome"): answer(-2.0),
        ("The capital of Gaul is", "Paris"): answer(-1.0),
        ("Paris is in", "Rome"): answer(-1.0),
        ("Paris is in", "Paris"): answer(-1.0),  # a tie is not kept
        ("x is", "Rome"): answer(-5.0),
        ("x is", "y"): answer(-4.0),
        ("Élise plays the", "drum kit"): answer(-2.0, said=False),
        ("Élise plays the", "violin"): answer(-2.0),  # a tie is no success
        ("Élise is good at the", "drum kit"): answer(-1.0),
        ("Élise is good at the", "violin"): answer(-1.5),
    }
    monkeypatch.setattr(
        "bluedit.evaluate.answers.score", lambda _lm, pairs, _progress=None: [asked[pair] for pair in pairs]
    )
    found = counterfact(None, counterfact_facts(), nullcontext)
    assert found["efficacy"] == [1, 0]
    assert found["generalisation"] == [0.5, 1]  # by fact
    assert found["specificity"][0] == pytest.approx(2 / 3) and math.isnan(found["specificity"][1])
    assert found["strict"] == [1, 0]
    assert found["strict_paraphrase"] == [0.5, 0]
    assert found["strict_specificity"][0] == 0
    mean = means(found)
    assert mean["efficacy"] == 0.5 and mean["generalisation"] == 0.75 and mean["specificity"] == pytest.approx(2 / 3)
    assert mean["score"] == pytest.approx(3 / (2 + 4 / 3 + 3 / 2))


def test_a_neighbour_of_which_the_new_target_is_true_is_left_out(lm):
    """It could only ever count as lost."""
    fact = Fact(
        "{} is in", subject="Paris", target="Italy", old_target="France", neighbours=(Neighbour("Rome is in", "Italy"),)
    )
    assert math.isnan(counterfact(lm, [fact], nullcontext)["specificity"][0])
    assert math.isnan(SUITES["counterfact-plus"](lm, [fact], nullcontext)["specificity_plus"][0])


def test_facts_without_an_old_target_are_refused():
    facts = [FACTS[0], Fact("{} is", subject="x", target="y")]
    with pytest.raises(FactError, match=r"compare with old_target, and 1 of 2 facts have none, e\.g\. 'x is'"):
        counterfact(None, facts, nullcontext)


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def lm(request):
    return EditableModel.of({"llama": toy_llama, "gpt2": toy_gpt2}[request.param](), toy_tokenizer())


def plain(lm, prompt, answer):
    """(mean log-probability, first choices, answer tokens) from one forward pass."""
    logp, after = next_tokens(lm, prompt, answer)
    told = [float(row[token]) for row, token in zip(logp, after, strict=True)]
    return sum(told) / len(told), logp.argmax(dim=-1).tolist(), after


def share(pairs):
    pairs = list(pairs)
    return sum(a == b for a, b in pairs) / len(pairs)


def test_counterfact_of_a_model(lm):
    facts = counterfact_facts()
    found = counterfact(lm, facts, nullcontext)
    for i, fact in enumerate(facts):
        assert found["efficacy"][i] == (plain(lm, fact.text, fact.target)[0] > plain(lm, fact.text, fact.old_target)[0])
        wins = [plain(lm, p, fact.target)[0] > plain(lm, p, fact.old_target)[0] for p in fact.paraphrases]
        assert found["generalisation"][i] == sum(wins) / len(wins)
        _, first, wanted = plain(lm, fact.text, fact.target)
        assert found["strict"][i] == (first == wanted)


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("kind", ["bytes", "words"])
@pytest.mark.parametrize("toy", [toy_llama, toy_gpt2])
def test_fifty_records_by_the_definitions(toy, kind, bos):
    """CounterFact's and zsRE's figures against one forward pass for each prompt and answer, with and without a token before each text."""
    lm = EditableModel.of(toy(), toy_tokenizer(kind=kind, bos=bos))
    assert bool(lm.tokenizer("I")["input_ids"][0] == lm.tokenizer.bos_token_id) is bos
    facts = world_facts(50)
    found = counterfact(lm, facts, nullcontext) | zsre(lm, facts, lambda: other_weights(lm))
    with other_weights(lm):
        before = {
            (n.prompt, n.answer): plain(lm, n.prompt, n.answer)[1] for f in facts for n in f.neighbours if n.answer
        }
    for i, fact in enumerate(facts):
        answers = {
            (p, a): plain(lm, p, a) for p in (fact.text, *fact.paraphrases) for a in (fact.target, fact.old_target)
        }
        near = {(n.prompt, a): plain(lm, n.prompt, a) for n in fact.neighbours for a in (n.answer, fact.target) if a}
        likely = [answers[p, fact.target][0] > answers[p, fact.old_target][0] for p in (fact.text, *fact.paraphrases)]
        tokens = [share(zip(*answers[p, fact.target][1:], strict=True)) for p in (fact.text, *fact.paraphrases)]
        kept = [
            near[n.prompt, n.answer][0] > near[n.prompt, fact.target][0]
            for n in fact.neighbours
            if n.answer not in (None, fact.target)
        ]
        same = [
            share(zip(near[n.prompt, n.answer][1], before[n.prompt, n.answer], strict=True))
            for n in fact.neighbours
            if n.answer
        ]
        wanted = {
            "efficacy": likely[:1], "generalisation": likely[1:], "specificity": kept, "strict": [tokens[0] == 1],
            "strict_paraphrase": [t == 1 for t in tokens[1:]], "accuracy": tokens[:1], "rephrase_accuracy": tokens[1:],
            "locality_same": same,
            "locality_answer": [share(zip(*near[n.prompt, n.answer][1:], strict=True)) for n in fact.neighbours if n.answer],
        }  # fmt: skip
        wanted["strict_specificity"] = [tokens == 1 for tokens in wanted["locality_answer"]]
        for name, values in wanted.items():
            mean = sum(values) / len(values) if values else float("nan")
            assert found[name][i] == pytest.approx(mean, nan_ok=True), (name, fact.text)


def test_zsre_of_a_model(lm):
    facts = [f for f in counterfact_facts() if f.neighbours]
    found = zsre(lm, facts, lambda: other_weights(lm))
    (fact,) = facts
    assert found["accuracy"] == [share(zip(*plain(lm, fact.text, fact.target)[1:], strict=True))]
    each = [share(zip(*plain(lm, p, fact.target)[1:], strict=True)) for p in fact.paraphrases]
    assert found["rephrase_accuracy"] == [pytest.approx(sum(each) / len(each))]
    asked = [n for n in fact.neighbours if n.answer]
    now = [plain(lm, n.prompt, n.answer) for n in asked]
    with other_weights(lm):
        before = [plain(lm, n.prompt, n.answer) for n in asked]
    right = [share(zip(first, wanted, strict=True)) for _, first, wanted in now]
    same = [share(zip(a[1], b[1], strict=True)) for a, b in zip(now, before, strict=True)]
    assert found["locality_answer"] == [pytest.approx(sum(right) / len(right))]
    assert found["locality_same"] == [pytest.approx(sum(same) / len(same))]


def test_locality_of_a_model(lm):
    (fact,) = [f for f in counterfact_facts() if f.neighbours]
    still = {"neighbour_kl": [0.0], "neighbour_same": [1.0], "subject_kl": [0.0], "subject_same": [1.0]}
    assert locality(lm, [fact], nullcontext) == still
    found = locality(lm, [fact], lambda: other_weights(lm))

    def after(prompt):
        with torch.no_grad():
            return lm.model(torch.tensor([lm.tokenizer(prompt)["input_ids"]])).logits[0, -1].log_softmax(dim=-1)

    now = [after(n.prompt) for n in fact.neighbours]
    with other_weights(lm):
        before = [after(n.prompt) for n in fact.neighbours]
    kl = [float((b.exp() * (b - n)).sum()) for b, n in zip(before, now, strict=True)]
    assert found["neighbour_kl"] == [pytest.approx(sum(kl) / len(kl), rel=1e-5)]
    assert found["neighbour_kl"][0] > 0.01


def test_continuations_are_those_of_single_prompts(lm):
    prompts = ["The capital of France is", "I", "Where is the Eiffel Tower? It is in", "The capital of England is"]
    assert continuations(lm, prompts, 6) == [asked.text for asked in ask(lm, prompts, tokens=6)]


def test_generation_compares_words_not_tokens(monkeypatch, lm):
    texts = {
        "The capital of France is": " rome, of course",
        "France has the capital": " of Rome.",
        "The seat of France is": " Romeo",
    }
    monkeypatch.setattr("bluedit.evaluate.said.continuations", lambda _lm, prompts, *_a: [texts[p] for p in prompts])
    found = generation(lm, counterfact_facts()[:1], nullcontext)
    assert found["generated"] == [1] and found["generated_contains"] == [1]
    assert found["generated_paraphrase"] == [0]
    assert math.isnan(found["generated_chat"][0])
    assert means(found)["forcing_gap"] == found["accuracy"][0] - 1


def test_what_teacher_forcing_adds(monkeypatch, lm):
    """Half of the tokens are right when the other half is given, and the answer is never said."""
    fact = counterfact_facts()[1]
    monkeypatch.setattr("bluedit.evaluate.said.continuations", lambda _lm, prompts, *_a: [" violin"] * len(prompts))
    monkeypatch.setattr(
        "bluedit.evaluate.answers.score", lambda _lm, pairs, _progress=None: [answer(-1.0, accuracy=0.5) for _ in pairs]
    )
    assert means(generation(lm, [fact], nullcontext))["forcing_gap"] == 0.5


def test_every_number_says_what_it_is(lm):
    facts = counterfact_facts()
    names = {name for suite in SUITES.values() for name in suite(lm, facts, nullcontext)}
    elsewhere = {"forcing_gap", "passage_kl", "passage_same"}  # not fact by fact
    assert names == set(METRICS) - elsewhere
    assert all(
        metric.definition and metric.source and metric.better in ("higher", "lower") for metric in METRICS.values()
    )


def test_numbers_are_shown_in_their_units():
    assert METRICS["strict"].shown(0.5) == "50.0" and METRICS["fluency"].shown(5.5) == "5.50"
    assert METRICS["neighbour_kl"].shown(0.12345) == "0.123"
    assert METRICS["strict"].shown(float("nan")) == METRICS["strict"].shown(None) == ""


def test_results_do_not_depend_on_batches(lm, monkeypatch):
    facts = counterfact_facts()
    suites = [suite for name, suite in SUITES.items() if name != "fluency"]  # sampled text: by batch
    whole = [suite(lm, facts, nullcontext) for suite in suites]
    monkeypatch.setattr("bluedit.evaluate.answers._TOKENS_PER_PASS", 8)
    monkeypatch.setattr("bluedit.evaluate.drift._TOKENS_PER_PASS", 8)
    monkeypatch.setattr("bluedit.evaluate.generate._TOGETHER", 1)
    parts = [suite(lm, facts, nullcontext) for suite in suites]
    for one, other in zip(whole, parts, strict=True):
        for name, values in one.items():
            assert values == pytest.approx(other[name], abs=1e-4, nan_ok=True)
