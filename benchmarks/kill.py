"""Commands killed with -9: what is on the disk afterwards, and what the next use of it leaves behind.

python benchmarks/kill.py --kills 200 --out runs/kill          # the table of docs/reliability.md

Every second kill falls on a moment drawn from the processor time that the command takes, every other one on a file operation: the command
kills itself just before its n-th one. After each kill, the last complete state must be found. What is unfinished is then aged by two hours (it is
cleaned up after one), the same command runs to its end, and its result must be that of a run that was never killed, with no file more.
Commands run in forks of this process, so that no time goes into imports.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from bluedit.__main__ import main as bluedit
from bluedit.benchmark.record import EntryLog, read
from bluedit.editing.patch import Patch
from bluedit.editing.workspace import Workspace
from bluedit.errors import BluEditError
from bluedit.tensors import read_tensors
from sound import benchmark, gguf_file

_CHEAP = (
    "--set",
    "objective.steps=2",
    "--set",
    "contexts.count=1",
    "--set",
    "layers=1,2",
    "--no-report",
    "--allow-missed",
)
_EDIT = (
    "--fact",
    "The capital of {France} is => Rome",
    "--recipe",
    "memit-seq-blue",
    "--tokens",
    "480",
    "--known",
    "edit",
    *_CHEAP,
)
_IN_WORKSPACE = ("--recipe", "memit-seq-blue", "--known", "edit", *_CHEAP)
_EDIT_IN_WORKSPACE = ("edit", "--fact", "The capital of {France} is => Rome", *_IN_WORKSPACE)
_ENTRY = "memit-seq-blue:layers=1+2,objective.steps=2,contexts.count=1"
_FILE_EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod")
_AGED_S = 7200.0


@dataclass
class Scenario:
    """A command, and what is found of its work.

    Attributes:
        command: its arguments; {} is the folder that it works in, which is a copy of the template.
        template: what the folder holds before.
        state: of the folder; raises if something in it is neither absent nor whole.
        final: whether a state is that of a finished command; `between` whether it may be found after a kill.
        reset: removes a finished result that the command would refuse to replace.
    """

    name: str
    command: tuple[str, ...]
    template: Path
    state: Callable[[Path], Any]
    reset: Callable[[Path], None] = lambda _folder: None
    prefix: bool = False


@dataclass
class Outcome:
    """How a scenario took its kills: those after which the last complete state was found, and files too many after the next use."""

    name: str
    kills: int = 0
    survived: int = 0
    leftovers: int = 0
    unfinished: int = 0
    failure: str = ""
    left: list[str] = field(default_factory=list)


# what is found


def _tree(folder: Path) -> dict[str, str]:
    """A hash of each file of a model's folder; of weights alone where files hold the time."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.suffix in (".safetensors", ".json")
    }


def _patch_state(folder: Path) -> Any:
    if not (folder / "patch" / "manifest.json").exists():
        return None
    found = Patch.load(folder / "patch")
    return found.state, [fact.text for fact in found.facts]


def _statistics_state(folder: Path) -> Any:
    """The patch, once it is there; every stored matrix must be whole, but which ones there are is a matter of time."""
    moments = {}
    for file in sorted(folder.glob("cache/moments/*/layer-*.safetensors")):
        tensors, about = read_tensors(file)
        moments[file.name] = (
            hashlib.sha256(tensors["second_moment"].numpy().tobytes()).hexdigest(),
            about["tokens_seen"],
        )
    patch = _patch_state(folder)
    return [*sorted(moments.items()), *([patch] if patch else [])]


def _workspace_state(folder: Path) -> Any:
    """Which entries stand, with their facts; every digest of the workspace must be right. A lock may be left."""
    if not (folder / "facts" / "workspace.json").exists():
        return None
    found = Workspace.open(folder / "facts")
    if problems := found.verify(model=False):
        raise AssertionError(problems[0].what)
    return [(one.number, one.standing, [fact.text for fact in one.facts]) for one in found.log()]


