"""Whether a model still says facts that were written into it, and by how much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bluedit.evaluate._greedy import LiveRespondent
from bluedit.evaluate.answers import TOKENS_PER_PASS, logits_at
from bluedit.evaluate.asked import ask_facts
from bluedit.progress import Progress
from bluedit.text.prompts import encode_answer
from bluedit.text.rows import chunks_by_cost

if TYPE_CHECKING:
    from bluedit.facts.fact import Fact
    from bluedit.model.editable import EditableModel


@dataclass(frozen=True)
class FactHealth:
    """How firmly a model says a fact.

    Attributes:
        said: whether the text that it generates at the prompt says the target.
        text: that text.
        margin: the smallest lead of a token of the target over the best other token, as a difference of logits, given the tokens before
            it; negative if another token is preferred somewhere.
    """

    fact: Fact
    said: bool
    text: str
    margin: float


def fact_health(lm: EditableModel, facts: Sequence[Fact], progress: Progress | None = None) -> list[FactHealth]:
    """Ask a model for facts at their prompts.

    Raises:
        FactError: a prompt is longer than the model's context.
        ModelError: the model's logits are not finite.
    """
    bars = progress or Progress()
    replies = ask_facts(LiveRespondent(lm, bars), facts, only_prompts=True)
    rows = zip(facts, replies, _margins(lm, facts), strict=True)
    return [FactHealth(fact, reply.said, reply.text, margin) for fact, (reply,), margin in rows]


@torch.no_grad()
def _margins(lm: EditableModel, facts: Sequence[Fact]) -> list[float]:
    encoded = [encode_answer(lm.tokenizer, fact.text, fact.target, fact.joined) for fact in facts]
    rows = [[*prompt, *answer[:-1]] for prompt, answer in encoded]
    found = [0.0] * len(rows)
    for chunk in chunks_by_cost([len(row) for row in rows], TOKENS_PER_PASS):
        spans = [range(len(encoded[i][0]) - 1, len(rows[i])) for i in chunk]
        lanes = [lane for lane, span in enumerate(spans) for _ in span]
        logits = logits_at(lm, [rows[i] for i in chunk], lanes, [t for span in spans for t in span])
        targets = torch.tensor([token for i in chunk for token in encoded[i][1]], device=logits.device)
        wanted = logits.gather(1, targets[:, None])[:, 0]
        others = logits.scatter(1, targets[:, None], -torch.inf).amax(dim=1)
        leads = (wanted - others).split([len(span) for span in spans])
        for i, lead in zip(chunk, leads, strict=True):
            found[i] = float(lead.min())
    return found
