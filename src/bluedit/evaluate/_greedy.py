"""Greedy continuations of many prompts of different lengths, with the distribution of the first token.

Prompts run side by side over cached keys and values; what several of them begin with, such as a system prompt, runs once. Rows leave the
batch as they end. Where a continuation is foretold, its tokens are checked in one pass. The result is checked on two rows against the
plain forward; where it differs, or a model cannot run so, prompts of equal length run together through `generate`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from bluedit.errors import FAMILY_ERRORS, out_of_memory
from bluedit.evaluate._lanes import Lanes, end_tokens
from bluedit.evaluate._respondent import Ended, Written, never
from bluedit.evaluate.answers import TOKENS_PER_PASS, check_finite, logits_at
from bluedit.evaluate.generate import PROMPTS_PER_PASS, continuations
from bluedit.forward import past_of
from bluedit.model.state import frozen
from bluedit.progress import Progress
from bluedit.text.prompts import encode, encode_answer
from bluedit.text.rows import chunks_by_cost
from bluedit.text.wordings import chat_form

if TYPE_CHECKING:
    from bluedit.methods.wordings import ChatForm
    from bluedit.model.editable import EditableModel

log = logging.getLogger(__name__)
_MOST_LOGITS = 2**27  # of one pass over drafts
_TOLERANCE = (
    1e-3  # by how much of the largest logit a token may be behind the plain forward's first choice, or 4 roundings
)


@torch.no_grad()
def greedy(
    lm: EditableModel,
    prompts: Sequence[str],
    rooms: Sequence[int],
    ended: Ended = never,
    *,
    first: bool = False,
    expected: Sequence[str] = (),
    progress: Progress | None = None,
) -> list[Written]:
    """Continue each prompt greedily.

    Args:
        rooms: most tokens of each continuation.
        ended: whether the text after a prompt is complete; it goes on until then, or to the model's end token. It may be longer.
        first: whether the first token's distribution is wanted.
        expected: how each continuation may begin; that makes it faster and nothing else.

    Raises:
        FactError: a prompt is longer than the model's context.
        ModelError: the model's logits are not finite.
    """
    rows = [encode(lm.tokenizer, prompt)[0] for prompt in prompts]
    if not rows:
        return []
    lm.pad([max(rows, key=len)])
    rooms = [min(room, lm.max_length - len(row)) for room, row in zip(rooms, rows, strict=True)]
    bars = progress or Progress()
    with frozen(lm.model):
        try:
            pairs = zip(prompts, expected, strict=True) if expected else ()
            drafts = [encode_answer(lm.tokenizer, *pair)[1] if pair[1] else [] for pair in pairs]
            written = _side_by_side(lm, rows, rooms, ended, first, drafts, bars)
            if _agrees(lm, rows, written):
                return written
            why = "its text differs from the plain forward's"
        except FAMILY_ERRORS as error:
            if out_of_memory(error):
                raise
            why = f"{type(error).__name__}: {error}"
        log.info("%s continues prompts of equal length together: %s", lm.name, why)
        return _by_length(lm, prompts, rows, rooms, first, bars)


def _side_by_side(
    lm: EditableModel,
    rows: Sequence[Sequence[int]],
    rooms: Sequence[int],
    ended: Ended,
    first: bool,
    drafts: Sequence[Sequence[int]],
    bars: Progress,
) -> list[Written]:
    written = [Written() for _ in rows]
    stops = end_tokens(lm)

    def goes_on(i: int, tokens: Sequence[int]) -> bool:
        for token in tokens:
            written[i].tokens.append(token)
            written[i].text = lm.tokenizer.decode(written[i].tokens, skip_special_tokens=True)
            if token in stops or len(written[i].tokens) >= rooms[i] or ended(i, written[i].text):
                return False
        return True

    order = sorted((i for i, room in enumerate(rooms) if room > 0), key=lambda i: (rooms[i], len(rows[i])))
    with bars.task("continuing prompts", len(order), "prompts") as advance:
        for start in range(0, len(order), PROMPTS_PER_PASS):
            part = order[start : start + PROMPTS_PER_PASS]
            batch = Lanes(lm, part, [rows[i] for i in part], past_of(lm, [rows[i][:-1] for i in part]))
            foretold = [drafts[i][: rooms[i] - 1] for i in part] if drafts else []
            while batch.numbers:
                if foretold:
                    chosen, logits = batch.follow(_shortened(foretold, lm))
                    foretold = []
                else:
                    logits = batch.step(lambda scores: scores.argmax(dim=-1))
                    chosen = batch.tokens[:, None].tolist()
                check_finite(lm, logits)
                if first:
                    for i, own in zip(batch.numbers, logits, strict=True):
                        if written[i].first is None:
                            written[i].first = own.float().log_softmax(dim=-1).cpu()
                batch.keep([lane for lane, i in enumerate(batch.numbers) if goes_on(i, chosen[lane])])
            advance(len(part))
    return written


def _shortened(drafts: Sequence[Sequence[int]], lm: EditableModel) -> list[Sequence[int]]:
    """Drafts whose logits fit the memory, where a vocabulary is large."""
    most = max(0, _MOST_LOGITS // (len(drafts) * lm.model.config.get_text_config().vocab_size) - 1)
    return [draft[:most] for draft in drafts]


def _agrees(lm: EditableModel, rows: Sequence[Sequence[int]], written: Sequence[Written]) -> bool:
    """Whether each token of the shortest and the longest row is also the plain forward's first choice, up to rounding."""
    filled = [i for i, one in enumerate(written) if one.tokens]
    if not filled:
        return True
    some = sorted({pick(filled, key=lambda i: len(rows[i])) for pick in (min, max)})
    checked = [(i, t) for i in some for t in range(len(written[i].tokens))]
    lanes = [some.index(i) for i, _ in checked]
    texts = [[*rows[i], *written[i].tokens[:-1]] for i in some]
    logits = logits_at(lm, texts, lanes, [len(rows[i]) - 1 + t for i, t in checked])
    chosen = torch.tensor([written[i].tokens[t] for i, t in checked], device=logits.device)
    best = logits.max(dim=-1).values
    behind = best - logits.gather(1, chosen[:, None])[:, 0]
    share = max(_TOLERANCE, 4 * torch.finfo(lm.dtype).eps)
    return bool((behind <= share * best.abs().clamp(min=1.0)).all())


