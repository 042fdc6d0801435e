"""Facts can be checked and converted without the libraries that run models."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["bluedit.facts", "bluedit.errors"])
def test_facts_load_without_torch(module: str) -> None:
    code = (
        f"import sys, {module}; print(*sorted({{'torch', 'transformers', 'numpy', 'datasets'}} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
