"""Which rows a model continues with their targets."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bluedit.model.editable import EditableModel
from bluedit.model.hooks import hooked, logits_of, only_at
from bluedit.model.memory import run_chunks
from bluedit.text.rows import Row, chunks_by_length

_TOKENS_PER_PASS = 2048


@torch.no_grad()
def says_targets(lm: EditableModel, rows: Sequence[Row]) -> list[bool]:
    """For each row whether every token of its target is the model's first choice, given those before it."""
    said = [True] * len(rows)

    def run(chunk: Sequence[int]) -> None:
        chosen = [rows[i] for i in chunk]
        ids, mask = lm.pad([row.ids for row in chosen])
        places = [(lane, row.target_start - 1 + t) for lane, row in enumerate(chosen) for t in range(len(row.targets))]
        lane, place = torch.tensor(places, device=ids.device).T
        head = lm.anatomy.head
        with hooked(only_at(head, (lane, place))):
            logits = lm.run(input_ids=ids, attention_mask=mask, use_cache=False).logits
        first = logits_of(logits, head, (lane, place)).argmax(dim=-1).tolist()
        targets = [token for row in chosen for token in row.targets]
        for (row, _), found, token in zip(places, first, targets, strict=True):
            said[chunk[row]] &= found == token

    run_chunks(chunks_by_length([len(row.ids) for row in rows], _TOKENS_PER_PASS), run, "rows", lm.device)
    return said