def _by_length(
    lm: EditableModel,
    prompts: Sequence[str],
    rows: Sequence[Sequence[int]],
    rooms: Sequence[int],
    first: bool,
    bars: Progress,
) -> list[Written]:
    written = [Written() for _ in rows]
    for room in sorted({room for room in rooms if room > 0}):
        same = [i for i, own in enumerate(rooms) if own == room]
        for i, text in zip(same, continuations(lm, [prompts[i] for i in same], room, bars), strict=True):
            written[i].text = text
    for part in chunks_by_cost([len(row) for row in rows], TOKENS_PER_PASS) if first else ():
        logits = logits_at(lm, [rows[i] for i in part], range(len(part)), [len(rows[i]) - 1 for i in part])
        for i, own in zip(part, logits.log_softmax(dim=-1).float().cpu(), strict=True):
            written[i].first = own
    return written


@dataclass(frozen=True)
class LiveRespondent:
    """A real model, with the weights it has now."""

    lm: EditableModel
    progress: Progress = field(default_factory=Progress)

    @property
    def chat(self) -> ChatForm | None:
        return chat_form(self.lm.tokenizer)

    def answer_length(self, prompt: str, answer: str, joined: bool | None = None) -> int:
        return len(encode_answer(self.lm.tokenizer, prompt, answer, joined)[1])

    def write(
        self,
        prompts: Sequence[str],
        rooms: Sequence[int],
        ended: Ended = never,
        *,
        first: bool = False,
        expected: Sequence[str] = (),
    ) -> list[Written]:
        return greedy(self.lm, prompts, rooms, ended, first=first, expected=expected, progress=self.progress)
