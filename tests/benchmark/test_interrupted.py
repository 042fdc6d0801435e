"""A benchmark that is interrupted at any moment gives the numbers of an uninterrupted one."""

import json
import os
import random
import subprocess
import sys
import time

import pytest
from benchmark_help import ENTRIES, FACTS, PASSAGES, SETTINGS, Stopped, run, without_time

from bluedit.errors import BenchmarkError
from bluedit.export.checkpoint import save_checkpoint
from bluedit.facts import write_facts
from toys import toy_gpt2


@pytest.mark.parametrize("stop", [1, 2, 3])
@pytest.mark.parametrize("event", ["on_written", "on_measured"])
def test_an_interrupted_benchmark_goes_on_and_gives_the_same(lm, whole, tmp_path, event, stop):
    with pytest.raises(KeyboardInterrupt):
        run(lm, tmp_path / "run", Stopped(event, stop + 1))
    assert without_time(run(lm, tmp_path / "run")) == without_time(whole[1])


def test_killed_between_patch_and_log(lm, whole, tmp_path):
    """The patch is then one batch ahead of the log."""
    with pytest.raises(KeyboardInterrupt):
        run(lm, tmp_path / "run", Stopped("on_saved", 1))
    assert without_time(run(lm, tmp_path / "run")) == without_time(whole[1])


def test_norms_that_targets_are_anchored_to_survive_an_interruption(lm, tmp_path):
    anchored = (f"memit-seq-blue:{SETTINGS},objective.norm_anchor=true",)
    whole = run(lm, tmp_path / "whole", entries=anchored)
    with pytest.raises(KeyboardInterrupt):
        run(lm, tmp_path / "run", Stopped("on_saved", 2), entries=anchored)
    rest = run(lm, tmp_path / "run", entries=anchored, targets=tmp_path / "whole" / "targets")
    assert without_time(rest) == without_time(whole)


@pytest.mark.parametrize(
    "entry",
    [
        f"memit-seq-blue:{SETTINGS}",
        "alphaedit:layers=1+2+3,objective.steps=3,contexts.count=1,preserve.unit=energy,preserve.threshold=0.3",
    ],
)
def test_interrupted_between_batches_of_one_fact(lm, tmp_path, entry):
    """What is remembered of one fact is the same bits whether it was computed or read from the patch."""
    more = {"entries": (entry,), "batch_size": 1, "every": 2}
    undisturbed = run(lm, tmp_path / "whole", **more)
    for number in (2, 3):
        with pytest.raises(KeyboardInterrupt):
            run(lm, tmp_path / str(number), Stopped("on_saved", number), **more)
        assert without_time(run(lm, tmp_path / str(number), **more)) == without_time(undisturbed)


def test_a_full_disk_is_said_and_finished_batches_stay(lm, whole, tmp_path):
    """A folder stands where a file is to be written, which the operating system refuses as it refuses a full disk."""
    folder, message = (
        tmp_path / "run",
        "free disk space or choose another place, and run the same command again: finished batches are kept",
    )
    (
        obstacle := folder / whole[0].joinpath(next(whole[0].glob("memit*")).name, "facts.json").relative_to(whole[0])
    ).mkdir(parents=True)
    (folder / "config.json").write_bytes((whole[0] / "config.json").read_bytes())
    (obstacle / "x").touch()
    with pytest.raises(BenchmarkError, match=f"^cannot write to .*run: Is a directory; {message}"):
        run(lm, folder)
    fresh = toy_gpt2().state_dict()
    assert all((tensor == fresh[name]).all() for name, tensor in lm.model.state_dict().items())
    (obstacle / "x").unlink()
    obstacle.rmdir()
    (folder / "results.csv").unlink()
    (folder / "results.csv").mkdir()
    with pytest.raises(BenchmarkError, match=message):
        run(lm, folder)
    (folder / "results.csv").rmdir()
    assert without_time(run(lm, folder)) == without_time(whole[1])


SERVER = """
import os, signal, sys, torch
import bluedit.benchmark.run, bluedit.cli.app, bluedit.model.loading, transformers.models.gpt2.modeling_gpt2
torch.set_num_threads(1)
for line in sys.stdin:
    child = os.fork()
    if not child:
        sys.argv = ["bluedit", *line.rstrip("\\n").split("\\t")]
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        bluedit.cli.app.main()
    if sys.stdin.readline() == "kill\\n":
        os.kill(child, signal.SIGKILL)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that can be forked")
def test_killed_at_any_moment(lm, whole, tmp_path):
    """kill -9, three times, of the command in a process of its own; what it then ends with is what it ends with undisturbed."""
    model, facts, text, folder = (tmp_path / name for name in ("model", "facts.jsonl", "text.txt", "killed"))
    save_checkpoint(lm, model)
    write_facts(facts, FACTS)
    text.write_text(PASSAGES[0])
    command = ["--threads", 1, "benchmark", "--facts", facts, "--model", model, "--batch-size", 2]
    command += ["--passages", text, "--tokens", 480, "--out", folder]
    line = "\t".join(map(str, [*command, *(item for entry in ENTRIES for item in ("-r", entry))])) + "\n"
    server = subprocess.Popen([sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def say(text):
        server.stdin.write(text)
        server.stdin.flush()

    def done():
        return len(list(folder.glob("*/batches.json"))) + len(list(folder.glob("*/facts.json")))

    moments, limit = [], time.monotonic() + 60
    try:
        for progress in (1, 3, 5):
            say(line)
            while done() < progress and time.monotonic() < limit:
                time.sleep(0.002)
            moments.append(random.random() * 0.5)  # any moment from then on
            time.sleep(moments[-1])
            say("kill\n")
            server.stdout.readline()
        say(f"{line}wait\n")
        assert server.stdout.readline() == "0\n"
    finally:
        server.kill()
        server.wait()
        server.stdin.close()
        server.stdout.close()
    for file in whole[0].glob("*/*.json"):
        found, expected = (
            _timeless(json.loads((f / file.parent.name / file.name).read_text())) for f in (folder, whole[0])
        )
        assert found == expected, f"killed {moments} seconds after files 1, 3 and 5 were there"


def _timeless(value):
    if isinstance(value, dict):
        return {key: _timeless(inner) for key, inner in value.items() if key not in ("seconds", "digest")}
    return [_timeless(inner) for inner in value] if isinstance(value, list) else value
