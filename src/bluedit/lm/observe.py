"""Reading keys and values at the subject's last token, in one pass that stops at the last layer needed."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from bluedit.lm.capture import Hook, StopForward, by_row, first_tensor, hooked
from bluedit.lm.memory import EditableModel
from bluedit.lm.prompts import Row, chunks_by_cost
from bluedit.shapes import Float, Tensor

TOKENS_PER_PASS = 4096


@dataclass(frozen=True, order=True)
class Site:
    """A place where a vector is read or added.

    `kind` is "key" (input of the projection), "mlp" (its output), "attention" (the attention's output) or "block" (the block's).
    """

    kind: str
    layer: int


def site_hook(lm: EditableModel, site: Site, receive) -> Hook:
    """A hook that calls `receive(tensor)` with the activations (rows x tokens x width, or as `by_row` says) at a site."""
    if site.kind == "key":
        return lm.projection(site.layer).module, "pre", lambda _m, args: receive(args[0])
    return output_module(lm, site), "forward", lambda _m, _a, output: receive(first_tensor(output))


def output_module(lm: EditableModel, site: Site) -> nn.Module:
    """The module whose output is at a site."""
    if site.kind == "attention":
        return lm.attention(site.layer)
    return lm.projection(site.layer).module if site.kind == "mlp" else lm.anatomy.blocks[site.layer]


@torch.no_grad()
def observe(lm: EditableModel, rows: Sequence[Row], sites: Sequence[Site]) -> dict[Site, Float[Tensor, "rows width"]]:
    """Activations at the subject's last token of each row, at each site; float32 or wider, on the model's device.

    Causal models let nothing later reach that token, so rows are cut off there; the pass ends at the deepest layer asked for.
    """
    cut = [row.ids[: row.subject_last + 1] for row in rows]
    out: dict[Site, Tensor] = {}
    for chunk in chunks_by_cost([len(ids) for ids in cut], TOKENS_PER_PASS):
        ids, mask = lm.pad([cut[i] for i in chunk])
        last = mask.sum(dim=1) - 1
        for site, values in _forward(lm, ids, mask, last, sites).items():
            if site not in out:
                out[site] = torch.empty(len(rows), values.shape[1], dtype=values.dtype, device=values.device)
            out[site][torch.tensor(chunk, device=values.device)] = values
    return out


def _forward(lm: EditableModel, ids: Tensor, mask: Tensor, at: Tensor, sites: Sequence[Site]) -> dict[Site, Tensor]:
    seen: dict[Site, Tensor] = {}
    lanes = torch.arange(len(ids), device=ids.device)

    def receiver(site: Site):
        def receive(hidden: Tensor) -> None:
            value = by_row(hidden, len(ids))[lanes, at]
            seen[site] = value if value.dtype == torch.float64 else value.float()
            if len(seen) == len(sites):
                raise StopForward

        return receive

    with hooked([site_hook(lm, site, receiver(site)) for site in sites]), contextlib.suppress(StopForward):
        lm.model(input_ids=ids, attention_mask=mask, use_cache=False)
    return seen
