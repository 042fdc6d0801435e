"""Help is fast, fits 80 columns and breaks no word; the version; a command that was mistyped."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version

import pytest
from cli_help import assert_fits, command, flat, run

from bluedit.evaluate.suites import SUITES
from bluedit.facts import formats

COMMANDS = (
    *("init", "log", "undo", "redo", "find", "tag", "checkout", "heal"),
    *("edit", "ask", "show", "apply", "export", "diff", "sign", "verify", "facts", "recipes"),
    *("benchmark", "report", "metrics", "harness", "fetch", "demo"),
)
HEAVY = ("torch", "transformers", "safetensors", "tokenizers", "numpy", "jaxtyping", "huggingface_hub")


def loaded(code: str) -> set[str]:
    """Packages that a fresh interpreter has loaded after some code."""
    tell = "import json, sys; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{tell}"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


HELP = """
import sys
from bluedit.cli.app import main
for arguments in ([], ["edit"], ["benchmark"], ["ask"]):
    sys.argv = ["bluedit", *arguments, "--help"]
    try:
        main()
    except SystemExit as left:
        assert not left.code
"""


@pytest.mark.parametrize("code", ["import bluedit.cli.app", HELP], ids=["import", "help"])
def test_help_loads_no_heavy_package(code):
    assert loaded(code) & set(HEAVY) == set()


def test_the_check_can_fail():
    assert "numpy" in loaded("import numpy")


def test_the_list_of_commands():
    result = run("--help")
    assert result.exit_code == 0
    assert_fits(result.stdout, *COMMANDS)
    assert "..." not in result.stdout.replace("[ARGS]...", "")  # every description is shown whole
    assert run().stdout == result.stdout or run().stderr == result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name):
    result = run(name, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: bluedit {name} [OPTIONS]")
    assert_fits(result.stdout)


def test_sections_and_choices():
    text = run("edit", "--help").stdout
    sections = ("Facts", "Method", "Guard", "Model", "Key statistics", "Speed and memory", "Result", "Options")
    assert [line[:-1] for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")] == list(
        sections
    )
    assert_fits(text, "-f, --fact FACT", ", ".join(sorted(formats())) + ".", "auto|full|bf16 refuse|skip|edit")
    assert ", ".join(SUITES) in flat(run("benchmark", "--help").stdout)
    ask = run("ask", "--help").stdout
    assert "Usage: bluedit ask [OPTIONS] PROMPTS..." in ask and "\nArguments:\n  PROMPTS  " in ask
    assert "Usage: bluedit fetch [OPTIONS] [MODEL]" in run("fetch", "--help").stdout


@pytest.mark.parametrize("name", ["edit", "apply", "ask", "export", "benchmark", "harness", "fetch"])
def test_commands_that_load_a_model_can_trust_its_code(name):
    assert "--trust-remote-code" in run(name, "--help").stdout


def test_version():
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout == f"bluedit {version('bluedit')}\n"


def test_a_mistyped_command_is_recognised():
    done = subprocess.run(command("edti"), capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert "No such command 'edti'" in flat(done.stderr)
    assert "Did you mean 'edit'" in flat(done.stderr)
    assert done.stdout == ""
