"""Adam on the vectors of a chunk of facts, with finished facts leaving the chunk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from bluedit.errors import EditError
from bluedit.forward import Runner
from bluedit.methods.objective import Objective
from bluedit.model.sums import sum_by_owner
from bluedit.progress import Advance
from bluedit.shapes import Bool, Float, Int, Tensor
from bluedit.text.rows import Row
from bluedit.writing.keys import measured_rows

ADAPTIVE_WEIGHT, ADAPTIVE_DRIFT = 0.1, 0.01  # PMET, section 4.1 and its public code


@dataclass(frozen=True, eq=False)
class _Positions:
    """Which of a runner's output positions belong to which fact.

    Attributes:
        owner: fact of each row.
        target: positions that predict target tokens.
        token: the target token at each of these.
        fact: the fact of each of these.
        weight: its weight in the fact's loss: 1 / (tokens of the target x prompts of the group x groups of the fact).
        drift: the position of each fact's drift row.
    """

    owner: Int[Tensor, "rows"]
    target: Int[Tensor, "positions"]
    token: Int[Tensor, "positions"]
    fact: Int[Tensor, "positions"]
    weight: Float[Tensor, "positions"]
    drift: Int[Tensor, "n"]

    @classmethod
    def of(cls, rows: Sequence[Row], facts: Sequence[int], like: Tensor) -> _Positions:
        """Positions of rows in the order of a runner; `like` gives dtype and device."""
        numbers = {fact: i for i, fact in enumerate(facts)}
        prompts = Counter((row.fact, row.group) for row in rows if row.targets)
        groups = Counter(fact for fact, _ in prompts)
        target: list[int] = []
        token: list[int] = []
        fact_of: list[int] = []
        weight: list[float] = []
        drift = [0] * len(facts)
        position = 0
        for row in rows:
            count = len(row.targets)
            if count:
                target += range(position, position + count)
                token += row.targets
                fact_of += [numbers[row.fact]] * count
                weight += [1 / (count * prompts[row.fact, row.group] * groups[row.fact])] * count
            else:
                drift[numbers[row.fact]] = position
            position += max(1, count)
        owner = [numbers[row.fact] for row in rows]

        def index(numbers: list[int]) -> Tensor:
            return torch.tensor(numbers, device=like.device, dtype=torch.long)

        weights = torch.tensor(weight, device=like.device, dtype=like.dtype)
        return cls(index(owner), index(target), index(token), index(fact_of), weights, index(drift))


class ChunkOptimiser:
    """Facts optimised together, one vector per fact and site."""

    def __init__(self, runner: Runner, rows: Sequence[Row], objective: Objective) -> None:
        self.runner, self.objective = runner, objective
        self.facts = list(dict.fromkeys(row.fact for row in rows))
        values = runner.values if runner.values.dtype == torch.float64 else runner.values.float()
        self.start = torch.stack(
            [values[:, measured_rows(runner.rows, fact)].mean(dim=1) for fact in self.facts], dim=1
        )
        self.delta = torch.zeros_like(self.start)
        self.moments = (torch.zeros_like(self.start), torch.zeros_like(self.start))
        self.weight = self.start.new_ones(len(self.facts))
        sharing = Counter(row.fact for row in rows if row.is_bare)
        growth = [max(1, sharing[fact]) ** objective.clamp_growth for fact in self.facts]
        self.clamp = self.start.new_tensor(growth)[:, None] * objective.clamp
        self.reference: Tensor | None = None
        self.positions = _Positions.of(runner.rows, self.facts, self.start)

    @torch.no_grad()
    def anchor(self, runner: Runner) -> None:
        """Take the distributions that `runner` gives for the drift rows as the reference of the KL term."""
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
            self._check(loss, step)
            losses[active], steps[active] = loss.detach(), step
            last = step == self.objective.steps - 1
            finished = done | (loss.detach() < self.objective.stop_loss) | last
            for i in finished.nonzero().flatten().tolist():
                z[active[i]] = (self.start + self.delta)[0, i]
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

    def _check(self, loss: Tensor, step: int) -> None:
        bad = int((~torch.isfinite(loss)).sum())
        if bad:
            raise EditError(
                f"the loss of {bad} facts is not finite at step {step + 1}; check the model's weights, or lower objective.learning_rate"
            )

    def loss(self, delta: Float[Tensor, "sites n d_value"]) -> tuple[Float[Tensor, "n"], Bool[Tensor, "n"]]:
        """The loss of each fact, and whether it is finished by another rule than its loss.

        The loss is the mean over the fact's prompts of -log p(target) / len(target), plus the KL term and the weight decay.
        """
        at = self.positions
        logits = self.runner.logits(delta[:, at.owner])
        log_p = _log_probability(logits[at.target], at.token)
        nll = -sum_by_owner(log_p * at.weight, at.fact, len(self.facts))
        now = _log_softmax(logits[at.drift].to(delta.dtype))
        if self.reference is None:
            self.reference = now.detach()
        kl = (now.exp() * (now - self.reference)).sum(dim=-1)
        decay = (_norm(delta) / self.start.norm(dim=-1) ** 2).sum(dim=0)
        loss = self.weight * nll + self.objective.kl_factor * kl + self.objective.weight_decay * decay
        return loss, self._done(logits.detach(), kl.detach())

    def _done(self, logits: Float[Tensor, "positions vocabulary"], kl: Float[Tensor, "n"]) -> Bool[Tensor, "n"]:
        """Facts finished because the target is the first choice in every prompt; also sets PMET's weights for the next step."""
        done = torch.zeros_like(self.weight, dtype=torch.bool)
        if not self.objective.stops_when_said and not self.objective.adaptive:
            return done
        at = self.positions
        missed = (logits[at.target].argmax(dim=-1) != at.token).to(self.weight.dtype)
        said = sum_by_owner(missed, at.fact, len(self.facts)) == 0
        if self.objective.stops_when_said:
            done |= said
        if self.objective.adaptive:
            done |= said & (kl < ADAPTIVE_DRIFT)
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
        radius = self.clamp * self.start.norm(dim=-1, keepdim=True)
        size = self.delta.norm(dim=-1, keepdim=True)
        self.delta *= torch.where(size > radius, radius / size, 1.0)

    def _keep(self, going: Tensor) -> None:
        """Go on with these facts only."""
        chosen = set(going.tolist())
        self.facts = [self.facts[i] for i in going.tolist()]
        self.runner.keep([i for i, fact in enumerate(self.positions.owner.tolist()) if fact in chosen])
        self.start, self.delta = self.start[:, going], self.delta[:, going]
        self.weight, self.clamp = self.weight[going], self.clamp[going]
        self.moments = (self.moments[0][:, going], self.moments[1][:, going])
        self.reference = None if self.reference is None else self.reference[going]
        self.positions = _Positions.of(self.runner.rows, self.facts, self.start)


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
