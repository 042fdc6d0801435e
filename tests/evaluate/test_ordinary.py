"""What a model does with ordinary text is measured once for its weights."""

import logging
from dataclasses import replace

import pytest
import torch
from report_help import chat_tokenizer

from bluedit import Editor, Fact
from bluedit.editing import _measured
from bluedit.evaluate.ordinary import OrdinaryStore
from bluedit.evaluate.report import measure_ordinary
from bluedit.model.editable import EditableModel
from bluedit.progress import Progress
from toys import FACTS, toy_llama


@pytest.fixture
def lm():
    torch.manual_seed(0)
    found = EditableModel.of(toy_llama(), chat_tokenizer())
    found.model.config.max_position_embeddings = 1024
    return found


@pytest.fixture
def measured(lm):
    """Measures the model; its `times` counts how often."""

    def measure():
        measure.times += 1
        return measure_ordinary(lm, Progress())

    measure.times = 0
    return measure


def same(one, other):
    assert (one.perplexity, one.chat_perplexity) == (other.perplexity, other.chat_perplexity)
    assert [(h.form, h.prompt, h.text) for h in one.heard] == [(h.form, h.prompt, h.text) for h in other.heard]
    assert all(torch.equal(a.first, b.first) for a, b in zip(one.heard, other.heard, strict=True))


def test_the_unedited_model_is_measured_once_for_all_processes(lm, measured, tmp_path):
    found = OrdinaryStore(lm, "weights", tmp_path).get("weights", measured)
    again = OrdinaryStore(lm, "weights", tmp_path).get("weights", measured)
    same(found, again)
    assert measured.times == 1
    OrdinaryStore(lm, "others", tmp_path).get("others", measured)
    assert measured.times == 2, "other weights are measured on their own"


def test_edited_weights_are_kept_in_memory_only(lm, measured, tmp_path):
    store = OrdinaryStore(lm, "weights", tmp_path)
    store.get("edited", measured)
    store.get("edited", measured)
    assert measured.times == 1 and not list(tmp_path.iterdir())
    store.get("edited again", measured)
    assert measured.times == 2


def test_a_model_with_adapters_is_measured_each_time(lm, measured, tmp_path):
    store = OrdinaryStore(replace(lm, adapters=object()), "weights", tmp_path)
    store.get("weights", measured)
    store.get("weights", measured)
    assert measured.times == 2 and not list(tmp_path.iterdir())


def test_another_template_is_another_model(lm, measured, tmp_path):
    OrdinaryStore(lm, "weights", tmp_path).get("weights", measured)
    lm.tokenizer.chat_template = lm.tokenizer.chat_template.replace("assistant: ", "answer: ")
    OrdinaryStore(lm, "weights", tmp_path).get("weights", measured)
    assert measured.times == 2


def test_a_damaged_file_is_measured_again(lm, measured, tmp_path, caplog):
    OrdinaryStore(lm, "weights", tmp_path).get("weights", measured)
    (file,) = tmp_path.iterdir()
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        OrdinaryStore(lm, "weights", tmp_path).get("weights", measured)
    assert measured.times == 2 and "measured again" in caplog.text
    OrdinaryStore(lm, "weights", tmp_path).get("weights", measured)
    assert measured.times == 2


def test_a_folder_that_cannot_be_written_costs_only_time(lm, measured, tmp_path):
    (tmp_path / "file").write_text("")
    OrdinaryStore(lm, "weights", tmp_path / "file" / "below").get("weights", measured)
    assert measured.times == 1


def test_questions_that_name_a_subject_are_left_out(lm):
    found = measure_ordinary(lm, Progress())
    fact = Fact("The capital of {} is", subject="Japan", target="Kyoto")
    less = found.beside([fact])
    assert 0 < len(found.heard) - len(less.heard) < 4
    assert not any("Japan" in one.prompt for one in less.heard) and any("Japan" in one.prompt for one in found.heard)


def test_the_report_after_one_edit_is_that_before_the_next(lm, measured, tmp_path, monkeypatch):
    monkeypatch.setattr(_measured, "measure_ordinary", lambda *_: measured())
    editor = Editor(lm, tokens=400, statistics=tmp_path)
    reports = [editor.edit(fact, "memit-seq-blue", known="edit").report for fact in FACTS[:2]]
    assert measured.times == 1, "only the unedited model is measured before an edit"
    assert reports[1].perplexity_before == reports[0].perplexity_after
    editor.undo()
    third = editor.edit(FACTS[2], "memit-seq-blue", known="edit").report
    assert third.perplexity_before == reports[0].perplexity_after and measured.times == 2
