"""Commands interrupted with Ctrl-C: what they say, and whether it is true.

python benchmarks/interrupt.py --interrupts 300 --out runs/interrupt          # the table of docs/reliability.md

The commands are those of `kill.py`. One in three interrupts comes at a random moment of the processor time that a command takes, one just before
a file operation, and one between two instructions of the modules that write files. After it, the command must have ended with 130 and one sentence,
and the sentence must be true: "nothing was changed" if and only if no file but those of the cache differs. Nothing unfinished may be left. A
command that was already done ends with 0 and says nothing of an interrupt.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import kill
from bluedit import files
from bluedit.editing import _folder, _history, _owner, _store

_WATCHED = {str(module.__file__) for module in (files, _folder, _history, _owner, _store)}
_SENTENCE = "bluedit: interrupted; "
_NOTHING = f"{_SENTENCE}nothing was changed"


@dataclass
class Outcome:
    """How a command took its interrupts.

    Attributes:
        interrupted, finished: how many ended with the sentence, and how many had been done already.
        failure: the first that ended otherwise, or said what is not true.
    """

    name: str
    interrupted: int = 0
    finished: int = 0
    failure: str = ""


def _interrupt_at_instruction(number: int) -> None:
    """Send this process SIGINT at the `number`-th instruction of the modules that write; count all of them for `number` 0."""
    seen = [0]

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        if frame.f_code.co_filename not in _WATCHED:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            seen[0] += 1
            if seen[0] == number:
                sys.settrace(None)
                os.kill(os.getpid(), signal.SIGINT)
        return trace

    sys.settrace(trace)
    _COUNTED.append(seen)


_COUNTED: list[list[int]] = []


def _interrupt_at_event(number: int, folder: Path) -> None:
    """Send this process SIGINT just before its `number`-th file operation in a folder; count all of them for `number` 0."""
    seen = [0]

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        if name in kill._FILE_EVENTS and str(arguments[0]).startswith(str(folder)):
            seen[0] += 1
            if seen[0] == number:
                os.kill(os.getpid(), signal.SIGINT)

    sys.addaudithook(hook)
    _COUNTED.append(seen)


def _child(command: tuple[str, ...], folder: Path, instruction: int | None, event: int | None) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    files.written.clear()  # of this script
    if instruction is not None:
        _interrupt_at_instruction(instruction)
    if event is not None:
        _interrupt_at_event(event, folder)
    kill.become(command, folder, lambda: (folder.parent / "seen.txt").write_text(str([one[0] for one in _COUNTED])))


def _run(
    command: tuple[str, ...],
    folder: Path,
    *,
    instruction: int | None = None,
    event: int | None = None,
    seconds: float | None = None,
) -> tuple[int, float]:
    """(exit status, processor time) of a command that is interrupted at an instruction, a file operation or a moment."""
    child = os.fork()
    if child == 0:
        try:
            _child(command, folder, instruction, event)
        finally:
            os._exit(70)
    if seconds is not None:
        while kill._cpu(child) < seconds:
            time.sleep(0.001)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGINT)
    _, status, used = os.wait4(child, 0)
    return os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime


def _content(folder: Path) -> dict[str, bytes | None]:
    """All files and folders but those of the cache."""
    return {
        name: (folder / name).read_bytes() if (folder / name).is_file() else None
        for name in kill._files(folder)
        if not name.startswith("cache")
    }


def wrong(scenario: kill.Scenario, work: Path, code: int, before: dict[str, bytes | None], after: Any) -> str:
    """What is wrong after an interrupt; empty if nothing is.

    Args:
        code: what the command ended with.
        before: files of the folder before it.
        after: the state after a command that was not interrupted.
    """
    said = (work.parent / "output.txt").read_text("utf-8", "replace").strip()
    left = [name for name in kill._files(work) if ".bluedit-" in name or name.endswith(_owner.LOCK)]
    if left:
        return f"left behind: {left[0]}"
    found, sentence = scenario.state(work), said.rpartition("\n")[2]
    if "Traceback" in said or (code, sentence.startswith(_SENTENCE)) not in ((130, True), (0, False)):
        return f"it ends with {code} and says {said[-1500:]}"
    if code == 0:
        return "" if found == after else "it ends with 0, and is not done"
    return _untrue(scenario, sentence, _changed(before, _content(work)), found, after)


def _untrue(scenario: kill.Scenario, sentence: str, changed: list[str], found: Any, after: Any) -> str:
    if "are kept" not in sentence:  # what is continued says so, however much there is
        if (sentence == _NOTHING) == bool(changed):
            return f"it says {sentence!r}, and what was changed is {changed[:1]}"
        if sentence == _NOTHING:
            return ""
    whole = all(part in after for part in found) if scenario.prefix else found == after
    return "" if whole else f"it says {sentence!r}, and what is there is not the new state"


def _changed(before: dict[str, bytes | None], now: dict[str, bytes | None]) -> list[str]:
    return sorted(name for name in before.keys() | now.keys() if before.get(name, b"") != now.get(name, b""))


def run(scenario: kill.Scenario, count: int, chance: random.Random, root: Path) -> Outcome:
    """Interrupt a command so many times."""
    outcome, work = Outcome(scenario.name), root / "work" / "folder"

    def fresh() -> None:
        shutil.rmtree(work.parent, ignore_errors=True)
        shutil.copytree(scenario.template, work)

    fresh()
    before = _content(work)
    code, seconds = _run(scenario.command, work)
    after = scenario.state(work)
    if code:
        outcome.failure = f"without an interrupt it ends with {code}: {(work.parent / 'output.txt').read_text()[-500:]}"
        return outcome
    fresh()
    _run(scenario.command, work, instruction=0, event=0)
    instructions, events = map(int, (work.parent / "seen.txt").read_text().strip("[]").split(","))
    for number in range(count):
        fresh()
        how: dict[str, Any] = (
            {"instruction": chance.randint(1, instructions)},
            {"event": chance.randint(1, events)},
            {"seconds": chance.uniform(0, seconds)},
        )[number % 3]
        code, _ = _run(scenario.command, work, **how)
        if fault := wrong(scenario, work, code, before, after):
            outcome.failure = outcome.failure or f"{how}: {fault}"
        elif code:
            outcome.interrupted += 1
        else:
            outcome.finished += 1
    return outcome


def table(outcomes: list[Outcome]) -> str:
    """The outcomes as a Markdown table."""
    rows = ["| command | interrupted, and said so truly | done already | failures |", "|---|---|---|---|"]
    rows += [f"| {o.name} | {o.interrupted} | {o.finished} | {1 if o.failure else 0} |" for o in outcomes]
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interrupts", type=int, default=300, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=[], help="names of scenarios")
    parser.add_argument("--out", type=Path, default=Path("runs/interrupt"))
    args = parser.parse_args()
    kill.prepare()
    outcomes, chance = [], random.Random(args.seed)
    with tempfile.TemporaryDirectory() as place:
        chosen = [one for one in kill.scenarios(Path(place)) if not args.only or one.name in args.only]
        for scenario in chosen:
            found = run(scenario, -(-args.interrupts // len(chosen)), chance, Path(place))
            outcomes.append(found)
            print(
                f"{found.name}: {found.interrupted} interrupted, {found.finished} done, {found.failure or 'no failure'}",
                flush=True,
            )
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "interrupt.md").write_text(table(outcomes) + "\n")
    print(table(outcomes))
    sys.exit(any(found.failure for found in outcomes))


if __name__ == "__main__":
    main()
