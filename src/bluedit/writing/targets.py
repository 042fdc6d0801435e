"""Targets z*: the hidden state at the subject's last token that makes the model say the new fact.

ROME (arXiv 2202.05262, eq. 4) and MEMIT (arXiv 2210.07229, eq. 16): Adam on a vector delta added at one site, PMET (arXiv
2308.08742, eq. 6) on a second one at the attention's output as well. Facts are independent under Adam, so a chunk of facts is
optimised in one forward pass per step, and finished facts leave the chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from bluedit.errors import EditError
from bluedit.forward import Runner, runners, tokens_per_step
from bluedit.model.editable import EditableModel
from bluedit.model.sites import Site
from bluedit.progress import Advance
from bluedit.methods.recipe import Objective
from bluedit.shapes import Bool, Float, Int, Tensor
from bluedit.text.rows import Row, chunks_by_cost

_BEGINNING = 16  # tokens before the subject's last one, of which only keys and values are held, that cost as much memory as one after it
ADAPTIVE_WEIGHT, ADAPTIVE_DRIFT = 0.1, 0.01  # PMET, section 4.1 and its public code


@dataclass(frozen=True, eq=False)
class Targets:
    """Optimised targets of n facts at one site.

    Attributes:
        z: target activations, d_value x n, float32 or wider.
        start: activations before, on the bare prompt, d_value x n.
        steps: Adam steps taken per fact.
        loss: last loss per fact, in nats.
    """

    z: Float[Tensor, "d_value n"]
    start: Float[Tensor, "d_value n"]
    steps: Int[Tensor, "n"]
    loss: Float[Tensor, "n"]


def optimise_targets(
    lm: EditableModel,
    rows: Sequence[Row],
    site: Site,
    objective: Objective,
    advance: Advance,
    unedited: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Targets:
    """Optimise z* of every fact in `rows` (see `rows_of(..., drift=True)`) at `site`, on the weights as they are now.

    Args:
        lm: the model.
        rows: prompts of the facts; rows of one fact share its vector.
        site: where the vector is added and z* is measured.
        objective: the loss and its numbers.
        advance: called once for each finished fact.
        unedited: puts the unedited weights in place for a while; the KL term holds on to them if the objective says so.

    Raises:
        EditError: a loss is not finite.
    """
    by_fact: dict[int, list[Row]] = {}
    for row in rows:
        by_fact.setdefault(row.fact, []).append(row)
    facts = sorted(by_fact)
    costs = [sum(row.suffix + row.subject_last // _BEGINNING for row in by_fact[f]) for f in facts]
    parts: dict[int, tuple[Tensor, ...]] = {}
    sites = (site, Site("attention", site.layer)) if objective.attention else (site,)
    run = runners(lm, rows, sites, objective.precision)
    for chunk in chunks_by_cost(costs, objective.tokens_per_step or tokens_per_step(lm)):
        lanes = [row for i in chunk for row in by_fact[facts[i]]]
        chunk_of = _Chunk(run(lanes), lanes, objective)
        if objective.kl_anchor == "unedited":
            drift = [row for row in lanes if row.kind == "drift"]
            with unedited():
                chunk_of.anchor(runners(lm, drift, sites)(drift))
        found = chunk_of.optimise(advance)
        parts.update((facts[i], tuple(column[j] for column in found)) for j, i in enumerate(chunk))
    z, start, steps, loss = (torch.stack(column) for column in zip(*(parts[f] for f in facts), strict=True))
    return Targets(z.T.contiguous(), start.T.contiguous(), steps, loss)


class _Chunk:
    """Facts optimised together. Lanes are token rows; `owner` maps them to the facts still being optimised."""

    def __init__(self, runner: Runner, rows: Sequence[Row], objective: Objective) -> None:
        self.runner, self.objective = runner, objective
        self.facts = list(dict.fromkeys(row.fact for row in rows))
        values = self.runner.values if self.runner.values.dtype == torch.float64 else self.runner.values.float()
        numbers = {fact: i for i, fact in enumerate(self.facts)}
        bare = [row.fact if row.kind == "bare" else None for row in self.runner.rows]
        self.start = torch.stack(
            [values[:, [lane for lane, owner in enumerate(bare) if owner == fact]].mean(dim=1) for fact in numbers],
            dim=1,
        )
        self.delta = torch.zeros_like(self.start)
        self.moments = (torch.zeros_like(self.start), torch.zeros_like(self.start))
        self.weight = self.start.new_ones(len(self.facts))
        self.reference: Tensor | None = None
        self._index()

    @torch.no_grad()
    def anchor(self, runner: Runner) -> None:
        """Take the distributions that `runner` gives for the drift rows as the ones to hold on to."""
        logits = runner.logits(torch.zeros_like(runner.values)).to(self.start.dtype)
        places = {row.fact: i for i, row in enumerate(runner.rows)}
        self.reference = _log_softmax(logits[[places[fact] for fact in self.facts]])

    def optimise(self, advance: Advance) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(z, start, steps, loss) of the chunk's facts, in order."""
        count = len(self.facts)
        active = torch.arange(count)
        start = self.start[0].clone()
        z, steps, losses = start.clone(), torch.zeros(count, dtype=torch.long), start.new_zeros(count)
        for step in range(self.objective.steps):
            delta = self.delta.clone().requires_grad_(True)
            loss, done = self.loss(delta)
            if not torch.isfinite(loss).all():
                raise EditError(
                    f"the loss of {int((~torch.isfinite(loss)).sum())} facts is not finite at step {step + 1}; check the model's weights, or lower objective.learning_rate"
                )
            losses[active], steps[active] = loss.detach(), step
            last = step == self.objective.steps - 1
            finished = done | (loss.detach() < self.objective.stop_loss) | last
            for local in finished.nonzero().flatten().tolist():
                z[active[local]] = (self.start + self.delta)[0, local]
                advance()
            if finished.all():
                break
            (gradient,) = torch.autograd.grad(loss.sum(), delta)
            self._adam(gradient, step + 1)
            if finished.any():
                going = (~finished).nonzero().flatten()
                active = active[going.cpu()]
                self._keep(going)
        return z, start, steps, losses

    def loss(self, delta: Float[Tensor, "sites n d_value"]) -> tuple[Float[Tensor, "n"], Bool[Tensor, "n"]]:
        """Per fact: mean over its prompts of -log p(target) / len(target), plus the KL and decay terms; and whether it is done by
        another rule than the loss."""
        logits = self.runner.logits(delta[:, self.owner])
        told = _log_probability(logits[self.told], self.wanted)
        nll = -torch.zeros_like(delta[0, :, 0]).index_add(0, self.told_fact, told * self.told_weight)
        now = _log_softmax(logits[self.drift].to(delta.dtype))
        if self.reference is None:
            self.reference = now.detach()
        drift = (now.exp() * (now - self.reference)).sum(dim=-1)
        decay = (_norm(delta) / self.start.norm(dim=-1) ** 2).sum(dim=0)
        loss = self.weight * nll + self.objective.kl_factor * drift + self.objective.weight_decay * decay
        return loss, self._done(logits.detach(), drift.detach())

    def _done(self, logits: Float[Tensor, "positions vocabulary"], drift: Float[Tensor, "n"]) -> Bool[Tensor, "n"]:
        """Facts finished because every prompt's first choice is the target; PMET's weights for the next step."""
        done = torch.zeros_like(self.weight, dtype=torch.bool)
        if self.objective.stop == "loss" and not self.objective.adaptive:
            return done
        missed = (logits[self.told].argmax(dim=-1) != self.wanted).to(self.weight.dtype)
        said = torch.zeros_like(self.weight).index_add(0, self.told_fact, missed) == 0
        if self.objective.stop == "argmax":
            done |= said
        if self.objective.adaptive:
            done |= said & (drift < ADAPTIVE_DRIFT)
            self.weight = torch.where(said, ADAPTIVE_WEIGHT, 1.0).to(self.weight.dtype)
        return done

    @torch.no_grad()
    def _adam(self, gradient: Tensor, step: int) -> None:
        """One step of Adam (arXiv 1412.6980), then delta back into the ball of radius clamp x |h|."""
        first, second = self.moments
        first.mul_(0.9).add_(gradient, alpha=0.1)
        second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        scale = (second / (1 - 0.999**step)).sqrt_().add_(1e-8)
        self.delta -= self.objective.learning_rate * (first / (1 - 0.9**step)) / scale
        radius = self.objective.clamp * self.start.norm(dim=-1, keepdim=True)
        size = self.delta.norm(dim=-1, keepdim=True)
        self.delta *= torch.where(size > radius, radius / size, 1.0)

    def _keep(self, going: Tensor) -> None:
        """Go on with these facts only."""
        chosen = set(going.tolist())
        self.facts = [self.facts[i] for i in going.tolist()]
        lanes = [lane for lane, fact in enumerate(self.owner.tolist()) if fact in chosen]
        self.runner.keep(lanes)
        self.start, self.delta, self.weight = self.start[:, going], self.delta[:, going], self.weight[going]
        self.moments = (self.moments[0][:, going], self.moments[1][:, going])
        self.reference = None if self.reference is None else self.reference[going]
        self._index()

    def _index(self) -> None:
        """Where in the runner's positions each fact's target tokens and drift distribution are."""
        rows, device = self.runner.rows, self.start.device
        numbers = {fact: i for i, fact in enumerate(self.facts)}
        prompts = dict.fromkeys(numbers, 0)
        for row in rows:
            prompts[row.fact] += bool(row.targets)
        told: list[int] = []
        wanted: list[int] = []
        fact_of: list[int] = []
        weight: list[float] = []
        drift = [0] * len(self.facts)
        position = 0
        for row in rows:
            count = len(row.targets)
            if count:
                told += range(position, position + count)
                wanted += row.targets
                fact_of += [numbers[row.fact]] * count
                weight += [1 / (count * prompts[row.fact])] * count
            else:
                drift[numbers[row.fact]] = position
            position += max(1, count)
        self.owner = torch.tensor([numbers[row.fact] for row in rows], device=device)
        self.told, self.wanted = torch.tensor(told, device=device), torch.tensor(wanted, device=device)
        self.told_fact = torch.tensor(fact_of, device=device)
        self.told_weight = torch.tensor(weight, device=device, dtype=self.start.dtype)
        self.drift = torch.tensor(drift, device=device, dtype=torch.long)


def _log_probability(
    logits: Float[Tensor, "positions vocabulary"], tokens: Int[Tensor, "positions"]
) -> Float[Tensor, "positions"]:
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return -torch.nn.functional.cross_entropy(wide, tokens, reduction="none")


def _log_softmax(logits: Float[Tensor, "n vocabulary"]) -> Float[Tensor, "n vocabulary"]:
    """Finite also where the model rules a token out (logit -inf): in KL, 0 log 0 is then 0."""
    return logits.log_softmax(dim=-1).clamp(min=torch.finfo(logits.dtype).min)


def _norm(delta: Float[Tensor, "sites n d_value"]) -> Float[Tensor, "sites n"]:
    """|delta| with gradient 0, not NaN, at 0."""
    squared = (delta * delta).sum(dim=-1)
    return torch.where(squared > 0, squared.clamp(min=torch.finfo(delta.dtype).tiny).sqrt(), squared)
