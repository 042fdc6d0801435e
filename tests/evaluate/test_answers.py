"""What the model says, against plain transcriptions: one prompt at a time through the whole model."""

from __future__ import annotations

import math

import pytest
import torch
from evaluate_help import next_tokens

from bluedit import Fact, Neighbour
from bluedit.errors import FactError
from bluedit.evaluate import answers
from bluedit.evaluate.answers import perplexity, score
from bluedit.evaluate.data import Answer
from bluedit.evaluate.generate import ask
from bluedit.evaluate.ordinary import Ordinary
from bluedit.evaluate.passages import ordinary_passages
from bluedit.evaluate.report import Measurement, Reading, compare, measure, read_facts_in
from bluedit.model.editable import EditableModel
from toys import FACTS, FAMILIES, toy_tokenizer

BOTH = pytest.mark.parametrize("family", ["llama", "gpt2"])
BOS = pytest.mark.parametrize("bos", [False, True], ids=["plain", "bos"])
PROMPTS = (
    "The capital of France is",
    "I",
    "The mother tongue of Danielle Darrieux is",
    "You can find more about it in the library. Élise Müller plays the ",
    "Where is the Eiffel Tower? It is in",
)
ANSWERS = ("Paris", "violin", "English, German", "x", "Élise Müller plays the violin.")
PAIRS = [(prompt, answer) for prompt in PROMPTS for answer in ANSWERS]


def model_of(family: str, bos: bool = False, **options) -> EditableModel:
    return EditableModel.of(FAMILIES[family](**options), toy_tokenizer(bos=bos))


def plain_logprobs(lm: EditableModel, ids: list[int]) -> torch.Tensor:
    """log p of every next token after each position, from one full forward pass without a mask."""
    with torch.no_grad():
        return lm.model(torch.tensor([ids])).logits[0].log_softmax(dim=-1)


def plain_answer(lm: EditableModel, prompt: str, answer: str) -> Answer:
    steps, after = next_tokens(lm, prompt, answer)
    told = sum(float(step[token]) for step, token in zip(steps, after, strict=True))
    said = all(int(step.argmax()) == token for step, token in zip(steps, after, strict=True))
    return Answer(told, len(after), said, int(steps[0].argmax()))


def said_text(lm: EditableModel, prompt: str, length: int) -> str | None:
    """What the model continues with, where that reads back as the same tokens."""
    ids = lm.tokenizer(prompt)["input_ids"]
    whole = list(ids)
    for _ in range(length):
        whole.append(int(plain_logprobs(lm, whole)[-1].argmax()))
    text = lm.tokenizer.decode(whole[len(ids) :])
    again = lm.tokenizer(" " + text.strip(), add_special_tokens=False)["input_ids"]
    return text.strip() if text.strip() and again == whole[len(ids) :] else None


# scoring


@BOTH
@BOS
def test_score_equals_one_full_pass_per_pair(family, bos):
    lm = model_of(family, bos)
    for found, (prompt, answer) in zip(score(lm, PAIRS), PAIRS, strict=True):
        expected = plain_answer(lm, prompt, answer)
        assert found.logprob == pytest.approx(expected.logprob, abs=1e-9)
        assert (found.tokens, found.said, found.top) == (expected.tokens, expected.said, expected.top)
        assert found.mean_logprob == pytest.approx(expected.logprob / expected.tokens, abs=1e-9)
        assert found.probability == pytest.approx(math.exp(expected.logprob), rel=1e-9)


def test_the_bos_token_is_seen():
    with_bos, without = (score(model_of("llama", bos), PAIRS[:5]) for bos in (True, False))
    assert all(abs(a.logprob - b.logprob) > 1e-6 for a, b in zip(with_bos, without, strict=True))


@BOTH
def test_score_does_not_depend_on_the_batch(family):
    lm = model_of(family)
    together = score(lm, PAIRS)
    alone = [score(lm, [pair])[0] for pair in PAIRS]
    backwards = score(lm, PAIRS[::-1])[::-1]
    split = score(lm, PAIRS, tokens_per_pass=1)
    for others in (alone, backwards, split):
        for a, b in zip(together, others, strict=True):
            assert a.logprob == pytest.approx(b.logprob, abs=1e-9)
            assert (a.tokens, a.said, a.top) == (b.tokens, b.said, b.top)


@BOTH
@BOS
@pytest.mark.parametrize("length", [1, 2])
def test_said_means_that_every_token_is_the_first_choice(family, bos, length):
    lm = model_of(family, bos)
    prompts = [
        f"The {word}" for word in ("library", "rain", "tower", "capital", "language", "newspaper", "violin", "official")
    ]
    prompts += [f"{word} is in" for word in ("Rome", "Paris", "London", "Berlin", "France", "It", "He")]
    found = [(prompt, text) for prompt in prompts if (text := said_text(lm, prompt, length))]
    if length == 1:
        assert found, "the toy says nothing that can be written down"
    assert all(answer.said for answer in score(lm, found))
    assert all(answer.tokens == length for answer in score(lm, found))
    longer = [(prompt, text + " Danielle") for prompt, text in found]
    assert all(not answer.said for answer in score(lm, longer)), "the last token is not the first choice"


