"""A batch that was written under a guard: kept, softened, divided or taken back."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bluedit.editing._guarded import Guarded
    from bluedit.editing._verdict import Verdict
    from bluedit.facts.fact import Fact
    from bluedit.writing.batch import Batch
    from bluedit.writing.edit_run import EditRun
    from bluedit.writing.weights import Snapshot

log = logging.getLogger(__name__)
LEAST_SHARE, MOST_SHARES, _CLOSE = (
    0.25,
    5,
    0.04,
)  # of the change; of them that are tried; shares nearer than this are the same
_SAFE = 0.97  # of the share that would just hold
MOST_ATTEMPTS = 32  # batches that are tried while one is divided


@dataclass(eq=False)
class BatchCase:
    """A batch that was written; see `bluedit.editing.violations.Case`."""

    judge: Guarded
    run: EditRun
    facts: Sequence[Fact]
    batch: Batch
    snapshot: Snapshot
    verdict: Verdict | None

    def accept(self, action: str, **more: Any) -> None:
        """Keep the batch with what was decided."""
        batch, verdict = self.batch, self.verdict
        if verdict is not None:
            assert self.judge.checks
            self.judge.checks.kept(verdict)
            batch = replace(batch, guard={"action": action, "figures": verdict.record(), **more})
        self.run.keep(batch)

    def keep(self) -> None:
        assert self.verdict
        log.warning("a batch of %d facts is kept although it breaks the guard: %s", len(self.facts), self.verdict.why)
        self.accept("warned", why=self.verdict.why)

    def refuse(self) -> None:
        assert self.verdict
        self.judge.refuse(self.verdict.why, figures=self.verdict.record())

    def take_back(self) -> None:
        self.run.take_back(self.snapshot, self.batch)
        if self.run.again and self.verdict:
            count = len(self.facts)
            told = "1 fact was" if count == 1 else f"{count} facts were"
            self.judge.notes.append(f"{told} not written a second time: {self.verdict.why}")

    def soften(self) -> bool:
        """Find the largest share that breaks no rule, in at most `MOST_SHARES` tries.

        Rules about everything else ask for less, rules about the batch's facts for more; so the share lies between two that are known, and
        the next one to try is where the figures' growth puts it.
        """
        whole = self.verdict
        if whole is None or whole.hopeless or whole.of_facts:
            return False
        low, high, best, tries = LEAST_SHARE, 1.0, None, 0
        share = max(LEAST_SHARE, round(_SAFE * whole.share, 3))
        while tries < MOST_SHARES and LEAST_SHARE <= share < high:
            tries += 1
            tried = self.run.rescaled(self.batch, share, self.snapshot)
            verdict = self.judge.verdict(self.run, self.facts)
            assert verdict
            if verdict.of_facts and verdict.of_others:
                break
            if verdict.passed:
                best = (share, tried, verdict)
            low, high = (low, share) if verdict.of_others else (share, high)
            if high - low < _CLOSE or (verdict.passed and verdict.tight):
                break
            share = _next(share, low, high, verdict)
        return best is not None and self._soften_to(*best, whole, tries)

    def _soften_to(self, share: float, batch: Batch, verdict: Verdict, whole: Verdict, tries: int) -> bool:
        self.run.rescaled(self.batch, share, self.snapshot)  # another share may have been tried since
        self.batch, self.verdict = self.run.read_again(batch), verdict
        self.accept("softened", share=share, tries=tries, unsoftened=whole.record(), why=whole.why)
        return True

    def bisect(self) -> None:
        """Keep as many of the facts as break no rule, each group in a batch of its own; the others are left out."""
        assert self.verdict
        self.take_back()
        if self.verdict.hopeless:
            self.judge.leave_out(self.facts, self.verdict.why)
        else:
            _Division(self.judge, self.run).divide(self.facts, self.verdict)


def _next(share: float, low: float, high: float, verdict: Verdict) -> float:
    """The share to try after one: where broken rules would just hold, or half-way to one that is too large."""
    guess = _SAFE * verdict.share * share if verdict.of_others else 0.0
    return round(guess if low < guess < high else (low + high) / 2, 3)


@dataclass(eq=False)
class _Division:
    """Divides a batch again and again."""

    judge: Guarded
    run: EditRun
    attempts: int = 0

    def divide(self, facts: Sequence[Fact], verdict: Verdict) -> None:
        """Keep as many as possible of some facts that together break a rule. They are not written now.

        Facts that are not said are blamed only if no other rule is broken: what harms the model also keeps it from saying facts.
        """
        blamed = [] if verdict.of_others else [fact for fact in facts if fact in verdict.blamed]
        if blamed or len(facts) == 1 or self.attempts >= MOST_ATTEMPTS:
            gone = blamed or facts
            self.judge.leave_out(gone, verdict.why)
            groups = [[fact for fact in facts if fact not in gone]]
        else:
            groups = [facts[: len(facts) // 2], facts[len(facts) // 2 :]]
        for group in filter(None, groups):
            self._try(group)

    def _try(self, group: Sequence[Fact]) -> None:
        self.attempts += 1
        written = self.judge.attempt(self.run, group)
        if written is None:
            return
        facts, batch, snapshot, verdict = written
        case = BatchCase(self.judge, self.run, facts, batch, snapshot, verdict)
        if verdict is None or verdict.passed:
            case.accept("divided")
        else:
            case.take_back()
            self.divide(facts, verdict)
