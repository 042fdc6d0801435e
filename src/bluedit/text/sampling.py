"""Text sampled from the model itself: the default corpus for key statistics, and prefixes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import nn

from bluedit.errors import StatisticsError
from bluedit.model.editable import EditableModel
from bluedit.model.precision import reduced_linears
from bluedit.progress import Advance, Progress
from bluedit.shapes import Float, Int, Tensor
from bluedit.text._reading import Reader, reader_for
from bluedit.text.prompts import encode

OPENERS = (
    "The", "In", "A", "It", "He", "She", "This", "We", "They", "When", "There", "As", "For", "At", "After", "One",
    "On", "But", "If", "I", "You", "From", "Many", "While", "Some", "An", "Since", "During", "Most", "With", "By", "Its",
)  # fmt: skip
_RUN = 256  # tokens
_CACHE_BYTES = 4 * 2**30  # of attention keys and values, at most, for the rows that are sampled together
_LOGITS = 2**26  # of the rows that are sampled together, at most
_DRAWN = 2**20  # logits that are turned into probabilities at a time: these stay in a processor's cache


@torch.no_grad()
def sample_rows(
    lm: EditableModel,
    count: int,
    length: int,
    *,
    seed: int,
    openers: tuple[str, ...] = OPENERS,
    start: Sequence[int] = (),
    progress: Progress | None = None,
) -> Int[Tensor, "count length"]:
    """Token rows sampled from the model at temperature 1.

    Linear maps run in bfloat16 where that is native, since text needs no exact logits. Many rows of a large model, or of one with a
    large vocabulary, are sampled in parts; their size depends only on the model and the length. One seed gives the same rows on one
    machine. On CUDA a token can very rarely differ, because cumulative sums may round differently from call to call.

    Args:
        lm: the model.
        count: number of rows.
        length: tokens of a row, opener included.
        seed: of a generator of its own; torch's global random state is neither used nor changed.
        openers: first words of the rows, in turn. All are cut to as many tokens as the shortest has; those without a token are left out.
            No special token follows.
        start: token ids that every row begins with instead; special tokens may follow.
        progress: where to report.

    Raises:
        StatisticsError: no opener gives a token.
    """
    starts = [list(start)] if start else [found for opener in openers if (found := encode(lm.tokenizer, opener)[0])]
    if not starts:
        raise StatisticsError(
            f"the tokenizer makes no token of {', '.join(map(repr, openers))}, so no text can be sampled; name a corpus file"
        )
    width = min(map(len, starts))
    starts = [one[:width] for one in starts]
    ids = torch.tensor([starts[i % len(starts)] for i in range(count)], device=lm.device)
    special = [] if start else sorted(set(lm.tokenizer.all_special_ids))
    banned = torch.tensor(special, device=lm.device, dtype=torch.long)
    reduced = reduced_linears(lm, "auto", lm.anatomy.blocks, lm.anatomy.head)
    parts = ids.split(_rows_together(lm, length))
    kind = reader_for(lm)
    task = (progress or Progress()).task("sampling text from the model", len(parts) * (length - width), "steps")
    with task as advance, reduced.active() if reduced else nullcontext():
        return torch.cat([_drawn(kind, lm, part, length, seed + i, banned, advance) for i, part in enumerate(parts)])


def _rows_together(lm: EditableModel, length: int) -> int:
    config = lm.model.config.get_text_config()
    cached = 2 * lm.anatomy.n_layers * config.hidden_size * lm.dtype.itemsize * length  # less with grouped queries
    return max(1, min(_CACHE_BYTES // cached, _LOGITS // config.vocab_size))


def _drawn(
    kind: type[Reader],
    lm: EditableModel,
    ids: Int[Tensor, "rows width"],
    length: int,
    seed: int,
    banned: Tensor,
    advance: Advance,
) -> Int[Tensor, "rows length"]:
    """Rows continued to `length` tokens."""
    generator = torch.Generator(device=lm.device).manual_seed(seed)
    reader, step = kind(lm, length), ids
    for _ in range(length - ids.shape[1]):
        logits = reader.read(step)
        logits[:, banned[banned < logits.shape[-1]]] = -torch.inf  # a tokenizer may have more tokens than the model
        step = _draw(logits, generator)
        ids = torch.cat([ids, step], dim=1)
        advance()
    return ids


def _draw(logits: Float[Tensor, "count vocabulary"], generator: torch.Generator) -> Int[Tensor, "count 1"]:
    """One token for each row, by inverse transform sampling; a few rows at a time, since passes over memory would take most of the time."""
    level = 1 - torch.rand(len(logits), 1, generator=generator, device=logits.device)  # above 0: no impossible token
    some = max(1, _DRAWN // logits.shape[-1])
    return torch.cat(
        [_token_at(part.float(), at) for part, at in zip(logits.split(some), level.split(some), strict=True)]
    )


def _token_at(logits: Float[Tensor, "some vocabulary"], level: Float[Tensor, "some 1"]) -> Int[Tensor, "some 1"]:
    """The token of each row at which the cumulative probability reaches `level`: first a run of tokens, then the token within it."""
    chances = logits.softmax(dim=-1)
    if over := chances.shape[-1] % _RUN:
        chances = nn.functional.pad(chances, (0, _RUN - over))
    chances = chances.unflatten(-1, (-1, _RUN))
    runs = chances.sum(dim=-1).cumsum(dim=-1)
    level = level * runs[:, -1:]
    # NaN, which the statistics report, sorts behind everything
    run = torch.searchsorted(runs, level).clamp(max=runs.shape[-1] - 1)
    before = nn.functional.pad(runs, (1, 0)).gather(1, run)
    within = chances[torch.arange(len(run), device=run.device), run[:, 0]].cumsum(dim=-1)
    token = torch.searchsorted(within, (level - before).minimum(within[:, -1:]))
    return (run * _RUN + token).clamp(max=logits.shape[-1] - 1)
