"""The suites: by hand on made-up answers, and against plain transcriptions on toy models."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from evaluate_help import CannedModel, answer, next_tokens, other_weights

from bluedit import Fact, Neighbour, world_facts
from bluedit.errors import BenchmarkError, FactError
from bluedit.evaluate.metrics import METRICS, means
from bluedit.evaluate.model_queries import ModelQueries
from bluedit.evaluate.suites import SUITES, suites_of
from bluedit.model.editable import EditableModel
from toys import FACTS, toy_gpt2, toy_llama, toy_tokenizer


def measure(suite, lm, facts, unedited=None):
    """A suite's columns for a real model; `unedited` gives its unedited weights, by default those it has."""
    return SUITES[suite].measure(ModelQueries(lm, unedited) if unedited else ModelQueries(lm), facts)


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


def test_counterfact_by_hand():
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
    found = SUITES["counterfact"].measure(CannedModel(lambda *pair: asked[pair]), counterfact_facts())
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
    assert math.isnan(measure("counterfact", lm, [fact])["specificity"][0])
    assert math.isnan(measure("counterfact-plus", lm, [fact])["specificity_plus"][0])


@pytest.mark.parametrize(
    ("name", "facts", "message"),
    [
        (
            "counterfact",
            [FACTS[0], Fact("{} is", subject="x", target="y")],
            r"compare with old_target, and 1 of 2 facts have none, e\.g\. 'x is'; add old_target or choose other metrics",
        ),
        (
            "counterfact-plus",
            [Fact("{} is", subject="x", target="y", neighbours=(Neighbour("z is"),))],
            "^'counterfact-plus' needs neighbours with an answer, and no fact has one; leave it out",
        ),
        (
            "portability",
            [FACTS[0]],
            "^'portability' asks the facts' probes, and no fact has one with an answer; leave it out",
        ),
    ],
)
def test_facts_that_lack_what_a_suite_needs_are_refused(name, facts, message):
    with pytest.raises(FactError, match=message):
        SUITES[name].check(facts)


def test_an_unknown_suite_is_refused():
    assert [suite.name for suite in suites_of(["zsre", "locality"])] == ["zsre", "locality"]
    with pytest.raises(BenchmarkError, match=r"^unknown suite of metrics 'zsr'; did you mean 'zsre'"):
        suites_of(["zsre", "zsr"])


@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)
def test_texts_are_the_longest_that_the_model_reads(suite):
    """Whatever a suite asks of the model is the beginning of a text that it declared."""
    model = CannedModel(lambda *_: answer(-1.0), lambda _: " Rome", chat=lambda prompt: f"user: {prompt}")
    for fact in counterfact_facts():
        declared = list(suite.texts(model, fact))
        suite.measure(model, [fact])
        asked = [*model.scored, *((prompt, "") for prompt, _ in model.continued)]
        for prompt, text in asked:
            assert any(long.startswith(prompt) and len(long) >= len(f"{prompt} {text}".strip()) for long in declared)
        model.scored.clear()
        model.continued.clear()


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
    found = measure("counterfact", lm, facts)
    for i, fact in enumerate(facts):
        assert found["efficacy"][i] == (plain(lm, fact.text, fact.target)[0] > plain(lm, fact.text, fact.old_target)[0])
        wins = [plain(lm, p, fact.target)[0] > plain(lm, p, fact.old_target)[0] for p in fact.paraphrases]
        assert found["generalisation"][i] == sum(wins) / len(wins)
        _, first, wanted = plain(lm, fact.text, fact.target)
        assert found["strict"][i] == (first == wanted)


COMBINATIONS = [
    (toy, kind, bos) for toy in (toy_llama, toy_gpt2) for kind in ("bytes", "words") for bos in (False, True)
]
IN_FULL = ((toy_llama, "words", True), (toy_gpt2, "bytes", False))


