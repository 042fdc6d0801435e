"""Damaged and hostile input for everything that bluedit reads: facts, patches, workspaces, statistics, benchmarks, tunings, checkpoints, ...

python benchmarks/fuzz.py --count 20000 --out runs/fuzz        # the table of docs/reliability.md
python benchmarks/fuzz.py --only "patch: manifests" --seed 7
python benchmarks/fuzz.py --only facts --mixes 50              # 50 more inputs, mixed from two of hypothesis' own, for each of those

An input passes if it is read, or refused with a BluEditError, in less than 2 s of processor time. A changed artefact must be refused, or read as
exactly what was written. "Forged" input was changed and its digests put right, so that it gets past them: it may be read, and nothing may break.
The smallest input that fails is written to OUT/failing. Inputs that are mixed take no time to make, and are not made smaller when they fail.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings

from bluedit.errors import BluEditError
from damage import mixed
from more_readers import more_targets
from readers import Target, Wrong, targets
from showing import show_share

LIMIT_S = 2.0
_HANG_S = 60  # of wall clock: on a busy machine the processor time is what counts
_MEMORY = 16 * 2**30
_ROUND = 1000  # inputs from one seed; the next round has the next one


@dataclass
class Outcome:
    """How a target took its inputs."""

    name: str
    seed: int
    inputs: int = 0
    accepted: int = 0
    refused: int = 0
    slowest: float = 0.0
    failure: str = ""


def _hanging(*_: Any) -> None:
    raise Wrong(f"it did not end within {_HANG_S} s")


def run(
    target: Target, count: int, start: int, out: Path | None = None, minutes: float = 1e9, mixes: int = 0
) -> Outcome:
    """Give a target so many inputs, or as many as it takes in that time. The smallest one that fails is written to `out`.

    Args:
        mixes: further inputs for each of these, mixed from two of them.
    """
    outcome, until = Outcome(target.name, start), time.monotonic() + 60 * minutes
    while count > 0 and not outcome.failure and time.monotonic() < until:
        made = _round(target, min(count, _ROUND), outcome, out)
        if mixes and not outcome.failure:
            _mixed_round(target, made, mixes * len(made), outcome, out, until)
        outcome.seed += 1
        count -= _ROUND
    return outcome


def _mixed_round(target: Target, made: list[Any], count: int, outcome: Outcome, out: Path | None, until: float) -> None:
    chance, failing = random.Random(outcome.seed), []
    for _ in range(count):
        if time.monotonic() > until:
            break
        given_ = mixed(chance, *chance.choices(made, k=2))
        try:
            _attempt(target, given_, outcome)
        except Exception as error:  # as below
            failing.append((len(repr(given_)), len(failing), repr(given_), error))
    if failing:
        *_, smallest, error = min(failing)
        _failed(outcome, smallest, error, out)


def _attempt(target: Target, given_: Any, outcome: Outcome) -> None:
    """Give a target one input. Raises Wrong, or whatever the target does, if it does not take it as it should."""
    outcome.inputs += 1
    started = time.process_time()
    signal.setitimer(signal.ITIMER_REAL, _HANG_S, 1)  # again, as an exception in a callback of the interpreter is lost
    try:
        target.check(given_)
        outcome.accepted += 1
    except BluEditError as error:
        if not str(error).strip():
            raise Wrong("it is refused without a word") from error
        outcome.refused += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    took = time.process_time() - started
    outcome.slowest = max(outcome.slowest, took)
    if took > LIMIT_S:
        raise Wrong(f"it took {took:.1f} s")


def _round(target: Target, count: int, outcome: Outcome, out: Path | None) -> list[Any]:
    """The inputs that hypothesis made."""
    made: list[Any] = []

    @seed(outcome.seed)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
    )
    @given(target.inputs)
    def attempt(given_: Any) -> None:
        made.append(given_)
        _attempt(target, given_, outcome)

    signal.signal(signal.SIGALRM, _hanging)
    try:
        attempt()
    except Exception as error:  # what the script looks for: anything that is not a BluEditError
        _failed(outcome, repr(made[-1]) if made else "", error, out)
    return made


def _failed(outcome: Outcome, smallest: str, error: Exception, out: Path | None) -> None:
    outcome.failure = f"{type(error).__name__}: {error}"[:500]
    if out:
        out.mkdir(parents=True, exist_ok=True)
        _keep(out, outcome, smallest, error)


def _keep(out: Path, outcome: Outcome, given_: str, error: Exception) -> None:
    name = outcome.name.replace(" ", "-").replace(":", "").replace(",", "")
    trace = "".join(traceback.format_exception(error))
    (out / f"{name}.txt").write_text(f"seed {outcome.seed}\n{given_}\n\n{trace}", "utf-8", "backslashreplace")


def table(outcomes: list[Outcome]) -> str:
    """The outcomes as a Markdown table."""
    rows = ["| input | inputs | read | refused | slowest, s | failures |", "|---|---|---|---|---|---|"]
    rows += [
        f"| {o.name} | {o.inputs:,} | {o.accepted:,} | {o.refused:,} | {o.slowest:.2f} | {'1' if o.failure else '0'} |"
        for o in outcomes
    ]
    return "\n".join(rows)


def prepare() -> None:
    """Quiet libraries, one thread, and a limit on memory, so that a reader that asks for all of it fails here and not elsewhere."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, hard))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20000, help="inputs for each target")
    parser.add_argument("--minutes", type=float, default=1e9, help="at most so long for each target")
    parser.add_argument("--mixes", type=int, default=0, help="further inputs for each of these, mixed from two of them")
    parser.add_argument("--show", type=float, default=1.0, help="share of what is accepted that is also shown; 0 to 1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=[], help="targets whose names begin with one of these")
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz"))
    args = parser.parse_args()
    prepare()
    show_share(args.show)
    outcomes = []
    with tempfile.TemporaryDirectory() as place:
        os.environ["BLUEDIT_CACHE"] = f"{place}/cache"
        for target in [*targets(Path(place)), *more_targets(Path(place))]:
            if args.only and not target.name.startswith(tuple(args.only)):
                continue
            started = time.perf_counter()
            count = max(1, round(args.count * target.share))
            outcomes.append(run(target, count, args.seed, args.out / "failing", args.minutes, args.mixes))
            found = outcomes[-1]
            print(
                f"{found.name}: {found.inputs:,} inputs in {time.perf_counter() - started:.0f} s, {found.failure or 'no failure'}",
                flush=True,
            )
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "fuzz.md").write_text(table(outcomes) + "\n")
    print(table(outcomes))
    sys.exit(any(found.failure for found in outcomes))


if __name__ == "__main__":
    main()
