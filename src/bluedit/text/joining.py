"""Decides the spacing where no rule applies: the form that the model finds more likely."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bluedit.model.editable import EditableModel
from bluedit.model.state import frozen
from bluedit.shapes import Float, Tensor
from bluedit.text.prompts import encode_answer
from bluedit.text.rows import chunks_by_cost

_TOKENS_PER_PASS = 512  # few, since the logits of all of them are computed


def likelier_joined(lm: EditableModel, pairs: Sequence[tuple[str, str]]) -> list[bool]:
    """For each (prompt, answer), whether the model gives the answer a higher probability without a space before it than with one."""
    if not pairs:
        return []
    rows = [encode_answer(lm.tokenizer, *pair, joined) for pair in pairs for joined in (False, True)]
    with frozen(lm.model):
        spaced, joined = _log_probabilities(lm, rows).view(-1, 2).T
    return (joined > spaced).tolist()


@torch.no_grad()
def _log_probabilities(lm: EditableModel, rows: Sequence[tuple[list[int], list[int]]]) -> Float[Tensor, "rows"]:
    """Log-probability of each row's answer after its prompt."""
    found = torch.zeros(len(rows))
    for chunk in chunks_by_cost([len(prompt) + len(answer) for prompt, answer in rows], _TOKENS_PER_PASS):
        ids, mask = lm.pad([[*rows[i][0], *rows[i][1]] for i in chunk])
        logits = lm.run(input_ids=ids, attention_mask=mask, use_cache=False).logits
        for place, i in enumerate(chunk):
            prompt, answer = rows[i]
            at = range(len(prompt) - 1, len(prompt) + len(answer) - 1)
            shares = logits[place, at].float().log_softmax(dim=-1)
            found[i] = shares[range(len(answer)), answer].sum()
    return found
