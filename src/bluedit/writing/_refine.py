"""Refining a write: its residuals are corrected on what the written model says, of the facts and of ordinary text.

A closed form assumes that keys stay where they are. In a model, what one layer writes moves the keys of the next ones, also at tokens that
have nothing to do with a fact, and the layers feed each other. So the residuals R are descended on, through all layers at once, with the
rows A of the solver as they are: where a change is felt stays decided by the keys.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bluedit.errors import EditError
from bluedit.forward import tokens_per_step
from bluedit.methods.update import Refine
from bluedit.model.editable import EditableModel
from bluedit.model.hooks import Hook, StopForward, by_row, hooked, taken
from bluedit.model.memory import run_chunks
from bluedit.model.precision import reduced_linears
from bluedit.model.sites import Place, Site, site_hook
from bluedit.shapes import Float, Tensor
from bluedit.text.rows import Row, chunks_by_cost, chunks_by_length
from bluedit.writing.target_loss import row_losses

if TYPE_CHECKING:
    from bluedit.writing.context import WriteContext

_LEAST_LOSS = 0.02  # nats: a text that is said more surely asks for nothing
_BETAS = (0.9, 0.98)

Factors = tuple[int, Tensor, Tensor]  # layer, R, A


@torch.enable_grad()
def refined(
    context: WriteContext, factors: Sequence[Factors], rows: Sequence[Row], steps: int
) -> list[Float[Tensor, "d_value rank"]]:
    """The R of each write after some steps of Adam. The model has the weights before these writes, and keeps them.

    The loss is the mean -log p of some taught texts' targets, plus `refine.weight` times how far some ordinary text's hidden states move
    from those of the unedited model at the output of the last written layer, |h - h0|^2 / |h0|^2. So a batch also makes up for what earlier
    ones moved. No weight above changes, so a pass can end there.

    Args:
        context: the model, the recipe with the size of steps and how much text they see, and where ordinary text comes from.
        factors: what was written, in order; the sum of R A of a layer is added to its weight. Each is where its layer is.
        rows: texts of the facts; rows without a target do not count.
        steps: how many.

    Raises:
        EditError: a loss is not finite.
    """
    lm, execution, settings = context.lm, context.execution, context.recipe.update.refine
    residuals = [R.detach().clone().requires_grad_() for _, R, _ in factors]
    sizes = [settings.learning_rate * float(R.detach().square().mean().sqrt()) for R in residuals]
    adam = torch.optim.Adam(
        [{"params": [R], "lr": size} for R, size in zip(residuals, sizes, strict=True)], betas=_BETAS
    )
    hooks = _added(lm, factors, residuals)
    plain = [row for row in context.ordinary() if len(row) > 1]
    budget = execution.tokens_per_step or tokens_per_step(lm)
    ordinary = _Ordinary(lm, plain, max(layer for layer, _, _ in factors), budget)
    lessons, reminders = _lessons(rows, settings), list(islice(_reminders(plain, settings), steps))

    def fast() -> AbstractContextManager[None]:
        """Matrix products in bfloat16 where that is asked for, with copies of the weights as they are now."""
        reduced = reduced_linears(lm, execution.precision, lm.anatomy.blocks, lm.anatomy.head)
        return reduced.active() if reduced else nullcontext()

    with context.weights.unedited(), fast():
        ordinary.remember(sorted({i for some in reminders for i in some}))
    with context.progress.task("refining", steps, "steps") as advance, fast():
        for step, reminded in enumerate(reminders):
            adam.zero_grad()
            loss = _descended(residuals, hooks, next(lessons), ordinary, reminded, settings.weight)
            if not torch.isfinite(loss):
                raise EditError(
                    "the loss of refining is not finite; check the model's weights, or lower refine.learning_rate"
                )
            for group, size in zip(adam.param_groups, sizes, strict=True):
                group["lr"] = size * (1 - step / steps)
            adam.step()
            advance()
    return [R.detach() for R in residuals]


def _added(lm: EditableModel, factors: Sequence[Factors], residuals: Sequence[Tensor]) -> list[Hook]:
    """Hooks that add the sum of R A k to the output of each layer's projection."""

    def adding(layer: int) -> Any:
        own = [R for (at, _, _), R in zip(factors, residuals, strict=True) if at == layer]
        A = torch.cat([A for at, _, A in factors if at == layer])

        def hook(_module: nn.Module, args: Any, output: Tensor) -> Tensor:
            keys = args[0].to(output.device)
            R = torch.cat(own, dim=1)
            return output + nn.functional.linear(nn.functional.linear(keys, A.to(keys)), R.to(keys))

        return hook

    layers = dict.fromkeys(layer for layer, _, _ in factors)
    return [(lm.projection(layer).module, "forward", adding(layer)) for layer in layers]


