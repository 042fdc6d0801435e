"""A full disk, Ctrl-C, a closed pipe, and output that cannot show every character."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from cli_help import EDIT, FACT, assert_fails, command, edit, files, run

resource = pytest.importorskip("resource")


def test_no_disk_space_for_the_patch(model, tmp_path):
    edit(model, tmp_path / "first", "-f", FACT, "--no-report")  # statistics are stored now
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, hard))
    try:
        result = run("edit", "-m", model, "-o", tmp_path / "patch", "-f", FACT, "--no-report", *EDIT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    sentence = f"cannot save the patch to {tmp_path / 'patch'}: File too large; nothing was written."
    assert_fails(result, 7, sentence)
    assert not (tmp_path / "patch").exists()


def start() -> None:
    """In the child: Ctrl-C works, and it ends by itself if the tests are killed before they can end it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    resource.setrlimit(resource.RLIMIT_CPU, (300, 300))


def test_ctrl_c_in_the_middle_of_an_edit(model, tmp_path):
    """A real signal, sent when the statistics are there and the first of many facts are being written."""
    before = files(model)
    cache = Path(os.environ["BLUEDIT_CACHE"])
    long = ["--facts", "world:300", "--batch-size", 1, "--set", "objective.steps=200", "--set", "objective.stop_loss=0"]
    place = ["-m", model, "-o", tmp_path / "patch", "--no-report"]
    process = subprocess.Popen(
        command("--threads", 1, "edit", *place, *EDIT, *long),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=start,
    )
    try:
        deadline = time.monotonic() + 300
        while not list(cache.rglob("layer-3.safetensors")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "the edit never began"
            time.sleep(0.05)
        time.sleep(1.0)
        assert process.poll() is None, process.communicate()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert err == "bluedit: interrupted; nothing was changed\n"
    assert out == ""
    assert not (tmp_path / "patch").exists()
    assert files(model) == before


def test_characters_that_the_terminal_cannot_show(tmp_path):
    (tmp_path / "facts.csv").write_text("prompt,subject,target\n{} plays the,Élise,小提琴\n", "utf-8")
    environment = os.environ | {"PYTHONIOENCODING": "latin-1", "COLUMNS": "80"}
    done = subprocess.run(
        command("facts", tmp_path / "facts.csv"), capture_output=True, encoding="latin-1", timeout=300, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "Élise plays the |???" in done.stdout
    assert done.stderr == ""


def test_a_reader_that_stops_reading():
    """As in `bluedit facts world:3 | true`."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command("facts", "world:3"), stdout=writer, stderr=subprocess.PIPE, text=True, timeout=300)
    os.close(writer)
    assert done.returncode == 141
    assert done.stderr == ""