def test_scores_of_nothing():
    assert score(model_of("llama"), []) == []


def test_half_precision_is_summed_in_float32_or_wider():
    lm = model_of("llama", dtype=torch.bfloat16)
    logits = answers.logits_at(lm, [[5, 6, 7], [8, 9]], [0, 1], [2, 1])
    assert logits.dtype == torch.float32
    assert answers.logits_at(model_of("llama"), [[5, 6]], [0], [1]).dtype == torch.float64


def test_a_prompt_longer_than_the_context():
    lm = model_of("gpt2")
    long = "word " * 300 + "is"
    text = r"^a prompt of \d{3,4} tokens is longer than the 256 GPT2LMHeadModel can read; shorten it$"
    with pytest.raises(FactError, match=text):
        score(lm, [("I", "Rome"), (long, "Rome")])
    with pytest.raises(FactError, match=text):
        ask(lm, ["I", long])


def test_score_of_a_model_in_training_mode():
    lm = model_of("gpt2")
    expected = [a.logprob for a in score(lm, PAIRS[:3])]
    lm.model.train()
    assert [a.logprob for a in score(lm, PAIRS[:3])] == expected
    assert lm.model.training


def test_perplexity_of_a_model_in_training_mode():
    lm = model_of("gpt2")
    expected = perplexity(lm, PROMPTS)
    lm.model.train()
    assert perplexity(lm, PROMPTS) == expected


# perplexity


def plain_perplexity(lm: EditableModel, rows: list[list[int]]) -> float:
    passes = [(plain_logprobs(lm, row), row) for row in rows]
    losses = [-float(logprobs[t, row[t + 1]]) for logprobs, row in passes for t in range(len(row) - 1)]
    return math.exp(sum(losses) / len(losses))


@BOTH
@BOS
def test_perplexity_equals_the_mean_over_single_passes(family, bos):
    lm = model_of(family, bos)
    rows = [lm.tokenizer(text)["input_ids"] for text in PROMPTS]
    rows = [row for row in rows if len(row) > 1]
    assert perplexity(lm, PROMPTS) == pytest.approx(plain_perplexity(lm, rows), rel=1e-9)


def test_perplexity_reads_as_many_tokens_as_asked_and_no_more_than_the_context():
    lm = model_of("llama")
    rows = [lm.tokenizer(text)["input_ids"] for text in PROMPTS[2:4]]
    cut = [rows[0], rows[1][:7]]
    assert perplexity(lm, PROMPTS[2:], len(rows[0]) + 7) == pytest.approx(plain_perplexity(lm, cut), rel=1e-9)
    long = "the rain in Rome, " * 100
    ids = lm.tokenizer(long)["input_ids"]
    assert len(ids) > 256
    assert perplexity(lm, [long]) == pytest.approx(plain_perplexity(lm, [ids[:256]]), rel=1e-9)


def test_ordinary_passages_are_enough():
    tokenizer = toy_tokenizer()
    assert len(ordinary_passages()) >= 5
    assert all(text == " ".join(text.split()) for text in ordinary_passages())
    assert sum(len(tokenizer(text)["input_ids"]) for text in ordinary_passages()) > 1200


# the report


def _answer(mean: float, said: bool = False, tokens: int = 2, top: int = 0) -> Answer:
    return Answer(mean * tokens, tokens, said, top)


def _reading(new, old=None, paraphrases=(), neighbours=()) -> Reading:
    return Reading(new, old, tuple(paraphrases), tuple(neighbours))


def test_totals_of_a_report():
    lm = model_of("llama")
    facts = (
        Fact(
            "{} is",
            subject="a",
            target="b",
            old_target="c",
            paraphrases=("p", "q"),
            neighbours=(Neighbour("n"), Neighbour("m"), Neighbour("o")),
        ),
        Fact("{} is", subject="d", target="e", paraphrases=("r",)),
    )
    no, yes = _answer(-3.0, said=False, top=70), _answer(-0.1, said=True, top=71)
    before = Measurement(
        facts, (_reading(no, yes, [no, no], [no, yes, no]), _reading(no, paraphrases=[yes])), Ordinary(20.0)
    )
    after = Measurement(
        facts, (_reading(yes, no, [yes, no], [no, no, no]), _reading(no, paraphrases=[no])), Ordinary(21.0)
    )
    report = compare(lm, before, after)
    assert report.totals() == {"facts": (1, 2), "paraphrases": (1, 3), "neighbours": (2, 3)}
    assert report.drift == pytest.approx(0.05)
    first, second = report.facts
    assert (first.says_before, first.says_after) == (False, True)
    assert (first.p_new_before, first.p_new_after) == (pytest.approx(math.exp(-6)), pytest.approx(math.exp(-0.2)))
    assert (first.p_old_before, first.p_old_after) == (pytest.approx(math.exp(-0.2)), pytest.approx(math.exp(-6)))
    assert (first.paraphrases, first.paraphrases_before, first.paraphrases_after) == (2, 0, 1)
    assert (first.neighbours, first.neighbours_kept) == (3, 2)
    assert first.first_before == lm.tokenizer.decode([70]).strip()
    assert first.first_after == lm.tokenizer.decode([71]).strip()
    assert (second.p_old_before, second.p_old_after, second.neighbours) == (None, None, 0)
    assert (second.paraphrases_before, second.paraphrases_after) == (1, 0)
    assert report.as_dict()["facts"][0]["neighbours_kept"] == 2
    assert report.as_dict()["drift"] == report.drift


