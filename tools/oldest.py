"""Run the fast tests with the oldest version of every dependency that pyproject.toml allows.

    python tools/oldest.py [--venv FOLDER] [--list] [PYTEST_ARGUMENT ...]

Makes a virtual environment (.venv-oldest) in which each run-time dependency, and those of the extra "gguf", has exactly its lower bound. A
later run reuses it while the bounds stay the same. torch is the exception: its older releases for Linux bring gigabytes of CUDA libraries,
so the release of requirements-dev.txt is used, and torch's own lower bound is not tried here.

Warnings are not errors here: old releases use what newer ones of their own dependencies have deprecated.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ("pytest", "pytest-xdist", "hypothesis", "beartype")  # of the tests; as new as they are
# from every part that calls another package: its models and tokenizers, its command line, its file formats
TESTS = [
    *("tests/maths", "tests/methods", "tests/model", "tests/text", "tests/test_files.py", "tests/test_progress.py"),
    *("tests/forward/test_runner.py", "tests/writing/test_keys.py", "tests/writing/test_target_store.py"),
    *("tests/editing/test_journal.py", "tests/editing/test_patch.py", "tests/cli/test_help.py"),
]


def oldest(requirements: list[str]) -> list[str]:
    """`name==bound` of each `name>=bound`; an extra's name goes.

    Raises:
        ValueError: a requirement that is not one lower bound.
    """
    found = {}
    for requirement in requirements:
        match = re.fullmatch(r"([\w.-]+)(?:\[[\w,.-]+\])?>=([\w.]+)", requirement.replace(" ", ""))
        if match is None:
            raise ValueError(f"{requirement!r} in pyproject.toml must be one lower bound, as in 'numpy>=1.26'")
        found[match[1]] = match[2]
    return [f"{name}=={bound}" for name, bound in found.items()]


def pins() -> list[str]:
    """Every requirement of the environment."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    bounds = oldest([*project["dependencies"], *project["optional-dependencies"]["gguf"]])
    developed = (ROOT / "requirements-dev.txt").read_text("utf-8").splitlines()
    torch = next(line for line in developed if line.startswith("torch=="))
    return [torch, *(pin for pin in bounds if not pin.startswith("torch==")), *TOOLS]


def environment(folder: Path) -> Path:
    """The Python of an environment with these packages, made unless it is there already."""
    python, made = folder / "bin" / "python", folder / "made-for.txt"
    wanted = "\n".join(pins())
    if not made.is_file() or made.read_text("utf-8") != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, *pins()], check=True)
        subprocess.run([*install, "--no-deps", "--editable", str(ROOT)], check=True)
        made.write_text(wanted, "utf-8")
    return python


def main() -> int:
    """The exit code of pytest."""
    parser = argparse.ArgumentParser(description="Run the fast tests with the oldest dependencies.")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv-oldest", help="the environment's folder")
    parser.add_argument("--list", action="store_true", help="only print what would be installed")
    options, arguments = parser.parse_known_args()
    if options.list:
        sys.stdout.write("\n".join(pins()) + "\n")
        return 0
    python = environment(options.venv)
    chosen = ["-m", "not slow and not real and not browser and not gpu", "-o", "filterwarnings=default", *TESTS]
    return subprocess.run([str(python), "-m", "pytest", *(arguments or chosen)], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
