"""Targets z*: the hidden state at the subject's last token that makes the model say the new fact.

ROME (arXiv 2202.05262, eq. 4) and MEMIT (arXiv 2210.07229, eq. 16): Adam on a vector delta added at one site. Facts are
independent under Adam, so a chunk of facts is optimised in one forward pass per step, and finished facts leave the chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from bluedit.errors import EditError
from bluedit.lm.memory import EditableModel
from bluedit.lm.observe import Site
from bluedit.lm.prompts import Row, chunks_by_cost
from bluedit.lm.suffix import SuffixRunner
from bluedit.method.recipe import Objective
from bluedit.progress import Advance
from bluedit.shapes import Float, Int, Tensor

TOKENS_PER_STEP = 1024


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
    lm: EditableModel, rows: Sequence[Row], site: Site, objective: Objective, advance: Advance
) -> Targets:
    """Optimise z* of every fact in `rows` (see `rows_of(..., drift=True)`) at `site`, on the weights as they are now.

    Raises:
        EditError: a loss is not finite.
    """
    by_fact: dict[int, list[Row]] = {}
    for row in rows:
        by_fact.setdefault(row.fact, []).append(row)
    facts = sorted(by_fact)
    costs = [sum(row.suffix for row in by_fact[f]) for f in facts]
    parts: dict[int, tuple[Tensor, ...]] = {}
    for chunk in chunks_by_cost(costs, TOKENS_PER_STEP):
        lanes = [row for i in chunk for row in by_fact[facts[i]]]
        found = _Chunk(lm, lanes, site, objective).optimise(advance)
        parts.update((facts[i], tuple(column[j] for column in found)) for j, i in enumerate(chunk))
    z, start, steps, loss = (torch.stack(column) for column in zip(*(parts[f] for f in facts), strict=True))
    return Targets(z.T.contiguous(), start.T.contiguous(), steps, loss)


class _Chunk:
    """Facts optimised together. Lanes are token rows; `owner` maps them to the facts still being optimised."""

    def __init__(self, lm: EditableModel, rows: Sequence[Row], site: Site, objective: Objective) -> None:
        self.objective = objective
        self.facts = list(dict.fromkeys(row.fact for row in rows))
        self.runner = SuffixRunner(lm, rows, site)
        bare = {row.fact: lane for lane, row in enumerate(self.runner.rows) if row.kind == "bare"}
        value = self.runner.value[[bare[fact] for fact in self.facts]]
        self.start = value if value.dtype == torch.float64 else value.float()
        self.delta = torch.zeros_like(self.start)
        self.moments = (torch.zeros_like(self.start), torch.zeros_like(self.start))
        self.reference: Tensor | None = None
        self._index()

    def optimise(self, advance: Advance) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(z, start, steps, loss) of the chunk's facts, in order."""
        count = len(self.start)
        active = torch.arange(count)
        z, steps = self.start.clone(), torch.zeros(count, dtype=torch.long)
        losses, start = torch.zeros(count, dtype=self.start.dtype), self.start.clone()
        for step in range(self.objective.steps):
            delta = self.delta.clone().requires_grad_(True)
            loss = self.loss(delta)
            if not torch.isfinite(loss).all():
                raise EditError(
                    f"the loss of {int((~torch.isfinite(loss)).sum())} facts is not finite at step {step + 1}; check the model's weights, or lower objective.learning_rate"
                )
            losses[active], steps[active] = loss.detach().cpu(), step
            last = step == self.objective.steps - 1
            finished = (loss.detach() < self.objective.stop_loss) | last
            for local in finished.nonzero().flatten().tolist():
                z[active[local]] = self.start[local] + self.delta[local]
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

    def loss(self, delta: Float[Tensor, "n d_value"]) -> Float[Tensor, "n"]:
        """Per fact: mean over its prompts of -log p(target) / len(target), plus the KL and decay terms."""
        logits = self.runner.logits(delta[self.owner])
        told = _log_probability(logits[self.told], self.wanted)
        nll = -torch.zeros_like(delta[:, 0]).index_add(0, self.told_fact, told * self.told_weight)
        now = logits[self.drift].to(delta.dtype).log_softmax(dim=-1)
        if self.reference is None:
            self.reference = now.detach()
        drift = (now.exp() * (now - self.reference)).sum(dim=-1)
        decay = _norm(delta) / self.start.norm(dim=1) ** 2
        return nll + self.objective.kl_factor * drift + self.objective.weight_decay * decay

    @torch.no_grad()
    def _adam(self, gradient: Tensor, step: int) -> None:
        """One step of Adam (arXiv 1412.6980), then delta back into the ball of radius clamp x |h|."""
        first, second = self.moments
        first.mul_(0.9).add_(gradient, alpha=0.1)
        second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        scale = (second / (1 - 0.999**step)).sqrt_().add_(1e-8)
        self.delta -= self.objective.learning_rate * (first / (1 - 0.9**step)) / scale
        radius = self.objective.clamp * self.start.norm(dim=1, keepdim=True)
        size = self.delta.norm(dim=1, keepdim=True)
        self.delta *= torch.where(size > radius, radius / size, 1.0)

    def _keep(self, going: Tensor) -> None:
        """Go on with these facts only."""
        chosen = set(going.tolist())
        self.facts = [self.facts[i] for i in going.tolist()]
        lanes = [lane for lane, fact in enumerate(self.owner.tolist()) if fact in chosen]
        self.runner.keep(lanes)
        self.start, self.delta = self.start[going], self.delta[going]
        self.moments = (self.moments[0][going], self.moments[1][going])
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


def _norm(delta: Float[Tensor, "n d_value"]) -> Float[Tensor, "n"]:
    """|delta| with gradient 0, not NaN, at 0."""
    squared = (delta * delta).sum(dim=1)
    return torch.where(squared > 0, squared.clamp(min=torch.finfo(delta.dtype).tiny).sqrt(), squared)
