"""Targets z*: the hidden state at the subject's last token that makes the model say the new fact.

ROME (arXiv 2202.05262, eq. 4) and MEMIT (arXiv 2210.07229, eq. 16) run Adam on a vector delta added at one site, PMET (arXiv 2308.08742,
eq. 6) on a second one at the attention's output as well. CoRE (arXiv 2505.23026) adds the variance over contexts, and LTI (arXiv
2410.07819) a teacher that has read the fact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import count

import torch

from bluedit.errors import FailedFactsError
from bluedit.execution import Execution
from bluedit.forward import Runner, longest_units, runners, shortened, tokens_per_step
from bluedit.methods.objective import Objective
from bluedit.model.editable import EditableModel
from bluedit.model.memory import run_chunks
from bluedit.model.sites import Place, Site
from bluedit.model.sums import sum_by_owner
from bluedit.progress import Advance, Retold
from bluedit.shapes import Bool, Float, Tensor
from bluedit.text.rows import Row, chunks_by_cost, evaluation_cost, linked, measured_rows, rotations
from bluedit.writing._lessons import lessons_of
from bluedit.writing._losses import log_probabilities, log_softmax, norm
from bluedit.writing._positions import Positions, drift_order
from bluedit.writing._recent import RecentLosses
from bluedit.writing.target import Targets

ADAPTIVE_WEIGHT, ADAPTIVE_DRIFT = 0.1, 0.01  # PMET, section 4.1 and its public code


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
    fisher: Mapping[Site, Float[Tensor, "d_value d_value"]] | None = None,
    shared: Sequence[int] | None = None,
) -> Targets:
    """Optimise z* of every fact in `rows` at `site`, on the weights as they are now.

    Facts are independent under Adam, so a chunk of facts is optimised in one forward pass per step. Columns whose vectors meet in a row
    are optimised in the same chunk and to the same step.

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
        fisher: Fisher information of all sites, where the descent needs it.
        shared: how many facts share each column, for clamp and steps that grow with them; None takes the number of its bare prompts.

    Raises:
        FailedFactsError: a loss is not finite; `columns` says of which facts.
    """
    by_fact: dict[int, list[Row]] = {}
    for row in rows:
        by_fact.setdefault(row.fact, []).append(row)
    together, bare = linked(rows), Counter(row.fact for row in rows if row.is_bare)
    costs = [sum(evaluation_cost(by_fact[f], rotated=objective.rotate) for f in group) for group in together]
    sites = (site, *later, *([Site(Place.ATTENTION, site.layer)] if objective.attention else []))
    make_runner = runners(lm, rows, sites, execution.precision)
    metric = torch.stack([fisher[one] for one in sites]) if objective.descent.curved and fisher else None
    found: dict[int, tuple[Tensor, ...]] = {}
    steps_on = Retold(advance)

    def run(chunk: Sequence[int]) -> None:
        facts = [fact for i in chunk for fact in together[i]]
        chosen = [row for fact in facts for row in by_fact[fact]]
        parts = rotations(chosen) if objective.rotate else [chosen]
        sharing = [max(1, bare[fact] if shared is None else shared[fact]) for fact in facts]
        had = parts[: max(objective.evaluations(k) for k in sharing)]  # the others do not get their turn
        units = longest_units(lm, chosen, sites)
        optimiser = ChunkOptimiser(make_runner.several(had), chosen, objective, sharing, len(parts), metric, units)
        if objective.anchors_on_unedited_weights or initial is not None:
            drift = [row for row in chosen if row.is_drift]
            with unedited() if objective.anchors_on_unedited_weights else nullcontext():
                optimiser.anchor(make_runner.exact(drift))
        if initial is not None:
            optimiser.begin(initial)
        if objective.variance:
            above = range(lm.anatomy.n_layers)[max(one.layer for one in sites) + 1 :]
            optimiser.watch(above[: objective.variance_layers])
        if objective.teacher:
            optimiser.teach(lambda some: runners(lm, some, sites)(some))
        columns = optimiser.optimise(steps_on.after(len(found)))
        found.update((fact, tuple(column[j] for column in columns)) for j, fact in enumerate(facts))

    chunks = chunks_by_cost(costs, execution.tokens_per_step or tokens_per_step(lm))
    run_chunks(chunks, run, "facts", lm.device)
    z, start, steps, loss = (torch.stack(column) for column in zip(*(found[f] for f in sorted(found)), strict=True))
    ahead = (z[:, 1 : 1 + len(later)] - start[:, 1 : 1 + len(later)]).permute(1, 2, 0).contiguous() if later else None
    return Targets(z[:, 0].T.contiguous(), start[:, 0].T.contiguous(), steps, loss, ahead)


class ChunkOptimiser:
    """Facts optimised together, one vector per fact and site.

    The runners have the rows of one evaluation each and take turns; the first has the bare prompts. After so many `turns` every text has
    had one; there may be fewer runners, where there are fewer evaluations.
    """

    def __init__(
        self,
        parts: Sequence[Runner],
        rows: Sequence[Row],
        objective: Objective,
        sharing: Sequence[int],
        turns: int = 1,
        fisher: Float[Tensor, "sites d_value d_value"] | None = None,
        longest: Float[Tensor, "sites facts"] | None = None,
    ) -> None:
        self.parts, self.objective, self.evaluations = parts, objective, 0
        self.facts = list(dict.fromkeys(row.fact for row in rows))
        runner = parts[0]
        values = runner.values if runner.values.dtype == torch.float64 else runner.values.float()
        measured = measured_rows(runner.rows)
        self.start = torch.stack([values[:, measured[fact]].mean(dim=1) for fact in self.facts], dim=1)
        self.delta = torch.zeros_like(self.start)
        unit = self.start if longest is None else shortened(self.start, longest[:, self.facts])
        self.length = unit.norm(dim=-1)  # |h|, the unit of steps, clamp and decay
        self.descent = objective.descent.optimiser(unit, objective.learning_rate, fisher)
        self.weight = self.start.new_ones(len(self.facts))
        group = {fact: i for i, those in enumerate(linked(rows)) for fact in those}
        self.groups = [group[fact] for fact in self.facts]
        self.clamp = objective.clamp * self.start.new_tensor([k**objective.clamp_growth for k in sharing])[:, None]
        self.most_steps = [objective.evaluations(k) for k in sharing]
        self.reference: Tensor | None = None
        self.positions = [Positions.of(part.rows, self.facts, self.start) for part in parts]
        self.lessons: dict[int, Tensor] = {}  # by part, log-probabilities at the positions that have a teacher
        self.recent = RecentLosses(turns, rows, self.facts, self.start)

    def begin(self, initial: Float[Tensor, "d_value n"]) -> None:
        """Start from these vectors instead of zero (columns in the numbering of the rows)."""
        self.delta[0] = initial.T[self.facts].to(self.delta)

    @torch.no_grad()
    def anchor(self, runner: Runner) -> None:
        """Take the distributions that `runner` gives for the drift rows as the reference of the KL term."""
        logits = runner.logits(torch.zeros_like(runner.values)).to(self.start.dtype)
        self.reference = log_softmax(logits[drift_order(runner.rows, {fact: i for i, fact in enumerate(self.facts)})])

    def watch(self, layers: Sequence[int]) -> None:
        """Take the variance of the hidden states at these layers into the loss; with none there is no such term."""
        for part in self.parts:
            part.watch = tuple(layers)

    def teach(self, make_runner: Callable[[Sequence[Row]], Runner]) -> None:
        """Take as teachers what the model says of each target after it has read the fact."""
        self.lessons = lessons_of(self.parts, make_runner, self.start)

    def optimise(self, advance: Advance) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(z, start, steps, loss) of the chunk's facts, in order; z and start for every site (n x sites x d_value).

        A step waits for the device once, to read which facts are finished.
        """
        active = list(range(len(self.facts)))
        start = self.start.transpose(0, 1).clone()
        z, steps, losses = start.clone(), torch.zeros(len(active), dtype=torch.long), start.new_zeros(len(active))
        for step in count():
            delta = self.delta.clone().requires_grad_(True)
            loss, done = self.loss(delta)
            self.recent.note(step, loss.detach())
            finished = self._finished(loss, done, step)
            if any(finished):
                for i in (i for i, ended in enumerate(finished) if ended):
                    z[active[i]], losses[active[i]] = (self.start + self.delta)[:, i], self.recent.mean(step)[i]
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
        """Which facts are finished after this step. Raises FailedFactsError when a loss is not finite."""
        finished = done | self.recent.below(self.objective.stop_loss, step)
        bad, *ended = torch.cat([(~torch.isfinite(loss)).sum()[None], finished.long()]).tolist()
        if bad:
            columns = (~torch.isfinite(loss)).nonzero().flatten().tolist()
            raise FailedFactsError(
                f"the loss of {bad} facts is not finite at step {step + 1}",
                "check the model's weights, or lower objective.learning_rate",
                [self.facts[i] for i in columns],
            )
        over = [bool(end) or step >= most - 1 for end, most in zip(ended, self.most_steps, strict=True)]
        going = {group for group, ended in zip(self.groups, over, strict=True) if not ended}
        return [group not in going for group in self.groups]

    def loss(self, delta: Float[Tensor, "sites n d_value"]) -> tuple[Float[Tensor, "n"], Bool[Tensor, "n"]]:
        """The loss of each fact, and whether it is finished by another rule than its loss.

        The loss is the mean over the fact's prompts of -log p(target) / len(target), plus the KL term and the weight decay.
        """
        part = self.evaluations % len(self.parts)
        self.evaluations += 1
        at = self.positions[part]
        logits = self.parts[part].logits(delta[:, at.added])
        log_p, now = log_probabilities(logits, at.target, at.token, at.drift)
        nll = -sum_by_owner(log_p * at.weight, at.fact, len(self.facts))
        if self.reference is None:
            self.reference = now.detach()
        moved = (now.exp() * (now - self.reference)).sum(dim=-1) * at.drift_share
        kl = sum_by_owner(moved * at.drift_main, at.drift_fact, len(self.facts))
        decay = (norm(delta) / self.length**2).sum(dim=0)
        loss = self.weight * nll + self.objective.kl_factor * kl + self.objective.weight_decay * decay
        if self.objective.others:
            others = sum_by_owner(moved * ~at.drift_main, at.drift_fact, len(self.facts))
            loss = loss + self.objective.others_factor * others
        loss = loss + self._untaught(part, at, logits) + self._spread(part, at)
        return loss, self._done(at, logits.detach(), kl.detach())

    def _untaught(self, part: int, at: Positions, logits: Tensor) -> Tensor | float:
        """The teacher term of each fact: KL(teacher || model), mean over the target's tokens; 0 without a teacher."""
        if part not in self.lessons:
            return 0.0
        teacher = self.lessons[part]
        now = log_softmax(logits[at.target[at.taught]].to(teacher.dtype))
        apart = (teacher.exp() * (teacher - now)).sum(dim=-1) * at.taught_weight
        return self.objective.teacher * sum_by_owner(apart, at.fact[at.taught], len(self.facts))

    def _spread(self, part: int, at: Positions) -> Tensor | float:
        """CoRE's term of each fact (arXiv 2505.23026): the variance over its contexts, mean over watched layers and dimensions; 0 without."""
        if not self.parts[part].watch:
            return 0.0
        states = self.parts[part].watched[:, at.context].to(self.start.dtype).transpose(0, 1)
        owner, facts = at.owner[at.context], len(self.facts)
        count = sum_by_owner(torch.ones_like(states[:, 0, 0]), owner, facts)[:, None, None].clamp(min=1)
        squares = sum_by_owner(states * states, owner, facts) / count
        means = sum_by_owner(states, owner, facts) / count
        return self.objective.variance * (squares - means * means).mean(dim=(1, 2))

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
        radius = self.clamp * self.length[..., None]
        size = self.delta.norm(dim=-1, keepdim=True)
        self.delta *= torch.where(size > radius, radius / size, 1.0)

    def _keep(self, kept: Sequence[int]) -> None:
        """Go on with these facts only."""
        self.facts, self.most_steps = [self.facts[i] for i in kept], [self.most_steps[i] for i in kept]
        self.groups = [self.groups[i] for i in kept]
        chosen = set(self.facts)
        for part in self.parts:
            part.keep([i for i, row in enumerate(part.rows) if row.fact in chosen])
        going = torch.tensor(kept, device=self.start.device)
        self.start, self.delta, self.length = self.start[:, going], self.delta[:, going], self.length[:, going]
        self.weight, self.clamp = self.weight[going], self.clamp[going]
        self.descent.keep(going)
        kept_rows = torch.isin(self.positions[0].drift_fact, going)
        self.reference = None if self.reference is None else self.reference[kept_rows]
        self.lessons = {
            number: said[torch.isin(self.positions[number].fact[self.positions[number].taught], going)]
            for number, said in self.lessons.items()
        }
        self.recent.keep(going)
        self.positions = [Positions.of(part.rows, self.facts, self.start) for part in self.parts]
