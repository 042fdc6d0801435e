"""What commands print: control characters are spelled out, and what was done stays done when the output cannot be written."""

from __future__ import annotations

import json
import logging
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from cli_help import EDIT, FACT, command, run
from rich.table import Table

from bluedit import files
from bluedit.cli.commands import done
from bluedit.cli.output import VisibleFormatter, print_tables, say, say_json
from bluedit.errors import BluEditError
from bluedit.terminal import visible

ESCAPES = "\x1b[2J\x9b31m\x07\u202e"


@pytest.mark.parametrize("text", ["plain\ttext\n", "Élise 小提琴 ½ 👍", ""])
def test_text_that_stays_as_it_is(text):
    assert visible(text) == text


def test_control_characters_are_spelled_out():
    assert visible(ESCAPES) == r"\x1b[2J\x9b31m\x07\u202e"


def test_tables_messages_and_logs(capsys):
    table = Table()
    table.add_column(f"head{ESCAPES}")
    table.add_row(f"cell{ESCAPES}")
    print_tables(table)
    say(f"line{ESCAPES} [/b]")
    found = capsys.readouterr().out
    assert not any(c in found for c in ESCAPES if ord(c) < 32 or ord(c) > 126)
    assert r"line\x1b[2J\x9b31m\x07\u202e [/b]" in found
    record = logging.LogRecord("x", logging.WARNING, "", 0, "model %s", (ESCAPES,), None)
    assert VisibleFormatter("%(message)s").format(record) == r"model \x1b[2J\x9b31m\x07\u202e"


def test_facts_with_escapes_are_listed(tmp_path):
    (tmp_path / "facts.jsonl").write_text('{"prompt": "{} is", "subject": "A\\u001b[31m", "target": "B\\u009b"}\n')
    found = run("facts", tmp_path / "facts.jsonl")
    assert found.exit_code == 0 and "\x1b" not in found.stdout and "\x9b" not in found.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_standard_output(model, tmp_path):
    """The patch is written; only the table about it is lost."""
    out = tmp_path / "patch"
    arguments = command("edit", "-m", model, "-o", out, "-f", FACT, "--no-report", *EDIT)
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(arguments, stdout=full, stderr=subprocess.PIPE, text=True, timeout=300)
    assert (out / "manifest.json").is_file(), done.stderr
    assert done.returncode == 0
    assert "bluedit: cannot write to standard output: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_table_on_a_full_standard_output():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command("recipes"), stdout=full, stderr=subprocess.PIPE, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (
        0,
        "bluedit: cannot write to standard output: No space left on device\n",
    )


def test_a_long_text_is_not_quoted_in_full(tmp_path):
    (tmp_path / "facts.jsonl").write_text('{"prompt": "' + "long " * 20000 + '", "subject": "A", "target": "B"}')
    result = run("facts", tmp_path / "facts.jsonl")
    assert result.exit_code == 3 and len(result.stderr) < 4100
    assert result.stderr.startswith(f"bluedit: {tmp_path / 'facts.jsonl'}: 1 of 1 records cannot be used")
    assert re.search(r" \[[\d,]+ characters\] ", result.stderr)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_on_a_full_standard_output(option):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command(option), stdout=full, stderr=subprocess.PIPE, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (
        1,
        "bluedit: cannot write to standard output: No space left on device\n",
    )


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such shell")
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_closed_standard_output_or_error(closed, model, tmp_path):
    line = f"{shlex.join(command('init', tmp_path / 'w', '-m', model))} {closed}"
    done = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "w" / "workspace.json").is_file()


def test_an_interrupt_after_the_patch_was_written(model, tmp_path, monkeypatch):
    def interrupted(_message: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bluedit.cli.edit_output.say", interrupted)
    result = run("edit", "-m", model, "-o", tmp_path / "patch", "-f", FACT, "--no-report", *EDIT)
    assert result.exit_code == 130
    assert result.stderr.endswith(f"interrupted; written before that: {tmp_path / 'patch'}\n")


def test_an_interrupt_while_modules_are_imported():
    code = "import sys, bluedit.__main__ as m; sys.modules['bluedit.cli.app'] = None\n"
    code += "import builtins; real = builtins.__import__\n"
    code += "def stop(name, *a, **k):\n    if name == 'bluedit.cli.app': raise KeyboardInterrupt\n    return real(name, *a, **k)\n"
    code += "builtins.__import__ = stop; m.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "bluedit: interrupted; nothing was changed\n")


def test_the_cache_of_a_user_without_a_home(monkeypatch, tmp_path):
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.delenv("BLUEDIT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert files.cache_dir() == tmp_path / "bluedit"
    monkeypatch.delenv("XDG_CACHE_HOME")
    with pytest.raises(BluEditError, match="no home folder; set BLUEDIT_CACHE"):
        files.cache_dir()
    files.written.clear()
    files.written.append(tmp_path)
    assert done() == f"written before that: {tmp_path}"


def test_a_path_that_is_too_long():
    result = run("show", "n" * 300)
    assert result.exit_code != 0 and "Traceback" not in result.stderr
    assert "File name too long" in result.stderr or "is not a patch" in result.stderr


SOURCES = sorted(Path(files.__file__).parent.rglob("*.py"))
UNQUOTED = re.compile(r"bluedit (?:[a-z]+|-C|--[a-z]+|\.\.\.| )+ \{(?!shlex|quoted|FORMAT|name\}|\{)[^}]*\}")


def test_commands_that_are_printed_are_quoted_for_the_shell(tmp_path):
    assert UNQUOTED.search('f"make one with: bluedit init {folder}"'), "the pattern can find something"
    found = [
        f"{file.name}: {line.strip()}"
        for file in SOURCES
        for line in file.read_text("utf-8").split("\n")
        if UNQUOTED.search(line) and "is running in" not in line
    ]
    assert found == []
    result = run("show", tmp_path / "a; rm b")
    assert result.stderr.endswith(f"make one with: bluedit edit ... --out '{tmp_path / 'a; rm b'}'\n")


def test_json_that_is_printed_is_json_whatever_a_text_has(capsys):
    text = "\x1b[31m\x85\x7f \u202e Élise"
    say_json({"text": text})
    assert json.loads(capsys.readouterr().out) == {"text": text}
