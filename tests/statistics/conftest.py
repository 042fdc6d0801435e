"""A toy model and a file of text."""

import pytest
from statistics_help import toy

from toys import corpus_in


@pytest.fixture
def lm():
    return toy()


@pytest.fixture
def corpus(tmp_path):
    return corpus_in(tmp_path)