def _exported_state(folder: Path) -> Any:
    return _tree(folder / "adapter") if (folder / "adapter").exists() else None


def _reset_workspace(folder: Path) -> None:
    """The workspace as it was before the command, if that has finished: it would do more."""
    if _workspace_state(folder) != _workspace_state(folder.parent.parent / "templates" / "workspace"):
        shutil.rmtree(folder / "facts")
        shutil.copytree(folder.parent.parent / "templates" / "workspace" / "facts", folder / "facts")


def _applied_state(folder: Path) -> Any:
    return _tree(folder / "edited") if (folder / "edited").exists() else None


def _benchmark_state(folder: Path) -> Any:
    """The metrics of all finished batches, entry by entry."""
    found = []
    for place in ("unedited", "memit-seq-blue*"):
        for entry in folder.glob(f"run/{place}"):
            log = read(EntryLog, entry)
            found += [] if log is None else [(log.entry, batch.facts, repr(batch.measured)) for batch in log.batches]
            if (
                log
                and log.edited
                and len(Patch.load(entry / "patch").batches) < sum(batch.written for batch in log.batches)
            ):
                raise AssertionError("the patch is behind the log")
    return found


def _page_state(folder: Path) -> Any:
    return (folder / "page.html").read_text("utf-8")


def _fetched_state(folder: Path) -> Any:
    return [_tree(place) for place in (folder / "cache" / "models").glob("[!.]*")] or None


# running commands


def _child(command: tuple[str, ...], folder: Path, event: int | None) -> None:
    """Run a command in this process, which ends with it, or at its `event`-th file operation in the folder."""
    seen = [0]

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        if (
            name in _FILE_EVENTS
            and str(arguments[0]).startswith(str(folder))
            and not (name == "open" and _reads(arguments))
        ):
            seen[0] += 1
            if seen[0] == event:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    become(command, folder, lambda: (folder.parent / "events.txt").write_text(str(seen[0])))


