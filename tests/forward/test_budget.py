"""Tokens per step follow free memory and the model's width; padding stays small on real prompts."""

import pytest
import torch

import bluedit.forward._budget as module
from bluedit.facts import world_facts
from bluedit.forward._budget import tokens_per_step
from bluedit.model.editable import EditableModel
from bluedit.model.memory import free_memory
from bluedit.text.prompts import rows_of
from bluedit.text.rows import groups_by_length
from toys import toy_gpt2, toy_tokenizer

PREFIXES = (
    "The weather was mild that morning.",
    "Therefore, the committee met again in the afternoon.",
    "Because of the rain, we stayed inside.",
    "I read about this in the newspaper yesterday.",
    "You can find more about it in the library.",
)


@pytest.fixture(scope="module")
def lm():
    return EditableModel.of(toy_gpt2(), toy_tokenizer(), "toy")


def test_free_memory_is_a_plausible_number():
    assert 2**26 < free_memory(torch.device("cpu")) < 2**45


def test_more_memory_more_tokens_within_bounds(lm, monkeypatch):
    found = []
    for free in (0, 2**24, 2**25, 2**50):
        monkeypatch.setattr(module, "free_memory", lambda _device, free=free: free)
        found.append(tokens_per_step(lm))
    assert found[0] == 64 and found[-1] == 2048
    assert found == sorted(found) and 64 < found[1] < found[2] < 1024


def test_little_is_padded(lm):
    """Suffixes of a hundred bundled facts with five prefixes: less than 15 % of what runs is padding."""
    rows = rows_of(lm.tokenizer, world_facts(100), PREFIXES, drift=True)
    lengths = sorted(row.suffix for row in rows)
    padded = sum(len(group) * max(lengths[i] for i in group) for group in groups_by_length(lengths))
    assert sum(lengths) <= padded < sum(lengths) / 0.85
