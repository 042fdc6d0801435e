"""Ctrl-C takes effect once, not in the middle of what belongs together, and not never."""

from __future__ import annotations

import importlib
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bluedit import files
from bluedit.interrupts import _last, attend, uninterrupted, was_interrupted

SCRIPTS = Path(__file__).parent.parent / "benchmarks"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


@pytest.fixture(autouse=True)
def as_it_was():
    before, hook = signal.signal(signal.SIGINT, signal.default_int_handler), sys.unraisablehook
    yield
    signal.signal(signal.SIGINT, before)
    sys.unraisablehook = hook
    _last[0] = -float("inf")


def interrupt():
    signal.raise_signal(signal.SIGINT)


def test_what_belongs_together_is_finished_first():
    done = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        with uninterrupted():
            interrupt()
            done.append(1)
        done.append(2)
    assert done == [1, 2]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with uninterrupted():
        done.append(3)
    assert done == [1, 2, 3]


def test_other_threads_cannot_hold_an_interrupt_back():
    done = []

    def work():
        with uninterrupted():
            done.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [signal.default_int_handler]


def test_two_presses_are_one_interrupt():
    attend()
    with pytest.raises(KeyboardInterrupt):
        interrupt()
    interrupt()  # nothing
    assert was_interrupted(ValueError("over what is missing since"))
    _last[0] -= 60
    assert not was_interrupted(ValueError("of its own"))


def test_an_interrupt_where_it_has_no_effect_comes_again():
    class Thing:
        def __del__(self):
            interrupt()

    attend()
    thing = Thing()
    with pytest.raises(KeyboardInterrupt):
        del thing
        until = time.monotonic() + 30
        while time.monotonic() < until:
            time.sleep(0.01)


def test_where_interrupts_are_ignored_they_stay_so():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    attend()
    with uninterrupted():
        interrupt()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_a_file_is_replaced_and_noted_together(tmp_path, monkeypatch):
    """An interrupt just after the rename: the file counts as written."""
    real = Path.replace

    def replace(self, target):
        found = real(self, target)
        interrupt()
        return found

    monkeypatch.setattr(Path, "replace", replace)
    files.written.clear()
    with pytest.raises(KeyboardInterrupt):
        files.write_file(tmp_path / "f", b"x")
    assert (list(files.written), list(tmp_path.iterdir())) == ([tmp_path / "f"], [tmp_path / "f"])


def test_an_interrupt_outside_of_a_command_has_its_sentence():
    """typer ends without a word where it is interrupted itself, such as while it reads the command line."""
    code = "import signal, bluedit.cli.commands as c; real = c.Group.make_context\n"
    code += "def stop(*a, **k): signal.raise_signal(signal.SIGINT)\n"
    code += "c.Group.make_context = stop; import bluedit.__main__ as m; m.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (130, "bluedit: interrupted; nothing was changed\n")


@pytest.mark.parametrize("kind", ["ImportError", "bluedit.BluEditError"])
def test_an_interrupt_that_a_library_turns_into_an_error_has_its_sentence(kind):
    code = "import bluedit, bluedit.cli.app as app, sys\n"
    code += "def stop(*a, **k):\n    try: raise KeyboardInterrupt\n"
    code += f"    except BaseException as error: raise {kind}('no such module') from error\n"
    code += "import typer.core; typer.core.TyperGroup.invoke = stop; sys.argv = ['bluedit', 'recipes']\n"
    code += "import bluedit.__main__ as m; m.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (130, "bluedit: interrupted; nothing was changed\n")


@pytest.mark.slow
def test_interrupted_commands_say_what_is_true(tmp_path):
    pytest.importorskip("gguf")
    command = [
        sys.executable,
        str(SCRIPTS / "interrupt.py"),
        "--interrupts",
        "20",
        "--seed",
        "1",
        "--out",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("no failure") == 10


def test_a_sentence_that_is_not_true_is_found(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    kill, interrupt_ = importlib.import_module("kill"), importlib.import_module("interrupt")
    work = tmp_path / "folder"
    work.mkdir()
    scenario = kill.Scenario("one", (), tmp_path, lambda _folder: "new")
    (tmp_path / "output.txt").write_text("bluedit: interrupted; nothing was changed\n")
    assert interrupt_.wrong(scenario, work, 130, {}, "new") == ""
    (work / "f").write_text("x")
    assert "what was changed is ['f']" in interrupt_.wrong(scenario, work, 130, {}, "new")
    (tmp_path / "output.txt").write_text("bluedit: interrupted; written before that: f\n")
    assert interrupt_.wrong(scenario, work, 130, {}, "new") == ""
    assert "is not the new state" in interrupt_.wrong(scenario, work, 130, {}, "other")
    (tmp_path / "output.txt").write_text("Traceback\n")
    assert "it ends with 1 and says Traceback" in interrupt_.wrong(scenario, work, 1, {}, "new")
    (work / ".bluedit-1.tmp").mkdir()
    assert interrupt_.wrong(scenario, work, 0, {}, "new") == "left behind: .bluedit-1.tmp"
