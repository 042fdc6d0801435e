"""How sensitive what the model says next is to a hidden state, on ordinary text: the Fisher information F = E[g g^T].

g is the gradient of the log-likelihood of all later tokens, drawn from the model itself, with respect to the hidden state of one token. Moving
that state by a small delta changes what the model says by about delta^T F delta / 2 nats (KL).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from bluedit.errors import StatisticsError
from bluedit.maths.moment import SecondMoment
from bluedit.model.editable import EditableModel
from bluedit.model.fingerprint import text_fingerprint
from bluedit.model.hooks import Hook, by_row, first_tensor, hooked, taken, with_first_tensor
from bluedit.model.memory import fits
from bluedit.model.precision import reduced_linears
from bluedit.model.sites import Site, output_module
from bluedit.model.state import frozen
from bluedit.progress import Progress
from bluedit.shapes import Float, Tensor
from bluedit.statistics._moment_file import read_moment
from bluedit.statistics.store import MomentStore

_TOKENS_PER_VALUE = 4  # tokens of ordinary text, and as many of chat, in units of d_value
_TOKENS_PER_PASS = 1024  # at most
_LOGITS = 2**26  # of a pass, at most
_DAMAGED = "the model is damaged, load it again from a sound checkpoint"


@dataclass(frozen=True)
class FisherStore:
    """Computes, stores and finds Fisher information at sites of one model, on the text of its key statistics.

    Attributes:
        moments: the key statistics. The caller makes sure that the model's weights are the unedited ones when `get` is called.
    """

    moments: MomentStore
    _kept: dict[Site, Tensor] = field(default_factory=dict, repr=False, compare=False)

    def get(
        self, sites: Sequence[Site], progress: Progress | None = None
    ) -> dict[Site, Float[Tensor, "d_value d_value"]]:
        """F of each site, scaled to a mean eigenvalue of 1; computed and stored now where it is not yet.

        Raises:
            StatisticsError: an unreadable corpus, a stored file of another model, or gradients that are not finite.
        """
        missing = [site for site in sites if site not in self._kept and not self._file(site).is_file()]
        if missing:
            self._compute(missing, progress or Progress())
        for site in sites:
            if site not in self._kept:
                self._kept[site] = self._read(site)
        return {site: self._kept[site] for site in sites}

    @property
    def identity(self) -> Mapping[str, str | int]:
        """What the figures belong to; stored with them and compared when they are read."""
        chat = self.moments.of_chat
        return {**self.moments.identity, "fisher": self._budget, "chat": chat.place.name if chat else ""}

    @property
    def _budget(self) -> int:
        return _TOKENS_PER_VALUE * self.moments.lm.model.config.get_text_config().hidden_size

    def _file(self, site: Site) -> Path:
        return self.moments.place / f"fisher-{text_fingerprint(self.identity)}-{site.kind}-{site.layer}.safetensors"

    def _identity_of(self, site: Site) -> Mapping[str, str | int]:
        return {**self.identity, "site": str(site.kind)}

    def _read(self, site: Site) -> Tensor:
        lm = self.moments.lm
        width = lm.model.config.get_text_config().hidden_size
        F = read_moment(self._file(site), self._identity_of(site), site.layer, width, lm.device).matrix
        return F * (width / F.trace())

    def _compute(self, sites: Sequence[Site], progress: Progress) -> None:
        rows = self._rows(progress)
        sums, tokens = fisher_information(self.moments.lm, sites, rows, progress)
        for site, total in sums.items():
            if not torch.isfinite(total).all() or not total.trace() > 0:
                raise StatisticsError(
                    f"gradients at layer {site.layer} are zero or not finite on ordinary text: {_DAMAGED}"
                )
        for site, total in sums.items():
            moment = SecondMoment(total, tokens, site.layer)
            self.moments.write(self._file(site), moment, self._identity_of(site))

    def _rows(self, progress: Progress) -> list[list[int]]:
        """As many rows of ordinary text as are needed, and of chat turns if the model has a chat form."""
        rows: list[list[int]] = []
        for store in filter(None, (self.moments, self.moments.of_chat)):
            found, tokens = store.rows(progress), 0
            for row in found:
                if tokens < self._budget:
                    rows.append(row)
                    tokens += len(row)
        return rows


def fisher_information(
    lm: EditableModel, sites: Sequence[Site], rows: Sequence[Sequence[int]], progress: Progress
) -> tuple[dict[Site, Float[Tensor, "d_value d_value"]], int]:
    """(F of each site in float64, tokens it was measured on).

    A row's tokens are drawn with a seed of its own, so the result does not depend on how many rows share a pass. Linear maps run in bfloat16
    where that is native.
    """
    width = lm.model.config.get_text_config().hidden_size
    sums = {site: torch.zeros(width, width, dtype=torch.float64, device=lm.device) for site in sites}

    def add(start: int, end: int) -> None:
        if fits(lambda: _add(lm, sums, rows[start:end], start), end - start, "rows of text", lm.device):
            return
        middle = (start + end + 1) // 2
        add(start, middle)
        add(middle, end)

    most = min(_TOKENS_PER_PASS, _LOGITS // lm.model.config.get_text_config().vocab_size)
    reduced = reduced_linears(lm, "auto", lm.anatomy.blocks, lm.anatomy.head)
    task = progress.task("gradients on ordinary text", len(rows), "texts")
    with task as advance, frozen(lm.model), reduced.active() if reduced else nullcontext():
        start = 0
        while start < len(rows):
            end = start + 1
            while end < len(rows) and (end + 1 - start) * max(map(len, rows[start : end + 1])) <= most:
                end += 1
            add(start, end)
            advance(end - start)
            start = end
    tokens = sum(map(len, rows))
    return {site: total / tokens for site, total in sums.items()}, tokens


@torch.enable_grad()
def _add(lm: EditableModel, sums: Mapping[Site, Tensor], rows: Sequence[Sequence[int]], first: int) -> None:
    """Add g g^T of some rows, the first of which has the number `first`."""
    ids, mask = lm.pad(rows)
    states: dict[Site, Tensor] = {}

    def receiver(site: Site) -> Any:
        def receive(_module: Any, _args: Any, output: Any) -> Any:
            state = first_tensor(output)
            if not state.requires_grad:  # nothing below is differentiated
                state = state.detach().requires_grad_(True)
                output = with_first_tensor(output, state)
            states[site] = state
            return output

        return receive

    hooks: list[Hook] = [(output_module(lm, site), "forward", receiver(site)) for site in sums]
    with hooked(hooks):
        logits = lm.run(input_ids=ids, attention_mask=mask, use_cache=False).logits
    real = mask.bool()
    likelihood = _drawn_likelihood(logits, real, first)
    gradients = torch.autograd.grad(likelihood, list(states.values()))
    for site, gradient in zip(states, gradients, strict=True):
        g = taken(by_row(gradient, len(rows)), real).to(lm.device).double()
        sums[site].addmm_(g.T, g)


def _drawn_likelihood(logits: Float[Tensor, "rows tokens vocabulary"], real: Tensor, first: int) -> Tensor:
    """Sum of log p over one token drawn at every position that is not padding."""
    total = logits.new_zeros((), dtype=torch.float32)
    for number, (row, kept) in enumerate(zip(logits, real, strict=True), first):
        generator = torch.Generator(device=row.device).manual_seed(number)
        log_p = row[kept].float().log_softmax(dim=-1)
        if log_p.isnan().any():
            raise StatisticsError(f"the model's logits are not finite on ordinary text: {_DAMAGED}")
        drawn = torch.multinomial(log_p.detach().exp(), 1, generator=generator)
        total = total + log_p.gather(-1, drawn).sum()
    return total
