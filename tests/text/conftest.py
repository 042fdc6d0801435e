"""A toy model with a tokenizer that begins texts with a special token, and a file of text."""

import pytest

from bluedit.model.editable import EditableModel
from toys import corpus_in, toy_llama, toy_tokenizer


@pytest.fixture
def lm():
    return EditableModel.of(toy_llama(), toy_tokenizer(bos=True), "llama")


@pytest.fixture
def corpus(tmp_path):
    return corpus_in(tmp_path)