def become(command: tuple[str, ...], folder: Path, at_end: Callable[[], Any]) -> None:
    """Run a command in this process, which ends with it. What it prints is in output.txt beside the folder."""
    os.setsid()
    log = os.open(folder.parent / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (0, 1, 2):
        os.dup2(log if stream else os.open(os.devnull, os.O_RDONLY), stream)
    os.environ["BLUEDIT_CACHE"] = str(folder / "cache")
    sys.argv = ["bluedit", *(part.replace("{}", str(folder)) for part in command)]
    from bluedit.statistics import _accumulation

    # private numbers that no user needs: save the sums after every forward pass, of few tokens, so that there are many moments to be killed at
    _accumulation._SAVE_EVERY_S, _accumulation._SAVE_COST = -1.0, 0.0
    _accumulation._TOKENS_PER_PASS = 60
    code = 1
    try:
        bluedit()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    finally:
        at_end()
        os._exit(code)


def _reads(arguments: tuple[Any, ...]) -> bool:
    mode, flags = arguments[1], arguments[2]
    return mode in ("r", "rb") or (mode is None and not flags & (os.O_WRONLY | os.O_RDWR))


def _run(
    command: tuple[str, ...], folder: Path, *, event: int | None = None, seconds: float | None = None
) -> tuple[int, float]:
    """(exit status, processor time) of a command, killed after so many seconds of processor time or at a file operation, if it gets there."""
    child = os.fork()
    if child == 0:
        try:
            _child(command, folder, event)
        finally:
            os._exit(70)
    if seconds is not None:
        while _cpu(child) < seconds:
            time.sleep(0.001)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    _, status, used = os.wait4(child, 0)
    return os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime


def _cpu(process: int) -> float:
    """Processor time of a running process; infinite for one that has ended."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return float("inf") if fields[0] == "Z" else (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _files(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*")}


def _age(folder: Path) -> None:
    """Make what is unfinished look two hours old."""
    long_ago = time.time() - _AGED_S
    for left in folder.rglob(".bluedit-*.tmp"):
        for file in (*left.rglob("*"), left):
            os.utime(file, (long_ago, long_ago))


# the scenarios


def scenarios(root: Path) -> list[Scenario]:
    """All of them, with their templates."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from toys import toy_llama, toy_tokenizer

    model = root / "model"
    made = toy_llama(dtype=torch.float32)
    made.save_pretrained(model)
    toy_tokenizer(bos=True).save_pretrained(model)
    gguf_file(root / "toy.gguf", made, toy_tokenizer())
    facts = root / "facts.jsonl"
    rows = [
        {"prompt": "The capital of {} is", "subject": name, "target": "Rome", "old_target": "Paris"}
        for name in ("France", "London")
    ]
    facts.write_text("\n".join(map(json.dumps, rows)))
    templates = {name: root / "templates" / name for name in ("empty", "patch", "report")}
    templates["workspace"] = root / "templates" / "workspace"
    for folder in templates.values():
        folder.mkdir(parents=True)
    edit = ("edit", *_EDIT, "--model", str(model), "--out", "{}/patch", "--force")
    first = (*edit, "--fact", "The capital of {London} is => Berlin")
    if code := _run(first, templates["patch"])[0]:
        raise SystemExit(f"the first edit ended with {code}: {(root / 'templates' / 'output.txt').read_text()}")
    for command in (
        ("init", "{}/facts", "--model", str(model), "--tokens", "480"),
        ("-C", "{}/facts", "edit", "--fact", "The capital of {London} is => Berlin", *_IN_WORKSPACE),
    ):
        if code := _run(command, templates["workspace"])[0]:
            raise SystemExit(f"{command[0]} ended with {code}: {(root / 'templates' / 'output.txt').read_text()}")
    benchmark(templates["report"] / "run")
    (templates["report"] / "page.html").write_text("the last page")
    bench = (
        "benchmark",
        "--facts",
        str(facts),
        "--model",
        str(model),
        "--batch-size",
        "1",
        "--tokens",
        "480",
        "--passage-tokens",
        "200",
    )
    return [
        Scenario("edit", edit, templates["patch"], _patch_state),
        Scenario("statistics", edit, templates["empty"], _statistics_state, prefix=True),
        Scenario("apply", ("apply", "{}/patch", "--model", str(model), "--save", "{}/edited"), templates["patch"], _applied_state, lambda folder: shutil.rmtree(folder / "edited", ignore_errors=True)),
        Scenario("benchmark", (*bench, "--recipe", "unedited", "--recipe", _ENTRY, "--out", "{}/run"), templates["empty"], _benchmark_state, prefix=True),
        Scenario("report", ("report", "{}/run", "--out", "{}/page.html"), templates["report"], _page_state),
        Scenario("init", ("init", "{}/facts", "--model", str(model)), templates["empty"], _workspace_state, lambda folder: shutil.rmtree(folder / "facts", ignore_errors=True)),
        Scenario("edit in a workspace", ("-C", "{}/facts", *_EDIT_IN_WORKSPACE), templates["workspace"], _workspace_state, _reset_workspace),
        Scenario("undo", ("-C", "{}/facts", "undo"), templates["workspace"], _workspace_state, _reset_workspace),
        Scenario("export", ("export", "{}/facts", "--to", "lora", "{}/adapter", "--no-check"), templates["workspace"], _exported_state, lambda folder: shutil.rmtree(folder / "adapter", ignore_errors=True)),
        Scenario("fetch", ("fetch", str(root / "toy.gguf")), templates["empty"], _fetched_state),
    ]  # fmt: skip


def run(scenario: Scenario, kills: int, chance: random.Random, root: Path) -> Outcome:
    """Kill a command so many times."""
    outcome, work = Outcome(scenario.name), root / "work" / "folder"
    shutil.rmtree(work.parent, ignore_errors=True)
    shutil.copytree(scenario.template, work)
    before = scenario.state(work)
    code, seconds = _run(scenario.command, work)
    if code:
        outcome.failure = f"without a kill it ends with {code}: {(work.parent / 'output.txt').read_text()[-500:]}"
        return outcome
    after, files = scenario.state(work), _files(work)
    events = int((work.parent / "events.txt").read_text())
    for number in range(kills):
        shutil.rmtree(work)
        shutil.copytree(scenario.template, work)
        how: dict[str, Any] = (
            {"event": chance.randint(1, events)} if number % 2 else {"seconds": chance.uniform(0, seconds)}
        )
        code, _ = _run(scenario.command, work, **how)
        if code != -signal.SIGKILL:
            outcome.unfinished += 1
            continue
        outcome.kills += 1
        try:
            _check(scenario, work, before, after)
            outcome.survived += 1
            more = _files(work) - files
            if len(_files(work)) > len(files):  # names of a patch's files hold a hash of when it was made
                outcome.leftovers += len(_files(work)) - len(files)
                outcome.left += sorted(name for name in more if not name.startswith("patch"))
        except (BluEditError, AssertionError, OSError, ValueError) as error:
            outcome.failure = f"{how}: {type(error).__name__}: {error}"
    return outcome


def _check(scenario: Scenario, work: Path, before: Any, after: Any) -> None:
    """What is there after a kill, and after the next use."""
    found = scenario.state(work)
    if scenario.prefix:
        if any(part not in after for part in found):
            raise AssertionError("what is there is not a part of the whole")
    elif found not in (before, after):
        raise AssertionError("what is there is neither the old nor the new")
    _age(work)
    scenario.reset(work)
    code, _ = _run(scenario.command, work)
    if code:
        raise AssertionError(f"the next use ends with {code}: {(work.parent / 'output.txt').read_text()[-500:]}")
    if scenario.state(work) != after:
        raise AssertionError("the next use finds something else than a run without a kill")


def table(outcomes: list[Outcome]) -> str:
    """The outcomes as a Markdown table."""
    rows = [
        "| command | kills | last complete state found, next use right | files left after the next use |",
        "|---|---|---|---|",
    ]
    rows += [f"| {o.name} | {o.kills} | {o.survived} | {o.leftovers} |" for o in outcomes]
    total = [sum(getattr(o, name) for o in outcomes) for name in ("kills", "survived", "leftovers")]
    return "\n".join([*rows, "| **all** | " + " | ".join(map(str, total)) + " |"])


def prepare() -> None:
    """Quiet libraries, one thread (a fork has no others), no network; and everything that commands import."""
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    import gguf  # noqa: F401
    import transformers.models.auto.modeling_auto
    import transformers.models.llama.modeling_llama  # noqa: F401

    import bluedit.benchmark.page
    import bluedit.benchmark.run
    import bluedit.cli.app
    import bluedit.export.checkpoint  # noqa: F401


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--kills", type=int, default=200, help="in all; a command that ends before its kill is not counted"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=[], help="names of scenarios")
    parser.add_argument("--out", type=Path, default=Path("runs/kill"))
    args = parser.parse_args()
    prepare()
    outcomes, chance = [], random.Random(args.seed)
    with tempfile.TemporaryDirectory() as place:
        chosen = [one for one in scenarios(Path(place)) if not args.only or one.name in args.only]
        for scenario in chosen:
            started = time.perf_counter()
            found = run(scenario, -(-args.kills // len(chosen)), chance, Path(place))
            outcomes.append(found)
            print(
                f"{found.name}: {found.kills} kills in {time.perf_counter() - started:.0f} s, {found.unfinished} came too late, {found.failure or 'no failure'} {found.left or ''}".rstrip(),
                flush=True,
            )
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "kill.md").write_text(table(outcomes) + "\n")
    print(table(outcomes))
    sys.exit(any(found.failure or found.leftovers for found in outcomes))


if __name__ == "__main__":
    main()
