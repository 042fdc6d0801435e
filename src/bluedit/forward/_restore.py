"""Causal tracing: forward passes with noise on some embeddings, in which clean activations are put back (ROME, arXiv 2202.05262, section 2.1).

What is put back at layer l and token t changes nothing below l and nothing before t. So earlier tokens are cached attention keys and values
of the noisy pass, the blocks below l return what they returned in it, and restorations at several layers share a pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import DynamicCache

from bluedit.forward._cache import Past
from bluedit.model.editable import EditableModel
from bluedit.model.hooks import Hook, by_row, first_tensor, hooked, replaced_forwards, returning, with_first_tensor
from bluedit.model.precision import ReducedLinears
from bluedit.model.sites import Place, Site, output_module
from bluedit.shapes import Float, Tensor

_CPU_TOKENS, _ACCELERATOR_TOKENS = 64, 4096  # of a pass: a larger one runs more blocks that it need not run


class Restorer:
    """Forward passes of one prompt whose embeddings have noise at some tokens, with clean activations put back at places.

    Attributes:
        clean: probability of the answer's token without noise.
        noisy: probability with each sample of the noise.
    """

    def __init__(
        self,
        lm: EditableModel,
        ids: Sequence[int],
        noise: Float[Tensor, "samples noisy width"],
        start: int,
        answer: int,
        sites: Sequence[Site],
        *,
        reduced: ReducedLinears | None = None,
        cached: bool = True,
    ) -> None:
        """
        Args:
            lm: the model, on its weights as they are.
            ids: tokens of the prompt.
            noise: added to the embeddings of the tokens from `start` on.
            start: first token with noise.
            answer: the token whose probability is measured after the prompt.
            sites: everything that `effects` may put back: outputs of blocks, MLPs or attention.
            reduced: linear maps that run in bfloat16.
            cached: whether to skip tokens and blocks that cannot change.
        """
        self.lm, self._ids, self._noise, self._start, self._answer = lm, list(ids), noise, start, answer
        self._reduced = reduced
        self._past: Past | None = None
        self._tuples = False
        self._seen: dict[Site, Tensor] = {}
        with self._recording(sites):
            self.clean = float(self._run(1)[0])
        self._clean = {site: states[0] for site, states in self._seen.items()}
        blocks = [Site(Place.BLOCK, layer) for layer in range(lm.anatomy.n_layers)]
        cache = DynamicCache() if cached else None
        with self._recording(blocks), self._noisy(1, 0):
            self.noisy = self._run(len(noise), cache=cache)
        self._states = [self._seen[site] for site in blocks]
        self._seen = {}
        if cache is not None:
            mask = torch.ones(len(noise), len(self._ids), dtype=torch.long, device=lm.device)
            layers: Any = cache.layers
            self._past = Past(tuple((layer.keys, layer.values) for layer in layers), mask)

    def effects(self, restored: Sequence[Sequence[Site]], token: int) -> Float[Tensor, "restorations"]:
        """By how much the answer's probability rises, mean over the noise, for each set of sites that is put back at a token."""
        samples, begin = len(self._noise), token if self._past else 0
        budget = _CPU_TOKENS if self.lm.device.type == "cpu" else _ACCELERATOR_TOKENS
        share = max(1, budget // (samples * (len(self._ids) - begin)))
        found = []
        for at in range(0, len(restored), share):
            part = restored[at : at + share]
            with self._restoring(part, token, begin):
                after = self._run(len(part) * samples, begin)
            found.append(after.view(len(part), samples).mean(dim=1) - self.noisy.mean())
        return torch.cat(found)

    @contextmanager
    def _restoring(self, restored: Sequence[Sequence[Site]], token: int, begin: int) -> Iterator[None]:
        """Sets of sites put back, each for its own rows; blocks below all of them return what they did in the noisy pass."""
        samples = len(self._noise)
        owners: dict[Site, list[int]] = {}
        for number, sites in enumerate(restored):
            for site in sites:
                owners.setdefault(site, []).append(number)
        first = min(site.layer + (1 if site.is_block_output else 0) for site in owners) if self._past else 0
        hooks = []
        for site, numbers in owners.items():
            rows = torch.tensor([samples * n + s for n in numbers for s in range(samples)], device=self.lm.device)
            hooks.append(self._hook(site, rows, token, token - begin, len(restored) * samples))
        below = self._below(first, len(restored), begin)
        with self._noisy(len(restored), begin), replaced_forwards(below), hooked(hooks):
            yield

    def _hook(self, site: Site, rows: Tensor, token: int, place: int, count: int) -> Hook:
        clean = self._clean[site][token]

        def restore(_module: Any, _args: Any, output: Any) -> Any:
            hidden = by_row(first_tensor(output), count).clone()
            hidden[rows.to(hidden.device), place] = clean.to(hidden)
            return with_first_tensor(output, hidden)

        return output_module(self.lm, site), "forward", restore

    def _below(self, first: int, times: int, begin: int) -> Iterator[tuple[nn.Module, Callable[..., Any]]]:
        """Forwards of the blocks before `first`: the last returns its noisy states, those before it pass on their input."""
        for layer in range(first):
            state = self._states[layer][:, begin:].repeat(times, 1, 1) if layer == first - 1 else None
            yield self.lm.anatomy.blocks[layer], returning(state, self._tuples)

    @contextmanager
    def _recording(self, sites: Sequence[Site]) -> Iterator[None]:
        self._seen = {}

        def recorder(site: Site) -> Callable[..., None]:
            def record(_module: Any, _args: Any, output: Any) -> None:
                hidden = first_tensor(output).detach()
                self._tuples |= site.is_block_output and isinstance(output, tuple)
                self._seen[site] = by_row(hidden, hidden.numel() // hidden.shape[-1] // len(self._ids))

            return record

        with hooked([(output_module(self.lm, site), "forward", recorder(site)) for site in sites]):
            yield

    @contextmanager
    def _noisy(self, times: int, begin: int) -> Iterator[None]:
        """Embeddings of the tokens from `begin` on with noise, every sample `times` times."""
        noise = self._noise[:, max(0, begin - self._start) :].repeat(times, 1, 1)
        first = max(0, self._start - begin)

        def add(_module: Any, _args: Any, output: Tensor) -> Tensor:
            changed = output.clone()
            changed[:, first : first + noise.shape[1]] += noise.to(changed)
            return changed

        with hooked([(self.lm.model.get_input_embeddings(), "forward", add)]):
            yield

    @torch.no_grad()
    def _run(self, rows: int, begin: int = 0, cache: Any = None) -> Float[Tensor, "rows"]:
        """Probability of the answer in so many rows of the tokens from `begin` on, which follow the noisy pass' earlier tokens."""
        ids, mask = self.lm.pad([self._ids[begin:]] * rows)
        options: dict[str, Any] = {"use_cache": False}
        if cache is not None:
            options = self.lm.after(cache)
        elif self._past and begin:
            samples = torch.arange(len(self._noise), device=self.lm.device).repeat(rows // len(self._noise))
            past = Past(
                tuple((k[:, :, :begin], v[:, :, :begin]) for k, v in self._past.states), self._past.mask[:, :begin]
            )
            past = past.rows(samples)
            position_ids = begin + torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
            mask = torch.cat([past.mask, mask], dim=1)
            options = self.lm.after(past.cache()) | {"position_ids": position_ids}
        head = self.lm.anatomy.head
        hooks: list[Hook] = [] if head is None else [(head, "pre", lambda _m, args: (args[0][:, -1:], *args[1:]))]
        with self._precision(), hooked(hooks):
            logits = self.lm.run(input_ids=ids, attention_mask=mask, **options).logits[:, -1]
        wide = logits if logits.dtype == torch.float64 else logits.float()
        return wide.softmax(dim=-1)[:, self._answer]

    def _precision(self) -> AbstractContextManager[None]:
        return self._reduced.active() if self._reduced else nullcontext()
