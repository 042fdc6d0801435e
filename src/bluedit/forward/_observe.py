"""Reading keys and values at the subject's last token, in one pass that stops at the last layer needed."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import torch

from bluedit.model.editable import EditableModel
from bluedit.model.hooks import StopForward, by_row, hooked
from bluedit.model.sites import Site, site_hook
from bluedit.shapes import Float, Tensor
from bluedit.text.rows import Row, chunks_by_cost

TOKENS_PER_PASS = 4096


@torch.no_grad()
def observe(lm: EditableModel, rows: Sequence[Row], sites: Sequence[Site]) -> dict[Site, Float[Tensor, "rows width"]]:
    """Activations of each row at its subject's last token, at each site; float32 or wider, on the model's device.

    In a causal model no later token reaches that one, so rows are cut off there, and the pass stops at the deepest of the sites.
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
    rows = torch.arange(len(ids), device=ids.device)

    def receiver(site: Site):
        def receive(hidden: Tensor) -> None:
            value = by_row(hidden, len(ids))[rows, at]
            seen[site] = value if value.dtype == torch.float64 else value.float()
            if len(seen) == len(sites):
                raise StopForward

        return receive

    with hooked([site_hook(lm, site, receiver(site)) for site in sites]), contextlib.suppress(StopForward):
        lm.model(input_ids=ids, attention_mask=mask, use_cache=False)
    return seen
