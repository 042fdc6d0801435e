"""Reading keys and values at the subject's last token, in one pass that stops at the last layer needed."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from bluedit.shapes import Float, Int, Tensor
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

    In a causal model no later token reaches that one, so rows are cut off there, and the pass stops at the deepest of the sites. A row
    that another one begins with is read from the other's pass.

    Args:
        added: vectors added at some sites (none of which is an input), at the same token; what is seen at a site includes its own.
    """
    texts = Texts.of([row.ids[: row.subject_last + 1] for row in rows], shared=not added)
    out: dict[Site, Tensor] = {}

    def run(chunk: Sequence[int]) -> None:
        part = texts.some(lm, chunk)
        own = {site: vectors[part.rows.to(vectors.device)] for site, vectors in (added or {}).items()}
        for site, values in _forward(lm, part, sites, own).items():
            collect(out, site, values, part.rows, len(rows))

    run_chunks(chunks_by_cost(texts.lengths, TOKENS_PER_PASS), run, "rows", lm.device)
    return out


@dataclass(frozen=True, eq=False)
class Some:
    """Texts of one forward pass, and what is read of them.

    Attributes:
        ids, mask: padded tokens, and which of them are real.
        rows: which rows these are.
        at: where each row is read: (text, token).
    """

    ids: Int[Tensor, "texts tokens"]
    mask: Int[Tensor, "texts tokens"]
    rows: Int[Tensor, "rows"]
    at: tuple[Int[Tensor, "rows"], Int[Tensor, "rows"]]

    def taken(self, hidden: Tensor) -> Float[Tensor, "rows width"]:
        """What is read of these activations; float32 or wider."""
        value = taken(by_row(hidden, len(self.ids)), self.at).to(self.ids.device)
        return value if value.dtype == torch.float64 else value.float()


@dataclass(frozen=True, eq=False)
class Texts:
    """The distinct texts that rows are read from, at their last tokens.

    Attributes:
        texts: their tokens.
        readers: for each text the rows that are read in it, with their lengths.
    """

    texts: Sequence[tuple[int, ...]]
    readers: Sequence[Sequence[tuple[int, int]]]

    @classmethod
    def of(cls, rows: Sequence[tuple[int, ...]], *, shared: bool = True) -> Texts:
        """Those of these token rows; if `shared`, a row that is the beginning of another one has no text of its own."""
        if not shared:
            return cls(rows, [[(i, len(row))] for i, row in enumerate(rows)])
        texts: list[tuple[int, ...]] = []
        readers: list[list[tuple[int, int]]] = []
        for i in sorted(range(len(rows)), key=lambda i: rows[i], reverse=True):  # longer ones before their beginnings
            if not texts or texts[-1][: len(rows[i])] != rows[i]:
                texts.append(rows[i])
                readers.append([])
            readers[-1].append((i, len(rows[i])))
        return cls(texts, readers)

    @property
    def lengths(self) -> list[int]:
        """The number of tokens of each text."""
        return [len(text) for text in self.texts]

    def some(self, lm: EditableModel, chunk: Sequence[int]) -> Some:
        """Some of the texts, for one pass."""
        ids, mask = lm.pad([self.texts[i] for i in chunk])
        found = [(row, lane, length - 1) for lane, i in enumerate(chunk) for row, length in self.readers[i]]
        rows, lanes, last = torch.tensor(found, device=ids.device).T
        return Some(ids, mask, rows, (lanes, last))


def collect(out: dict[Site, Tensor], site: Site, values: Tensor, rows: Tensor, count: int) -> None:
    """Put the values of some of `count` rows in their places."""
    if site not in out:
        out[site] = torch.empty(count, values.shape[1], dtype=values.dtype, device=values.device)
    out[site][rows.to(values.device)] = values


def _forward(lm: EditableModel, part: Some, sites: Sequence[Site], added: Mapping[Site, Tensor]) -> dict[Site, Tensor]:
    seen: dict[Site, Tensor] = {}

    def receiver(site: Site):
        def receive(hidden: Tensor) -> None:
            seen[site] = part.taken(hidden)
            if len(seen) == len(sites):
                raise StopForward

        return receive

    def adder(vectors: Tensor):
        def add(_module: Any, _args: Any, output: Any) -> Any:
            hidden = by_row(first_tensor(output), len(part.ids))
            return with_first_tensor(output, added_at(hidden, part.at, vectors))

        return add

    hooks: list[Hook] = [(output_module(lm, site), "forward", adder(vectors)) for site, vectors in added.items()]
    hooks += [site_hook(lm, site, receiver(site)) for site in sites]
    with hooked(hooks), contextlib.suppress(StopForward):
        lm.run(input_ids=part.ids, attention_mask=part.mask, use_cache=False)
    return seen
