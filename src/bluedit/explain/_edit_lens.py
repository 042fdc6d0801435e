"""The logit lens: what each layer's hidden state would say, read with the model's own final norm and head.

The model itself computes what comes after its last block: the state of a layer is put in place of the last block's output. So norms,
scaled or capped logits and output projections are those of the model, whatever its family, and the last layer's reading is the model's
own output (nostalgebraist, "interpreting GPT: the logit lens", 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from bluedit.evaluate.answers import TOKENS_PER_PASS
from bluedit.model.editable import EditableModel
from bluedit.model.hooks import by_row, first_tensor, hooked, taken, with_first_tensor
from bluedit.model.sites import Place, Site, site_hook
from bluedit.shapes import Float, Tensor
from bluedit.text.rows import chunks_by_cost

STATES_PER_PASS = 128  # each needs logits over the whole vocabulary


@torch.no_grad()
def lens(lm: EditableModel, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[tuple[float, ...]]:
    """For each (prompt tokens, answer tokens) the probability of the whole answer at every layer, given its own earlier tokens.

    The weights are taken as they are now.
    """
    found: list[tuple[float, ...]] = [()] * len(pairs)
    rows = [(*prompt, *answer[:-1]) for prompt, answer in pairs]
    for chunk in chunks_by_cost([len(row) for row in rows], TOKENS_PER_PASS):
        places = [(lane, len(pairs[i][0]) - 1 + t) for lane, i in enumerate(chunk) for t in range(len(pairs[i][1]))]
        states = states_at(lm, [rows[i] for i in chunk], places)
        layers, count, _ = states.shape
        tokens = torch.tensor([token for i in chunk for token in pairs[i][1]], device=states.device)
        logprobs = _read(lm, states.flatten(0, 1), tokens.repeat(layers)).view(layers, count)
        for i, own in zip(chunk, logprobs.split([len(pairs[i][1]) for i in chunk], dim=1), strict=True):
            found[i] = tuple(own.double().sum(dim=1).exp().tolist())
    return found


def states_at(
    lm: EditableModel, rows: Sequence[Sequence[int]], places: Sequence[tuple[int, int]]
) -> Float[Tensor, "layers places width"]:
    """The output of every block at some (row, position) of token rows."""
    ids, mask = lm.pad(rows)
    lane, position = torch.tensor(list(places), device=ids.device).T
    seen: dict[int, Tensor] = {}

    def receiver(layer: int) -> Any:
        def receive(hidden: Tensor) -> None:
            seen[layer] = taken(by_row(hidden, len(ids)), (lane, position)).to(ids.device)

        return receive

    layers = range(lm.anatomy.n_layers)
    with hooked([site_hook(lm, Site(Place.BLOCK, layer), receiver(layer)) for layer in layers]):
        lm.run(input_ids=ids, attention_mask=mask, use_cache=False)
    return torch.stack([seen[layer] for layer in layers])


def _read(lm: EditableModel, states: Float[Tensor, "n width"], tokens: Tensor) -> Float[Tensor, "n"]:
    """Log-probability of each token after the hidden state that stands in for the last block's output."""
    parts = []
    for some, wanted in zip(states.split(STATES_PER_PASS), tokens.split(STATES_PER_PASS), strict=True):

        def replace(_module: Any, _args: Any, output: Any, some: Tensor = some) -> Any:
            return with_first_tensor(output, some[:, None].to(first_tensor(output).device))

        ids = torch.zeros(len(some), 1, dtype=torch.long, device=states.device)
        with hooked([(lm.anatomy.blocks[-1], "forward", replace)]):
            logits = lm.run(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[:, 0]
        logits = logits if logits.dtype == torch.float64 else logits.float()
        parts.append(-torch.nn.functional.cross_entropy(logits, wanted, reduction="none"))
    return torch.cat(parts)