@pytest.mark.parametrize(("toy", "kind", "bos"), COMBINATIONS)
def test_records_by_the_definitions(toy, kind, bos):
    """CounterFact's and zsRE's figures against one forward pass for each prompt and answer, with and without a token before each text:
    fifty records for two combinations, eight for the others."""
    lm = EditableModel.of(toy(), toy_tokenizer(kind=kind, bos=bos))
    assert bool(lm.tokenizer("I")["input_ids"][0] == lm.tokenizer.bos_token_id) is bos
    facts = world_facts(50 if (toy, kind, bos) in IN_FULL else 8)
    found = measure("counterfact", lm, facts) | measure("zsre", lm, facts, lambda: other_weights(lm))
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
    found = measure("zsre", lm, facts, lambda: other_weights(lm))
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
    parts = {"kl": 0.0, "same": 1.0, "top5": 1.0, "top10": 1.0}
    still = {f"{what}_{part}": [value] for what in ("neighbour", "subject") for part, value in parts.items()}
    assert measure("locality", lm, [fact]) == still
    found = measure("locality", lm, [fact], lambda: other_weights(lm))

    def after(prompt):
        with torch.no_grad():
            return lm.model(torch.tensor([lm.tokenizer(prompt)["input_ids"]])).logits[0, -1].log_softmax(dim=-1)

    now = [after(n.prompt) for n in fact.neighbours]
    with other_weights(lm):
        before = [after(n.prompt) for n in fact.neighbours]
    kl = [float((b.exp() * (b - n)).sum()) for b, n in zip(before, now, strict=True)]
    assert found["neighbour_kl"] == [pytest.approx(sum(kl) / len(kl), rel=1e-5)]
    assert found["neighbour_kl"][0] > 0.01
    for k in (5, 10):
        shared = [
            len(set(b.topk(k)[1].tolist()) & set(n.topk(k)[1].tolist())) / k for b, n in zip(before, now, strict=True)
        ]
        assert (
            found[f"neighbour_top{k}"] == [pytest.approx(sum(shared) / len(shared))]
            and found[f"neighbour_top{k}"][0] < 1
        )


def test_every_suite_gives_the_metrics_it_names(lm):
    facts = counterfact_facts()
    chat = {name for name in METRICS if name.startswith("chat_")}  # the model has no chat template
    for suite in SUITES.values():
        derived = {"forcing_gap"} if {"accuracy", "generated"} <= set(suite.metrics) else set()
        passages = suite.measure_passages(ModelQueries(lm), ["The capital of France is Paris."], 40)
        columns = suite.measure(ModelQueries(lm), facts)
        assert columns.keys() | passages.keys() | derived == set(suite.metrics) - chat, suite.name
        assert all(len(values) == len(facts) for values in columns.values())
        assert suite.measures and suite.needs
    assert {name for suite in SUITES.values() for name in suite.metrics} == set(METRICS)


def test_results_do_not_depend_on_batches(lm):
    facts = counterfact_facts()
    small = ModelQueries(lm, tokens_per_pass=8, prompts_per_pass=1)
    for suite in SUITES.values():
        whole, parts = (suite.measure(queries, facts) for queries in (ModelQueries(lm), small))
        for name, values in whole.items():
            assert values == pytest.approx(parts[name], abs=1e-4, nan_ok=True), name


def test_the_page_of_the_docs_lists_the_suites():
    page = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text("utf-8")
    listed = page.partition("| `--suite` |")[2].partition("\n\n")[0].splitlines()[2:]
    assert listed == [f"| `{suite.name}` | {suite.measures} | {suite.needs} |" for suite in SUITES.values()]


def test_a_joined_target_is_scored_without_a_space():
    """At the fact's own prompt only, the old answer there like the new one; paraphrases have a spacing of their own."""
    fact = Fact(
        *("The capital of {} is", "France", "Rome", "Paris"),
        paraphrases=("France has the capital",),
        neighbours=(Neighbour("Paris is in", "France"),),
        joined=True,
    )
    model = CannedModel(lambda *_: answer(-1.0), lambda _: " Rome")
    own, other = (fact.text, "Rome", True), ("France has the capital", "Rome")
    SUITES["counterfact"].measure(model, [fact])
    assert model.scored[:4] == [own, (fact.text, "Paris", True), other, ("France has the capital", "Paris")]
    model.scored.clear()
    SUITES["zsre"].measure(model, [fact])
    assert model.scored[:2] == [own, other]
    model.scored.clear()
    SUITES["generation"].measure(model, [fact])
    assert model.scored == [own]
    SUITES["counterfact-plus"].measure(model, [fact])
    assert ("The capital of France isRome. Paris is in", "Rome") in model.scored


@pytest.mark.parametrize("joined", [True, False])
def test_the_tokens_of_a_joined_target(joined):
    lm = EditableModel.of(toy_llama(), toy_tokenizer())
    fact = Fact("The capital of {} is", subject="France", target="Rome", old_target="Paris", joined=joined)
    logs, tokens = next_tokens(lm, fact.text, "Rome")
    if joined:
        before = lm.tokenizer(fact.text)["input_ids"]
        tokens = lm.tokenizer("Rome", add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logs = lm.model(torch.tensor([before + tokens])).logits[0].log_softmax(dim=-1)[len(before) - 1 : -1]
    (found,) = ModelQueries(lm).score([(fact.text, "Rome", joined)])
    assert found.tokens == len(tokens) == ModelQueries(lm).answer_length(fact.text, "Rome", joined)
    assert found.logprob == pytest.approx(sum(float(logs[t, token]) for t, token in enumerate(tokens)), rel=1e-5)
    right = [int(logs[t].argmax()) == token for t, token in enumerate(tokens)]
    assert measure("zsre", lm, [fact])["accuracy"] == [sum(right) / len(right)]
