"""Sampled continuations of many prompts of different lengths.

Prompts run side by side over cached keys and values. The result is checked on two rows against the plain forward; where it differs, or a
model cannot run so, prompts of equal length run together through `generate`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from bluedit.errors import FAMILY_ERRORS, out_of_memory
from bluedit.evaluate._lanes import Lanes, end_tokens
from bluedit.evaluate.answers import check_finite, logits_at
from bluedit.evaluate.generate import continuations, drawn, gumbel_noise
from bluedit.forward import past_of
from bluedit.model.precision import TOLERANCE
from bluedit.model.state import frozen
from bluedit.progress import Progress
from bluedit.text.prompts import encode

if TYPE_CHECKING:
    from torch import Tensor

    from bluedit.evaluate.data import Sampling
    from bluedit.model.editable import EditableModel

log = logging.getLogger(__name__)


@torch.no_grad()
def sampled(
    lm: EditableModel, prompts: Sequence[str], sampling: Sampling, progress: Progress, prompts_per_pass: int
) -> list[str]:
    """Continue each prompt by sampled text. A text depends on its prompt and the seed alone, up to rounding.

    Raises:
        FactError: a prompt is longer than the model's context.
        ModelError: the model's logits are not finite.
    """
    rows = [encode(lm.tokenizer, prompt)[0] for prompt in prompts]
    if not rows:
        return []
    lm.pad([max(rows, key=len)])
    with frozen(lm.model):
        try:
            texts = _side_by_side(lm, prompts, rows, sampling, progress, prompts_per_pass)
            if _agrees(lm, rows, texts):
                return [lm.tokenizer.decode(text.tokens, skip_special_tokens=True) for text in texts]
            why = "its logits differ from the plain forward's"
        except FAMILY_ERRORS as error:
            if out_of_memory(error):
                raise
            why = f"{type(error).__name__}: {error}"
    log.info("%s continues prompts of equal length together: %s", lm.name, why)
    return continuations(lm, prompts, sampling, progress, prompts_per_pass=prompts_per_pass)


@dataclass
class _Text:
    """A continuation.

    Attributes:
        tokens: so far.
        seen: of rows that are checked, the largest logits at each token: values and ids.
    """

    tokens: list[int] = field(default_factory=list)
    seen: list[tuple[Tensor, Tensor]] = field(default_factory=list)


def _side_by_side(
    lm: EditableModel,
    prompts: Sequence[str],
    rows: Sequence[Sequence[int]],
    sampling: Sampling,
    progress: Progress,
    prompts_per_pass: int,
) -> list[_Text]:
    texts = [_Text() for _ in rows]
    rooms = [min(sampling.tokens, lm.max_length - len(row)) for row in rows]
    stops, checked = sorted(end_tokens(lm)), _checked(rows)
    order = sorted((i for i, room in enumerate(rooms) if room > 0), key=lambda i: len(rows[i]))
    with progress.task("continuing prompts", len(order), "prompts") as advance:
        for start in range(0, len(order), prompts_per_pass):
            part = order[start : start + prompts_per_pass]
            lanes = Lanes(lm, part, [rows[i] for i in part], past_of(lm, [rows[i][:-1] for i in part]))
            noise = dict(zip(part, gumbel_noise(sampling, [prompts[i] for i in part]).unbind(dim=1), strict=True))
            for step in range(sampling.tokens):
                if not lanes.numbers:
                    break
                own = torch.stack([noise[i][step] for i in lanes.numbers])
                logits = lanes.step(lambda scores, own=own: drawn(_without(scores, stops), own))
                check_finite(lm, logits)
                for lane, (i, token) in enumerate(zip(lanes.numbers, lanes.tokens.tolist(), strict=True)):
                    texts[i].tokens.append(token)
                    if i in checked:
                        values, ids = logits[lane].topk(min(sampling.top_k, logits.shape[1]))
                        texts[i].seen.append((values, ids))
                lanes.keep([lane for lane, i in enumerate(lanes.numbers) if len(texts[i].tokens) < rooms[i]])
            advance(len(part))
    return texts


def _without(scores: Tensor, tokens: Sequence[int]) -> Tensor:
    """Logits (rows x vocabulary) with some tokens ruled out."""
    known = [token for token in tokens if token < scores.shape[-1]]  # some configurations name one that is not there
    return scores.index_fill(-1, torch.tensor(known, device=scores.device, dtype=torch.long), -torch.inf)


def _checked(rows: Sequence[Sequence[int]]) -> set[int]:
    """The shortest row and the longest."""
    return {pick(range(len(rows)), key=lambda i: len(rows[i])) for pick in (min, max)}


def _agrees(lm: EditableModel, rows: Sequence[Sequence[int]], texts: Sequence[_Text]) -> bool:
    """Whether the largest logits at each token of the checked rows are the plain forward's, up to rounding."""
    some = sorted(i for i in _checked(rows) if texts[i].seen)
    if not some:
        return True
    whole = [[*rows[i], *texts[i].tokens[:-1]] for i in some]
    lanes = [lane for lane, i in enumerate(some) for _ in texts[i].seen]
    plain = logits_at(lm, whole, lanes, [len(rows[i]) - 1 + t for i in some for t in range(len(texts[i].seen))])
    values, ids = (torch.stack(part) for part in zip(*(seen for i in some for seen in texts[i].seen), strict=True))
    return bool(((plain.gather(1, ids) - values.to(plain)).abs() <= TOLERANCE[lm.dtype]).all())
