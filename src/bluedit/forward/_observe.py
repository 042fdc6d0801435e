"""Reading keys and values at the subject's last token, in one pass that stops at the last layer needed."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from bluedit.model.editable import EditableModel
from bluedit.model.hooks import (
    Hook,
    StopForward,
    added_at,
    by_row,
    first_tensor,
    hooked,
    taken,
    with_first_tensor,
)
from bluedit.model.memory import run_chunks
from bluedit.model.sites import Site, output_module, site_hook
from bluedit.shapes import Float, Tensor
from bluedit.text.rows import Row, chunks_by_cost

TOKENS_PER_PASS = 4096


@torch.no_grad()
def observe(
    lm: EditableModel,
    rows: Sequence[Row],
    sites: Sequence[Site],
    added: Mapping[Site, Float[Tensor, "rows width"]] | None = None,
) -> dict[Site, Float[Tensor, "rows width"]]:
    """Activations of each row at its subject's last token, at each site; float32 or wider, on the model's device.

    In a causal model no later token reaches that one, so rows are cut off there, and the pass stops at the deepest of the sites.

    Args:
        added: vectors added at some sites (none of which is an input), at the same token; what is seen at a site includes its own.
    """
    cut = [row.ids[: row.subject_last + 1] for row in rows]
    out: dict[Site, Tensor] = {}

    def run(chunk: Sequence[int]) -> None:
        ids, mask = lm.pad([cut[i] for i in chunk])
        last = mask.sum(dim=1) - 1
        own = {site: vectors[torch.tensor(chunk, device=vectors.device)] for site, vectors in (added or {}).items()}
        for site, values in _forward(lm, ids, mask, last, sites, own).items():
            if site not in out:
                out[site] = torch.empty(len(rows), values.shape[1], dtype=values.dtype, device=values.device)
            out[site][torch.tensor(chunk, device=values.device)] = values

    run_chunks(chunks_by_cost([len(ids) for ids in cut], TOKENS_PER_PASS), run, "rows", lm.device)
    return out


def _forward(
    lm: EditableModel, ids: Tensor, mask: Tensor, at: Tensor, sites: Sequence[Site], added: Mapping[Site, Tensor]
) -> dict[Site, Tensor]:
    seen: dict[Site, Tensor] = {}
    rows = torch.arange(len(ids), device=ids.device)

    def receiver(site: Site):
        def receive(hidden: Tensor) -> None:
            value = taken(by_row(hidden, len(ids)), (rows, at)).to(ids.device)
            seen[site] = value if value.dtype == torch.float64 else value.float()
            if len(seen) == len(sites):
                raise StopForward

        return receive

    def adder(vectors: Tensor):
        def add(_module: Any, _args: Any, output: Any) -> Any:
            hidden = by_row(first_tensor(output), len(ids))
            return with_first_tensor(output, added_at(hidden, (rows, at), vectors))

        return add

    hooks: list[Hook] = [(output_module(lm, site), "forward", adder(vectors)) for site, vectors in added.items()]
    hooks += [site_hook(lm, site, receiver(site)) for site in sites]
    with hooked(hooks), contextlib.suppress(StopForward):
        lm.model(input_ids=ids, attention_mask=mask, use_cache=False)
    return seen