def _lessons(rows: Sequence[Row], settings: Refine) -> Iterator[list[Row]]:
    """The texts of each step: of every fact in turn, one of its groups and one of the group's texts, drawn."""
    drawn = random.Random(settings.seed)
    groups: dict[int, dict[tuple[int, int, int], list[Row]]] = {}
    for row in rows:
        if row.targets and not row.is_drift:
            groups.setdefault(row.fact, {}).setdefault(row.family, []).append(row)
    waiting: list[int] = []
    while True:
        texts: list[Row] = []
        while len(texts) < settings.texts_for(len(groups)):
            if not waiting:
                waiting = drawn.sample(list(groups), len(groups))
            of_fact = groups[waiting.pop()]
            texts.append(drawn.choice(of_fact[drawn.choice(list(of_fact))]))
        yield texts


def _reminders(ordinary: Sequence[Sequence[int]], settings: Refine) -> Iterator[list[int]]:
    """The ordinary text of each step, as indices: rows in a drawn order, each as often as any other."""
    drawn = random.Random(settings.seed)
    waiting: list[int] = []
    while True:
        some: list[int] = []
        tokens = 0
        while tokens < settings.tokens:
            if not waiting:
                waiting = drawn.sample(range(len(ordinary)), len(ordinary))
            some.append(waiting.pop())
            tokens += len(ordinary[some[-1]])
        yield some


@dataclass(eq=False)
class _Ordinary:
    """Ordinary text, and where the unedited model takes it.

    Attributes:
        lm: the model.
        rows: token rows. The first token of each does not count: it is an attention sink.
        layer: hidden states after this one are compared.
        budget: tokens of a forward pass.
        before: by row, its hidden states in the unedited model, tokens - 1 x d, in main memory.
    """

    lm: EditableModel
    rows: Sequence[Sequence[int]]
    layer: int
    budget: int
    before: dict[int, Tensor] = field(default_factory=dict)

    def chunks(self, some: Sequence[int]) -> list[list[int]]:
        """Rows that fit into one forward pass."""
        return [[some[i] for i in chunk] for chunk in chunks_by_cost([len(self.rows[i]) for i in some], self.budget)]

    @torch.no_grad()
    def remember(self, some: Sequence[int]) -> None:
        """Read hidden states of rows in the model as it is now."""

        def read(chunk: Sequence[int]) -> None:
            lengths = [len(self.rows[i]) - 1 for i in chunk]
            self.before.update(zip(chunk, self._states(chunk).cpu().split(lengths), strict=True))

        run_chunks(self.chunks(some), read, "rows of text", self.lm.device)

    def moved(self, some: Sequence[int], hooks: Sequence[Hook]) -> Tensor:
        """Sum of |h - h0|^2 / |h0|^2 over the tokens of rows that are remembered."""
        with hooked(hooks):
            after = self._states(some)
        after = after if after.dtype == torch.float64 else after.float()
        before = torch.cat([self.before[i] for i in some]).to(after)
        return ((after - before).square().sum(dim=-1) / before.square().sum(dim=-1)).sum()

    def _states(self, some: Sequence[int]) -> Float[Tensor, "tokens d"]:
        ids, mask = self.lm.pad([self.rows[i] for i in some])
        real = mask.bool()
        real[:, 0] = False
        seen: list[Tensor] = []

        def receive(hidden: Tensor) -> None:
            seen.append(by_row(hidden, len(some)))
            raise StopForward

        with hooked([site_hook(self.lm, Site(Place.BLOCK, self.layer), receive)]), suppress(StopForward):
            self.lm.run(input_ids=ids, attention_mask=mask, use_cache=False)
        return taken(seen[0], real)


def _descended(
    residuals: Sequence[Tensor],
    hooks: Sequence[Hook],
    texts: Sequence[Row],
    ordinary: _Ordinary,
    reminded: Sequence[int],
    weight: float,
) -> Tensor:
    """Add a step's gradients to the residuals; its loss."""
    lm, losses = ordinary.lm, list[Tensor]()
    count = sum(len(ordinary.rows[i]) - 1 for i in reminded)

    def descend(loss: Tensor) -> None:
        for R, gradient in zip(residuals, torch.autograd.grad(loss, list(residuals)), strict=True):
            R.grad = gradient if R.grad is None else R.grad + gradient
        losses.append(loss.detach())

    def teach(chunk: Sequence[int]) -> None:
        with hooked(hooks):
            found = row_losses(lm, [texts[i] for i in chunk], residuals[0].dtype)
        descend(found.clamp(min=_LEAST_LOSS).sum() / len(texts))

    def remind(chunk: Sequence[int]) -> None:
        descend(weight * ordinary.moved(chunk, hooks) / count)

    run_chunks(chunks_by_length([len(row.ids) for row in texts], ordinary.budget), teach, "texts", lm.device)
    run_chunks(ordinary.chunks(reminded), remind, "rows of text", lm.device)
    return torch.stack(losses).sum()
