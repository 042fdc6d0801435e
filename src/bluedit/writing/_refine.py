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
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bluedit.errors import EditError
from bluedit.facts.subjects import same_subject_key
from bluedit.forward import tokens_per_step
from bluedit.methods.update import Refine
from bluedit.model.editable import EditableModel
from bluedit.model.hooks import Hook, StopForward, by_row, hooked, taken
from bluedit.model.memory import run_chunks
from bluedit.model.precision import reduced_linears
from bluedit.model.sites import Place, Site, site_hook
from bluedit.shapes import Float, Tensor
from bluedit.text.names import name_rows, texts_of_others
from bluedit.text.rows import Row, chunks_by_cost, chunks_by_length
from bluedit.writing.target_loss import row_losses

if TYPE_CHECKING:
    from bluedit.writing.context import WriteContext
    from bluedit.writing.keys import BatchRows

_LEAST_LOSS = 0.02  # nats: a text that is said more surely asks for nothing
_BETAS = (0.9, 0.98)

Factors = tuple[int, Tensor, Tensor]  # layer, R, A


@torch.enable_grad()
def refined(
    context: WriteContext, factors: Sequence[Factors], batch: BatchRows, steps: int, names: int = 0
) -> list[Float[Tensor, "d_value rank"]]:
    """The R of each write after some steps of Adam. The model has the weights before these writes, and keeps them.

    The loss is the mean -log p of some taught texts' targets, plus `refine.weight` times how far some ordinary text's hidden states move
    from those of the unedited model at the output of the last written layer, |h - h0|^2 / |h0|^2. So a batch also makes up for what earlier
    ones moved. No weight above changes, so a pass can end there. What the facts' texts say of well-known names can be held in the same
    way: ordinary text says little about other names in the facts' relations.

    Args:
        context: the model, the recipe with the size of steps and how much text they see, and where ordinary text comes from.
        factors: what was written, in order; the sum of R A of a layer is added to its weight. Each is where its layer is.
        batch: the facts and their texts; rows without a target do not count.
        steps: how many.
        names: tokens of what the facts' texts say of well-known names that a step sees.

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
    budget = execution.tokens_per_step or tokens_per_step(lm)
    lessons, reminders = _lessons(batch.rows, settings), _reminders(context, batch, factors, budget, steps, names)

    def fast() -> AbstractContextManager[None]:
        """Matrix products in bfloat16 where that is asked for, with copies of the weights as they are now."""
        reduced = reduced_linears(lm, execution.precision, lm.anatomy.blocks, lm.anatomy.head)
        return reduced.active() if reduced else nullcontext()

    with context.weights.unedited(), fast():
        for held, drawn in reminders:
            held.remember(sorted({i for some in drawn for i in some}))
    with context.progress.task("refining", steps, "steps") as advance, fast():
        for step in range(steps):
            adam.zero_grad()
            reminded = [(held, drawn[step]) for held, drawn in reminders]
            loss = _descended(residuals, hooks, next(lessons), reminded, settings.weight)
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


def _reminders(
    context: WriteContext, batch: BatchRows, factors: Sequence[Factors], budget: int, steps: int, names: int
) -> list[tuple[_Held, list[list[int]]]]:
    """What is held, and which of its texts each step sees: ordinary text, and what the facts' texts say of well-known names.

    Names that facts are about, also those of earlier edits, are not held: the unedited model has them where no fact is said.
    """
    lm, recipe, last = context.lm, context.recipe, max(layer for layer, _, _ in factors)
    taught = {same_subject_key(name) for fact in (*context.taught, *batch.facts) for name in fact.names}
    settings = recipe.update.refine

    def is_taught(name: str) -> bool:
        return same_subject_key(name) in taught

    changed = set(map(tuple, name_rows(lm, is_taught)))
    ordinary = [(row, 1) for row in context.ordinary() if len(row) > 1 and tuple(row) not in changed]
    named = texts_of_others(lm, batch.facts, recipe.wordings, is_taught, settings.seed) if names else []
    kinds = [(ordinary, settings.tokens), (named, names)]
    held = [(_Held(lm, texts, last, budget), tokens) for texts, tokens in kinds if texts]
    return [(some, list(islice(some.drawn(tokens, settings.seed), steps))) for some, tokens in held]


@dataclass(eq=False)
class _Held:
    """Texts whose hidden states stay where the unedited model has them.

    Attributes:
        lm: the model.
        texts: token ids of each, and the first token that counts: the first of a text does not, since it is an attention sink.
        layer: hidden states after this one are compared.
        budget: tokens of a forward pass.
        before: by text, its hidden states in the unedited model, tokens that count x d, in main memory.
    """

    lm: EditableModel
    texts: Sequence[tuple[Sequence[int], int]]
    layer: int
    budget: int
    before: dict[int, Tensor] = field(default_factory=dict)

    def drawn(self, tokens: int, seed: int) -> Iterator[list[int]]:
        """The texts of each step, together so many tokens, as indices: in a drawn order, each as often as any other."""
        order, waiting = random.Random(seed), list[int]()
        while True:
            some: list[int] = []
            seen = 0
            while seen < tokens:
                if not waiting:
                    waiting = order.sample(range(len(self.texts)), len(self.texts))
                some.append(waiting.pop())
                seen += len(self.texts[some[-1]][0])
            yield some

    def chunks(self, some: Sequence[int]) -> list[list[int]]:
        """Texts that fit into one forward pass."""
        lengths = [len(self.texts[i][0]) for i in some]
        return [[some[i] for i in chunk] for chunk in chunks_by_cost(lengths, self.budget)]

    def count(self, some: Iterable[int]) -> int:
        """How many tokens of some texts count."""
        return sum(len(ids) - start for ids, start in (self.texts[i] for i in some))

    @torch.no_grad()
    def remember(self, some: Sequence[int]) -> None:
        """Read hidden states of texts in the model as it is now."""

        def read(chunk: Sequence[int]) -> None:
            states = self._states(chunk).cpu().split([self.count([i]) for i in chunk])
            self.before.update(zip(chunk, states, strict=True))

        run_chunks(self.chunks(some), read, "texts", self.lm.device)

    def moved(self, some: Sequence[int], hooks: Sequence[Hook]) -> Tensor:
        """Sum of |h - h0|^2 / |h0|^2 over the tokens that count, of texts that are remembered."""
        with hooked(hooks):
            after = self._states(some)
        after = after if after.dtype == torch.float64 else after.float()
        before = torch.cat([self.before[i] for i in some]).to(after)
        return ((after - before).square().sum(dim=-1) / before.square().sum(dim=-1)).sum()

    def _states(self, some: Sequence[int]) -> Float[Tensor, "tokens d"]:
        ids, mask = self.lm.pad([self.texts[i][0] for i in some])
        starts = torch.tensor([self.texts[i][1] for i in some], device=ids.device)
        real = mask.bool() & (torch.arange(ids.shape[1], device=ids.device) >= starts[:, None])
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
    lessons: Sequence[Row],
    reminders: Sequence[tuple[_Held, Sequence[int]]],
    weight: float,
) -> Tensor:
    """Add a step's gradients to the residuals; its loss."""
    losses: list[Tensor] = []

    def descend(loss: Tensor) -> None:
        for R, gradient in zip(residuals, torch.autograd.grad(loss, list(residuals)), strict=True):
            R.grad = gradient if R.grad is None else R.grad + gradient
        losses.append(loss.detach())

    def teach(lm: EditableModel, chunk: Sequence[int]) -> None:
        with hooked(hooks):
            found = row_losses(lm, [lessons[i] for i in chunk], residuals[0].dtype)
        descend(found.clamp(min=_LEAST_LOSS).sum() / len(lessons))

    def remind(held: _Held, share: float, chunk: Sequence[int]) -> None:
        descend(share * held.moved(chunk, hooks))

    lm, budget = reminders[0][0].lm, reminders[0][0].budget
    run_chunks(chunks_by_length([len(row.ids) for row in lessons], budget), partial(teach, lm), "texts", lm.device)
    for held, some in reminders:
        run_chunks(held.chunks(some), partial(remind, held, weight / held.count(some)), "rows of text", lm.device)
    return torch.stack(losses).sum()
