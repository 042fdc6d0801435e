"""Scoring answers to prompts that follow the same few-shot examples: the examples are run once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bluedit.evaluate.answers import score_encoded
from bluedit.forward import past_of, shared_length
from bluedit.text.prompts import encode_answer

if TYPE_CHECKING:
    from bluedit.evaluate.data import Answer
    from bluedit.model.editable import EditableModel
    from bluedit.progress import Progress


def score_after(
    lm: EditableModel, beginning: str, pairs: Sequence[tuple[str, str]], progress: Progress | None = None
) -> list[Answer]:
    """Score each (prompt, answer) pair with `beginning` before its prompt. The tokens that all prompts share are run once and
    attended to from the cache.

    Raises:
        FactError: beginning and prompt together are longer than the model's context.
    """
    encoded = [encode_answer(lm.tokenizer, beginning + prompt, answer) for prompt, answer in pairs]
    prompts = [prompt for prompt, _ in encoded]
    shared = min((min(shared_length(prompts[0], prompt), len(prompt) - 1) for prompt in prompts), default=0)
    past = past_of(lm, [prompts[0][:shared]]) if shared else None
    return score_encoded(lm, [(prompt[shared:], answer) for prompt, answer in encoded], progress, past=past)
