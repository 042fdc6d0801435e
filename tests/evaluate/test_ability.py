"""General ability: label order as GLUE defines it, prompts few-shot, and F1 by hand."""

import json

import pytest
import torch
from evaluate_help import CannedModel, answer

from bluedit.errors import FactError
from bluedit.evaluate.ability import SHOTS, TASKS, ability, read_items, task_texts, weighted_f1
from bluedit.evaluate.answers import score
from bluedit.evaluate.data import Ability
from bluedit.evaluate.model_queries import ModelQueries
from bluedit.model.editable import EditableModel
from toys import toy_gpt2, toy_llama, toy_tokenizer

PAIR = {"sentence1": "It is in Rome.", "sentence2": "It is in Italy."}
RECORDS = {
    "sst2": ({"sentence": "a fine film", "label": 1}, "positive"),
    "mrpc": (PAIR | {"label": 1}, "yes"),
    "cola": ({"sentence": "He go.", "label": 0}, "no"),
    "rte": (PAIR | {"label": 0}, "yes"),
    "nli": (PAIR | {"label": "not_entailment"}, "no"),
    "mmlu": ({"question": "1 + 1?", "choices": ["1", "2", "3", "4"], "answer": 1}, "B"),
}


@pytest.mark.parametrize("task", TASKS)
def test_labels_are_those_of_the_data_set(task):
    record, word = RECORDS[task]
    row = TASKS[task]
    assert row.words[row.label(record)] == word
    assert all(str(v).strip() in row.ask(record) for k, v in record.items() if k.startswith(("sentence", "question")))
    assert not row.ask(record).endswith(" ")


@pytest.mark.parametrize("make", [toy_llama, toy_gpt2])
@pytest.mark.parametrize("bos", [False, True])
def test_a_shared_beginning_changes_nothing(make, bos):
    """Run once and attended to, it gives what the whole text gives."""
    lm = EditableModel.of(make(), toy_tokenizer(bos=bos), "toy")
    beginning = "The capital of France is Paris.\n\n"
    pairs = [
        (prompt, answer)
        for prompt in ("It is in", "The mother tongue of France is")
        for answer in ("Rome", "English", "x")
    ]
    fast = ModelQueries(lm).score_after(beginning, pairs)
    slow = score(lm, [(beginning + prompt, answer) for prompt, answer in pairs])
    for one, other in zip(fast, slow, strict=True):
        assert one.logprob == pytest.approx(other.logprob, rel=1e-5)
        assert one.first_choices == other.first_choices


def test_examples_longer_than_the_model_can_read_are_refused():
    lm = EditableModel.of(toy_gpt2(), toy_tokenizer(), "toy")
    with pytest.raises(FactError, match=f"is longer than the {lm.max_length} toy can read; shorten it"):
        ModelQueries(lm).score_after("The capital of France is Paris. " * 40, [("It is in", "Rome"), ("The", "Rome")])


def test_lines_end_only_where_json_lines_end(tmp_path):
    file = tmp_path / "items.jsonl"
    records = [RECORDS["sst2"][0] | {"sentence": "one\u2028sentence"}] * (SHOTS + 1)
    file.write_text("\n".join(json.dumps(record, ensure_ascii=False) for record in records), "utf-8")
    assert read_items("sst2", file) == records
    file.write_text("\n".join(json.dumps(record | {"sentence": "\ud800"}) for record in records), "utf-8")
    with pytest.raises(FactError, match="line 1: not a record of sst2"):
        read_items("sst2", file)
    file.write_text(
        "\n".join(json.dumps(record).replace('"label": ', '"label": 1e999, "was": ') for record in records), "utf-8"
    )
    with pytest.raises(FactError, match=r"line 1: not a record of sst2 \(OverflowError"):
        read_items("sst2", file)
    file.write_bytes(b"\xff")
    with pytest.raises(FactError, match="is not UTF-8 text"):
        read_items("sst2", file)


def test_the_most_probable_label_word_is_the_answer():
    records = [RECORDS["sst2"][0] | {"label": i % 2, "sentence": f"film {i}"} for i in range(SHOTS + 4)]

    def score(prompt, word):
        good = any(prompt.endswith(f"\n\nReview: film {i}\nSentiment:") for i in (5, 6, 7))
        return answer(-1.0 if good == (word == "positive") else -2.0)

    model = CannedModel(score)
    found = ability(model, "sst2", records)  # labels 0 1 0 1, answers 0 1 1 1
    assert found == Ability("sst2", 0.75, pytest.approx((2 / 3 + 4 / 5) / 2), 4)
    prompt = model.scored[0][0]
    assert prompt.startswith("Review: film 0\nSentiment: negative\n\nReview: film 1\nSentiment: positive\n\n")
    assert prompt.count("Review") == SHOTS + 1
    assert next(task_texts("sst2", records)) == f"{prompt} negative"


def test_f1_weighs_labels_by_frequency():
    assert weighted_f1([0, 0, 0, 1], [0, 0, 0, 0]) == pytest.approx(0.75 * 6 / 7)
    assert weighted_f1([0, 1], [0, 1]) == 1
    assert weighted_f1([0, 0], [1, 1]) == 0


def test_a_toy_model_is_measured(tmp_path):
    file = tmp_path / "items.jsonl"
    file.write_text("\n".join(json.dumps(RECORDS["mmlu"][0]) for _ in range(SHOTS + 3)))
    lm = EditableModel.of(toy_llama(dtype=torch.float32), toy_tokenizer(), "toy")
    found = ability(ModelQueries(lm), "mmlu", read_items("mmlu", file))
    assert found.items == 3 and found.accuracy in (0.0, 1.0)


def test_faults_come_together(tmp_path):
    file = tmp_path / "items.jsonl"
    file.write_text(
        '{"sentence": "x", "label": 1}\n{"sentence": 3, "label": 1}\nno json\n{"sentence": "x", "label": 7}\n'
    )
    with pytest.raises(FactError) as caught:
        read_items("sst2", file)
    assert [f"jsonl, line {n}:" in str(caught.value) for n in (1, 2, 3, 4)] == [False, True, True, True]
    with pytest.raises(FactError, match="unknown task 'sst'; did you mean 'sst2'"):
        read_items("sst", file)
    with pytest.raises(FactError, match="cannot read"):
        read_items("sst2", tmp_path / "none")
    file.write_text('{"sentence": "x", "label": 1}\n')
    with pytest.raises(FactError, match="holds 1 records; 4 are shown as examples"):
        read_items("sst2", file)
