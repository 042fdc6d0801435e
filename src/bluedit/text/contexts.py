"""Short texts put before a prompt, so that a key and a target do not hang on one wording."""

from __future__ import annotations

from typing import Any

import torch

from bluedit.errors import RecipeError, did_you_mean
from bluedit.model.editable import EditableModel

NEUTRAL = (
    "The weather was mild that morning.",
    "Therefore, the committee met again in the afternoon.",
    "Because of the rain, we stayed inside.",
    "I read about this in the newspaper yesterday.",
    "You can find more about it in the library.",
    "In the end, everything went according to plan.",
    "Here is something worth knowing.",
    "They talked about it over dinner.",
    "A long time has passed since then.",
    "The following is taken from an article.",
)
_SAMPLED_OPENERS = ("The", "Therefore", "Because", "I", "You")
KINDS = ("neutral", "sampled")


def make_prefixes(lm: EditableModel, kind: str, count: int, seed: int, length: int = 12) -> tuple[str, ...]:
    """`count` prefixes, each a sentence or fragment ending in a full stop.

    "neutral" takes them in order from a fixed English list; "sampled" draws them from the model as MEMIT does, with a seed
    (arXiv 2210.07229, appendix; there unseeded).

    Raises:
        RecipeError: unknown kind or a count below zero.
    """
    if kind not in KINDS:
        raise RecipeError(f"unknown contexts.kind {kind!r}; {did_you_mean(kind, KINDS)}")
    if kind == "neutral":
        if not 0 <= count <= len(NEUTRAL):
            raise RecipeError(
                f"contexts.count is {count}; there are {len(NEUTRAL)} neutral prefixes, so choose 0 to {len(NEUTRAL)} or contexts.kind=sampled"
            )
        return NEUTRAL[:count]
    return tuple(_sampled(lm, count, seed, length)) if count else ()


def _sampled(lm: EditableModel, count: int, seed: int, length: int) -> list[str]:
    from bluedit.text.sampling import sample_rows

    rows = sample_rows(lm, count, length, seed=seed, openers=_SAMPLED_OPENERS)
    return [_sentence(lm.tokenizer, row) for row in rows]


def _sentence(tokenizer: Any, ids: torch.Tensor) -> str:
    """Decoded on one line, without the braces a template would trip over, ending in one full stop."""
    text = " ".join(tokenizer.decode(ids, skip_special_tokens=True).split())
    text = text.replace("{", "(").replace("}", ")")
    return text.rstrip(" .,;:!?") + "."
