"""How far the logits of a model with an adapter are from those of the edited model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from bluedit.export.base import Edits
from bluedit.export.factors import Factors
from bluedit.methods.contexts import NEUTRAL
from bluedit.model.editable import EditableModel
from bluedit.model.hooks import Hook, hooked
from bluedit.shapes import Float, Tensor
from bluedit.text.prompts import encode
from bluedit.writing.weights import EditedWeights

_FACTS = 8  # prompts of facts that are compared, at most


@dataclass(frozen=True)
class LogitError:
    """What an adapter changes beside the edited weights.

    Attributes:
        largest: largest difference of a logit.
        scale: standard deviation of the logits, to compare it with.
        same, positions: at how many positions the most probable token is the same, and of how many.
    """

    largest: float
    scale: float
    same: int
    positions: int

    def __str__(self) -> str:
        return (
            f"{self.largest:.2g} (logits have a standard deviation of {self.scale:.2g}); the most probable token is the same at "
            f"{self.same} of {self.positions} positions"
        )


@torch.no_grad()
def logit_error(lm: EditableModel, edits: Edits, factors: Sequence[Factors], dtype: str) -> LogitError:
    """Compare the edited model with the unedited one plus an adapter, on prompts of facts and a few neutral sentences.

    The model is unedited, and is so again afterwards.
    """
    texts = [*(fact.text for fact in edits.facts[:_FACTS]), *NEUTRAL]
    rows = [encode(lm.tokenizer, text)[0][: lm.max_length] for text in texts]
    with hooked([_adapter(lm, each, dtype) for each in factors]):
        found = _logits(lm, rows)
    with _edited(lm, edits):
        due = _logits(lm, rows)
    largest = max(float((a - b).abs().max()) for a, b in zip(found, due, strict=True))
    same = sum(int((a.argmax(-1) == b.argmax(-1)).sum()) for a, b in zip(found, due, strict=True))
    return LogitError(largest, float(torch.cat(due).std()), same, sum(map(len, due)))


def _logits(lm: EditableModel, rows: Sequence[list[int]]) -> list[Float[Tensor, "tokens vocabulary"]]:
    return [
        lm.run(input_ids=torch.tensor([row], device=lm.device), use_cache=False).logits[0].float()
        for row in rows
        if row
    ]


def _adapter(lm: EditableModel, factors: Factors, dtype: str) -> Hook:
    """The adapter's branch as PEFT computes it: in float32 from factors of the dtype."""
    B, A = (part.to(lm.device, torch.float32) for part in factors.cast(dtype))

    def add(_module: object, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output + (args[0].float() @ A.T @ B.T).to(output.dtype)

    hook: Callable[..., Tensor] = add
    return lm.projection(factors.layer).module, "forward", hook


@contextmanager
def _edited(lm: EditableModel, edits: Edits) -> Iterator[None]:
    weights = EditedWeights(lm)
    try:
        for batch in edits.batches:
            weights.repeat(batch)
        yield
    finally:
        weights.reset()