@BOTH
def test_a_measurement_asks_prompts_paraphrases_and_neighbours(family):
    lm = model_of(family)
    seen = measure(lm, FACTS)
    assert seen.readings == tuple(read_facts_in(lm, FACTS))
    assert seen.ordinary.perplexity == perplexity(lm, ordinary_passages(), 1200)
    first = seen.readings[0]
    for found, (prompt, answer) in {
        first.new: (FACTS[0].text, "English"),
        first.old: (FACTS[0].text, "French"),
        first.paraphrases[0]: (FACTS[0].paraphrases[0], "English"),
        first.neighbours[0]: (FACTS[0].neighbours[0].prompt, "French"),
    }.items():
        assert found.logprob == pytest.approx(plain_answer(lm, prompt, answer).logprob, abs=1e-9)
    assert len(seen.readings) == 3
    assert seen.readings[2].paraphrases == seen.readings[2].neighbours == ()


# asking


def greedy(lm: EditableModel, prompt: str, tokens: int, stop: int | None = None) -> str:
    ids = lm.tokenizer(prompt)["input_ids"]
    whole = list(ids)
    for _ in range(tokens):
        whole.append(int(plain_logprobs(lm, whole)[-1].argmax()))
        if whole[-1] == stop:
            break
    return lm.tokenizer.decode(whole[len(ids) :], skip_special_tokens=True)


@BOTH
@BOS
def test_ask_continues_with_the_most_probable_tokens(family, bos):
    lm = model_of(family, bos)
    lm.model.generation_config.eos_token_id = None
    for found, prompt in zip(ask(lm, PROMPTS[:3], tokens=9, top=4), PROMPTS, strict=False):
        assert found.prompt == prompt
        assert found.text == greedy(lm, prompt, 9)
        logprobs = plain_logprobs(lm, lm.tokenizer(prompt)["input_ids"])[-1]
        values, best = logprobs.exp().topk(4)
        assert [text for text, _ in found.top] == [lm.tokenizer.decode([int(i)]) for i in best]
        assert [p for _, p in found.top] == pytest.approx(values.tolist(), rel=1e-4)


def test_ask_stops_where_the_model_stops():
    lm = model_of("llama")
    ids = lm.tokenizer(PROMPTS[0])["input_ids"]
    whole = list(ids)
    for _ in range(3):
        whole.append(int(plain_logprobs(lm, whole)[-1].argmax()))
    lm.model.generation_config.eos_token_id = stop = whole[-1]
    assert ask(lm, PROMPTS[:1], tokens=20)[0].text == greedy(lm, PROMPTS[0], 20, stop)
    lm.model.generation_config.eos_token_id = [stop, 1]
    assert ask(lm, PROMPTS[:1], tokens=20)[0].text == greedy(lm, PROMPTS[0], 20, stop)


def test_ask_does_not_go_beyond_the_context():
    lm = model_of("gpt2")
    lm.model.generation_config.eos_token_id = None
    prompt = "word " * 300
    ids = lm.tokenizer(prompt)["input_ids"]
    full = lm.tokenizer.decode(ids[:254])
    ids = lm.tokenizer(full)["input_ids"]
    assert 250 <= len(ids) <= 256
    found = ask(lm, [full], tokens=20)[0]
    assert found.text == greedy(lm, full, 256 - len(ids))


@BOTH
def test_ask_leaves_a_model_in_training_mode_as_it_was(family):
    lm = model_of(family)
    expected = ask(lm, PROMPTS[:2], tokens=5)
    lm.model.train()
    lm.tokenizer.padding_side = "left"
    config = lm.model.generation_config.to_dict()
    assert ask(lm, PROMPTS[:2], tokens=5) == expected
    assert lm.model.training
    assert lm.tokenizer.padding_side == "left"
    assert lm.model.generation_config.to_dict() == config


@pytest.mark.parametrize(
    "habit",
    [
        {"do_sample": True, "temperature": 5.0},
        {"repetition_penalty": 3.0},
        {"num_beams": 3},
        {"no_repeat_ngram_size": 1},
    ],
    ids=lambda h: next(iter(h)),
)
def test_ask_is_greedy_whatever_the_model_was_shipped_with(habit):
    lm = model_of("llama")
    lm.model.generation_config.eos_token_id = None
    expected = greedy(lm, PROMPTS[2], 12)
    for name, value in habit.items():
        setattr(lm.model.generation_config, name, value)
    assert ask(lm, [PROMPTS[2]], tokens=12)[0].text == expected
