"""Targets z*: the hidden state at the subject's last token that makes the model say the new fact.

ROME (arXiv 2202.05262, eq. 4) and MEMIT (arXiv 2210.07229, eq. 16) run Adam on a vector delta added at one site, PMET (arXiv 2308.08742,
eq. 6) on a second one at the attention's output as well. The norm anchor (NAS, arXiv 2602.02543) keeps values as long as the unedited
model's, however many edits came before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch

from bluedit.errors import EditError
from bluedit.execution import Execution
from bluedit.forward import Runner, runners, tokens_per_step
from bluedit.methods.objective import Objective
from bluedit.model.editable import EditableModel
from bluedit.model.memory import run_chunks
from bluedit.model.sites import Place, Site
from bluedit.model.sums import sum_by_owner
from bluedit.progress import Advance, Retold
from bluedit.shapes import Bool, Float, Int, Tensor
from bluedit.text.rows import Row, chunks_by_cost, measured_rows, rotations
from bluedit.writing._positions import Positions
from bluedit.writing.target import Targets

ADAPTIVE_WEIGHT, ADAPTIVE_DRIFT = 0.1, 0.01  # PMET, section 4.1 and its public code
_PREFIX_COST = (
    16  # prefix tokens, of which only keys and values are kept, that need as much memory as one token after them
)


@torch.enable_grad()
def optimise_targets(
    lm: EditableModel,
    rows: Sequence[Row],
    site: Site,
    objective: Objective,
    execution: Execution,
    advance: Advance,
    unedited: Callable[[], AbstractContextManager[None]] = nullcontext,
    later: Sequence[Site] = (),
    initial: Float[Tensor, "d_value n"] | None = None,
) -> Targets:
    """Optimise z* of every fact in `rows` at `site`, on the weights as they are now.

    Facts are independent under Adam, so a chunk of facts is optimised in one forward pass per step.

    Args:
        lm: the model.
        rows: prompts of the facts, with drift rows; rows of one fact share its vector.
        site: where the vector is added and z* is measured.
        objective: the loss and its numbers.
        execution: precision, and tokens per step.
        advance: called once for each finished fact.
        unedited: puts the unedited weights in place for a while; the KL term holds on to them if the objective says so.
        later: sites of later layers whose vectors are optimised at the same time.
        initial: vectors to start from, by column; None starts from zero.

    Raises:
        EditError: a loss is not finite.
    """
    by_fact: dict[int, list[Row]] = {}
    for row in rows:
        by_fact.setdefault(row.fact, []).append(row)
    facts = sorted(by_fact)
    costs = [sum(row.suffix + row.subject_last // _PREFIX_COST for row in by_fact[f]) for f in facts]
    sites = (site, *later, *([Site(Place.ATTENTION, site.layer)] if objective.attention else []))
    make_runner = runners(lm, rows, sites, execution.precision)
    found: dict[int, tuple[Tensor, ...]] = {}
    steps_on = Retold(advance)

    def run(chunk: Sequence[int]) -> None:
        chosen = [row for i in chunk for row in by_fact[facts[i]]]
        parts = rotations(chosen) if objective.rotate else [chosen]
        optimiser = ChunkOptimiser([make_runner(part) for part in parts], chosen, objective)
        if objective.anchors_on_unedited_weights or initial is not None:
            drift = [row for row in chosen if row.is_drift]
            with unedited() if objective.anchors_on_unedited_weights else nullcontext():
                optimiser.anchor(runners(lm, drift, sites)(drift))
        if initial is not None:
            optimiser.begin(initial)
        columns = optimiser.optimise(steps_on.after(len(found)))
        found.update((facts[i], tuple(column[j] for column in columns)) for j, i in enumerate(chunk))

    chunks = chunks_by_cost(costs, execution.tokens_per_step or tokens_per_step(lm))
    run_chunks(chunks, run, "facts", lm.device)
    z, start, steps, loss = (torch.stack(column) for column in zip(*(found[f] for f in facts), strict=True))
    ahead = (z[:, 1 : 1 + len(later)] - start[:, 1 : 1 + len(later)]).permute(1, 2, 0).contiguous() if later else None
    return Targets(z[:, 0].T.contiguous(), start[:, 0].T.contiguous(), steps, loss, ahead)


class ChunkOptimiser:
    """Facts optimised together, one vector per fact and site.

    The runners have the rows of one evaluation each and take turns; the first has the bare prompts.
    """

    def __init__(self, parts: Sequence[Runner], rows: Sequence[Row], objective: Objective) -> None:
        self.parts, self.objective, self.evaluations = parts, objective, 0
        self.facts = list(dict.fromkeys(row.fact for row in rows))
        runner = parts[0]
        values = runner.values if runner.values.dtype == torch.float64 else runner.values.float()
        self.start = torch.stack(
            [values[:, measured_rows(runner.rows, fact)].mean(dim=1) for fact in self.facts], dim=1
        )
        self.delta = torch.zeros_like(self.start)
        self.descent = objective.descent.optimiser(self.start, objective.learning_rate)
        self.weight = self.start.new_ones(len(self.facts))
        sharing = Counter(row.fact for row in rows if row.is_bare)
        growth = [max(1, sharing[fact]) ** objective.clamp_growth for fact in self.facts]
        self.clamp = self.start.new_tensor(growth)[:, None] * objective.clamp
        self.reference: Tensor | None = None
        self.positions = [Positions.of(part.rows, self.facts, self.start) for part in parts]
        self.recent = self.start.new_full((len(parts), len(self.facts)), torch.inf)

    def begin(self, initial: Float[Tensor, "d_value n"]) -> None:
        """Start from these vectors instead of zero (columns in the numbering of the rows)."""
        self.delta[0] = initial.T[self.facts].to(self.delta)

    @torch.no_grad()
    def anchor(self, runner: Runner) -> None:
        """Take the distributions that `runner` gives for the drift rows as the reference of the KL term."""
        logits = runner.logits(torch.zeros_like(runner.values)).to(self.start.dtype)
        places = {row.fact: i for i, row in enumerate(runner.rows)}
        self.reference = _log_softmax(logits[[places[fact] for fact in self.facts]])

    def optimise(self, advance: Advance) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(z, start, steps, loss) of the chunk's facts, in order; z and start for every site (n x sites x d_value).

        A step waits for the device once, to read which facts are finished.
        """
        active = list(range(len(self.facts)))
        start = self.start.transpose(0, 1).clone()
        z, steps, losses = start.clone(), torch.zeros(len(active), dtype=torch.long), start.new_zeros(len(active))
        for step in range(self.objective.steps):
            delta = self.delta.clone().requires_grad_(True)
            loss, done = self.loss(delta)
            self.recent[step % len(self.parts)] = loss.detach()
            finished = self._finished(loss, done, step)
            if any(finished):
                mean = self.recent[: step + 1].mean(dim=0)
                for i in (i for i, ended in enumerate(finished) if ended):
                    z[active[i]], losses[active[i]] = (self.start + self.delta)[:, i], mean[i]
                    steps[active[i]] = step
                    advance()
            if all(finished):
                break
            (gradient,) = torch.autograd.grad(loss.sum(), delta)
            self._step(gradient)
            if any(finished):
                going = [i for i, ended in enumerate(finished) if not ended]
                active = [active[i] for i in going]
                self._keep(going)
        return z, start, steps, losses

    def _finished(self, loss: Float[Tensor, "n"], done: Bool[Tensor, "n"], step: int) -> list[bool]:
        """Which facts are finished after this step. Raises EditError when a loss is not finite."""
        finished = done | (self.recent.max(dim=0).values < self.objective.stop_loss)
        bad, *ended = torch.cat([(~torch.isfinite(loss)).sum()[None], finished.long()]).tolist()
        if bad:
            raise EditError(
                f"the loss of {bad} facts is not finite at step {step + 1}; check the model's weights, or lower objective.learning_rate"
            )
        last = step == self.objective.steps - 1
        return [last or bool(end) for end in ended]

    def loss(self, delta: Float[Tensor, "sites n d_value"]) -> tuple[Float[Tensor, "n"], Bool[Tensor, "n"]]:
        """The loss of each fact, and whether it is finished by another rule than its loss.

        The loss is the mean over the fact's prompts of -log p(target) / len(target), plus the KL term and the weight decay.
        """
        part = self.evaluations % len(self.parts)
        self.evaluations += 1
        at = self.positions[part]
        logits = self.parts[part].logits(delta[:, at.owner])
        log_p = _log_probability(logits[at.target], at.token)
        nll = -sum_by_owner(log_p * at.weight, at.fact, len(self.facts))
        now = _log_softmax(logits[at.drift].to(delta.dtype))
        if self.reference is None:
            self.reference = now.detach()
        kl = (now.exp() * (now - self.reference)).sum(dim=-1)
        decay = (_norm(delta) / self.start.norm(dim=-1) ** 2).sum(dim=0)
        loss = self.weight * nll + self.objective.kl_factor * kl + self.objective.weight_decay * decay
        return loss, self._done(at, logits.detach(), kl.detach())

    def _done(
        self, at: Positions, logits: Float[Tensor, "positions vocabulary"], kl: Float[Tensor, "n"]
    ) -> Bool[Tensor, "n"]:
        """Facts finished because the target is the first choice in every prompt; also sets PMET's weights for the next step."""
        done = torch.zeros_like(self.weight, dtype=torch.bool)
        if not self.objective.stops_when_said and not self.objective.adaptive:
            return done
        missed = (logits[at.target].argmax(dim=-1) != at.token).to(self.weight.dtype)
        said = sum_by_owner(missed, at.fact, len(self.facts)) == 0
        if self.objective.stops_when_said:
            done |= said
        if self.objective.adaptive:
            done |= said & (kl < ADAPTIVE_DRIFT)
            self.weight = torch.where(said, ADAPTIVE_WEIGHT, 1.0).to(self.weight.dtype)
        return done

    @torch.no_grad()
    def _step(self, gradient: Tensor) -> None:
        """One step of the optimiser, then delta back into the ball of radius clamp x |h|."""
        self.delta += self.descent.step(gradient)
        radius = self.clamp * self.start.norm(dim=-1, keepdim=True)
        size = self.delta.norm(dim=-1, keepdim=True)
        self.delta *= torch.where(size > radius, radius / size, 1.0)

    def _keep(self, kept: Sequence[int]) -> None:
        """Go on with these facts only."""
        self.facts = [self.facts[i] for i in kept]
        chosen = set(self.facts)
        for part in self.parts:
            part.keep([i for i, row in enumerate(part.rows) if row.fact in chosen])
        going = torch.tensor(kept, device=self.start.device)
        self.start, self.delta = self.start[:, going], self.delta[:, going]
        self.weight, self.clamp = self.weight[going], self.clamp[going]
        self.descent.keep(going)
        self.reference = None if self.reference is None else self.reference[going]
        self.recent = self.recent[:, going]
        self.positions = [Positions.of(part.rows, self.facts, self.start) for part in self.parts]


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


def written_values(targets: Targets, mlp: Float[Tensor, "d_value n"]) -> Float[Tensor, "d_value n"]:
    """v*: what the MLP must put out, its present output plus what the target adds."""
    return mlp + (targets.z - targets.start)


def hold_norm(targets: Targets, mlp: Float[Tensor, "d_value n"], norm: float) -> Targets:
    """Targets whose v* keep their direction and have length `norm`.

    NAS's public code leaves out facts whose v* is over twice as long; here every fact is written. A v* of zero, which has no direction,
    stays zero.

    Args:
        targets: as optimised.
        mlp: the MLP's output on the bare prompts.
        norm: mean |v*| on the unedited model.
    """
    v = written_values(targets, mlp)
    size = v.norm(dim=0)
    return replace(targets, z=targets.start + v * torch.where(size > 0, norm / size, 1.0) - mlp)


def anchor_norm(values: Float[Tensor, "d_value n"]) -> float:
    """Mean |v*| without the longest twentieth, as NAS's public code measures it."""
    sizes = values.norm(dim=0).sort().values
    return float(sizes[: len(sizes) - len(sizes) // 20].mean())
