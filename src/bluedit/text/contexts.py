"""Prefixes sampled from the model: short texts put before a prompt, so that keys and targets do not depend on a single context."""

from __future__ import annotations

from typing import Any

import torch

from bluedit.model.editable import EditableModel
from bluedit.text.sampling import sample_rows

_OPENERS = ("The", "Therefore", "Because", "I", "You")


def sampled_prefixes(lm: EditableModel, count: int, seed: int, length: int = 12) -> tuple[str, ...]:
    """`count` texts of `length` tokens drawn from the model as MEMIT does (arXiv 2210.07229, appendix), each ending in a full stop."""
    rows = sample_rows(lm, count, length, seed=seed, openers=_OPENERS)
    return tuple(_sentence(lm.tokenizer, row) for row in rows)


def _sentence(tokenizer: Any, ids: torch.Tensor) -> str:
    """Decoded on one line, without braces, which a template would take for its placeholder, ending in one full stop."""
    text = " ".join(tokenizer.decode(ids, skip_special_tokens=True).split())
    text = text.replace("{", "(").replace("}", ")")
    return text.rstrip(" .,;:!?") + "."
