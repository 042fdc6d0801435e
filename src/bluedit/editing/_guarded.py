"""Writing an edit under a guard: every batch is measured before it is kept, and taken back, softened or divided if it breaks a rule."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import TYPE_CHECKING, Any, NoReturn

from bluedit.editing._case import BatchCase
from bluedit.editing._verdict import Checks, Verdict
from bluedit.editing.guard import Guarding, LeftOut
from bluedit.editing.known import with_spacing
from bluedit.errors import EditError, FailedFactsError, GuardError
from bluedit.facts.fact import Fact
from bluedit.facts.records import fact_record
from bluedit.writing.found import FoundTargets

if TYPE_CHECKING:
    from bluedit.evaluate.baseline import Baseline
    from bluedit.model.editable import EditableModel
    from bluedit.progress import Progress
    from bluedit.writing.batch import Batch
    from bluedit.writing.edit_run import EditRun
    from bluedit.writing.weights import EditedWeights, Snapshot

log = logging.getLogger(__name__)
MOST_LOSS = 4.0  # nats a token of a target that counts as converged: docs/guard.md
_TOLD = 6  # facts that a message names
_MOST_RUNS = 3  # of an edit that does not say enough of its facts


@dataclass(eq=False)
class Guarded:
    """Decides which batches of an edit are kept, by a guard, and leaves out facts that fail if that is asked for.

    Attributes:
        asked: rules, protected facts, what to do.
        checks: measures; None without rules.
        left_out: facts that are not written, with the reason.
        found: targets, for facts that are written again.
    """

    asked: Guarding
    checks: Checks | None
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    found: FoundTargets = field(default_factory=FoundTargets)

    @classmethod
    def of(
        cls, asked: Guarding, lm: EditableModel, baseline: Baseline, weights: EditedWeights, progress: Progress
    ) -> Guarded | None:
        """What decides on the batches of an edit; None if every batch is kept.

        Args:
            asked: of the edit.
            lm, weights: the model and its weights.
            baseline: measures of the unedited model.
            progress: where to report.
        """
        if asked.guard is None:
            return cls(asked, None) if asked.skip_failed else None
        protect = with_spacing(lm, asked.protect)
        return cls(asked, Checks(asked.guard.rules, protect, baseline, weights, progress))

    @property
    def most_loss(self) -> float:
        """The largest loss of a target that counts as converged."""
        return MOST_LOSS if self.asked.skip_failed else inf

    def decide(self, run: EditRun, part: Sequence[Fact]) -> None:
        """Write some facts and keep what may stay."""
        run.begin()
        written = self.attempt(run, part)
        if written is None:
            return
        facts, batch, snapshot, verdict = written
        case = BatchCase(self, run, facts, batch, snapshot, verdict)
        if verdict is None or verdict.passed:
            case.accept("kept")
        elif run.again:
            self.asked.action.resolve_again(case)
        else:
            self.asked.action.resolve(case)

    def settle(self, run: EditRun) -> None:
        """Refine all batches together, and keep that if it breaks no rule, or breaks it less than before."""
        if not run.steps_together:
            return
        facts, done = [fact for batch in run.done for fact in batch.facts], run.done
        before = self.verdict(run, facts)
        run.refine()
        after = self.verdict(run, facts)
        if not after or not before or not self.checks:
            return
        if after.breaks_no_more_than(before):
            self.checks.kept(after)
            self.notes.append(f"after its batches were refined together: {after.told}")
        else:
            run.replace_all(done)
            self.notes.append(f"its batches were not refined together, because then {after.told}")

    def attempt(self, run: EditRun, part: Sequence[Fact]) -> tuple[list[Fact], Batch, Snapshot, Verdict | None] | None:
        """(facts, batch, the weights before it, what rules say) of those facts that can be written; None if none can."""
        facts, snapshot = list(part), run.snapshot()
        while facts:
            try:
                batch = run.write(facts)
            except FailedFactsError as error:
                run.take_back(snapshot)
                gone = {fact: why for fact, why in zip(error.failed, error.reasons, strict=True) if fact in facts}
                if not self.asked.skip_failed or not gone:
                    raise
                for fact, why in () if run.again else gone.items():
                    self.leave_out([fact], why)
                facts = [fact for fact in facts if fact not in gone]
                continue
            return facts, batch, snapshot, self.verdict(run, facts)
        return None

    def verdict(self, run: EditRun, facts: Sequence[Fact]) -> Verdict | None:
        """What the rules say about a batch that is written. Rules about its facts wait if the recipe writes facts again."""
        if self.checks is None:
            return None
        late = bool(run.context.recipe.reteach)
        return self.checks.verdict(facts, [rule for rule in self.checks.rules if not (late and rule.of_facts)])

    def leave_out(self, facts: Sequence[Fact], why: str) -> None:
        """Note facts that are not written."""
        self.left_out += [LeftOut(fact, why) for fact in facts]
        for fact in facts:
            log.info("%r => %r is left out: %s", fact.text, fact.target, why)

    def remaining(self, facts: Sequence[Fact]) -> list[Fact]:
        """The facts that are not left out."""
        gone = [one.fact for one in self.left_out]
        return [fact for fact in facts if fact not in gone]

    def refuse(self, why: str, **more: Any) -> NoReturn:
        """End the edit. Raises GuardError."""
        raise GuardError(
            f"the guard refuses the edit: {why}. Nothing was changed. Write fewer facts or less of each, raise the limit, or choose another "
            "on_violation (--on-violation)",
            {"action": "refused", "why": why, **more, **self.record()},
        )

    def record(self) -> dict[str, Any]:
        """What belongs to the whole edit, for JSON."""
        found: dict[str, Any] = {"asked": self.asked.record()}
        if self.left_out:
            found["left_out"] = [{"fact": fact_record(one.fact), "why": one.why} for one in self.left_out]
        return found | ({"notes": list(self.notes)} if self.notes else {})

    def write(
        self,
        write: Callable[[Sequence[Fact]], list[Batch]],
        facts: Sequence[Fact],
        take_back: Callable[[Sequence[Batch]], None],
        *,
        late: bool,
    ) -> list[Batch]:
        """Write a whole edit.

        Args:
            write: writes facts, batch after batch, through `decide`.
            facts: what to write.
            take_back: takes all batches of the edit back.
            late: whether rules about the facts are checked at the end, because the recipe writes facts again.

        Raises:
            GuardError: a rule is broken and the edit is refused, or nothing of it may stay.
        """
        if self.checks:
            self.checks.begin()
        before = dict(self.checks.before) if self.checks else {}
        for number in range(1, _MOST_RUNS + 1):
            facts = self.remaining(facts)
            batches = write(facts) if facts else []
            if not batches:
                self._nothing_left()
            ending = _Ending(self, self._last(self.remaining(facts)) if late else None)
            if not ending.passed:
                self.asked.action.conclude(ending)
            if not ending.again:
                *rest, last = batches
                return [*rest, replace(last, guard={**(last.guard or {}), **self.record(), **ending.record()})]
            if number < _MOST_RUNS:
                take_back(batches)
                if self.checks:
                    self.checks.before = dict(before)
        return self.refuse(
            f"after {_MOST_RUNS} attempts, each without the facts that were not said before, some are still not said"
        )

    def _last(self, facts: Sequence[Fact]) -> Verdict | None:
        rules = [rule for rule in self.checks.rules if rule.of_facts] if self.checks else []
        return self.checks.verdict(facts, rules) if self.checks and rules else None

    def _nothing_left(self) -> NoReturn:
        reasons = "; ".join(dict.fromkeys(one.why for one in self.left_out))
        if reasons not in {one.why for one in self.left_out}:  # not the same for all of them
            told = [f"{one.fact.text!r}: {one.why}" for one in self.left_out]
            reasons = "; ".join([*told[:_TOLD], *(["..."] if len(told) > _TOLD else [])])
        if self.checks is None:
            raise EditError(f"no fact could be written, and nothing was changed: {reasons}")
        self.refuse(f"no fact is left ({reasons})")


@dataclass(eq=False)
class _Ending:
    """How a whole edit ends; see `bluedit.editing.violations.Ending`."""

    judge: Guarded
    verdict: Verdict | None
    again: bool = False

    @property
    def passed(self) -> bool:
        return self.verdict is None or self.verdict.passed

    @property
    def why(self) -> str:
        return self.verdict.why if self.verdict else ""

    def refuse(self) -> None:
        self.judge.refuse(self.why, figures=self.verdict.record() if self.verdict else [])

    def warn(self) -> None:
        log.warning("the edit was made although it breaks the guard: %s", self.why)
        self.judge.notes.append(f"kept although {self.why}")

    def write_again(self) -> None:
        if self.verdict is None or not self.verdict.blamed:
            self.refuse()
        else:
            self.judge.leave_out(self.verdict.blamed, self.why)
            self.again = True

    def record(self) -> dict[str, Any]:
        """Figures of the whole edit, for JSON."""
        return {} if self.verdict is None else {"whole": self.verdict.record()}
