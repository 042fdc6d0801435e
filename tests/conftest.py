"""Shared fixtures. Shape annotations of the package are checked at run time (shape_checks.py)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# toy matrices are too small for two threads, and two of each worker would wait for each other; processes that tests start get it, too
os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

import torch

HERE = Path(__file__).parent
# what tests share (toys.py, and the *_help.py of each folder) is imported by its name
sys.path[:0] = [str(HERE), *sorted(str(folder) for folder in HERE.iterdir() if folder.is_dir())]
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import shape_checks  # noqa: E402

shape_checks.install()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of a GPU are skipped where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs CUDA"))


@pytest.fixture(autouse=True)
def own_cache(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Toy tests keep nothing in the user's cache; tests of the real model share it, as a user does. No test finds the user's tunings."""
    monkeypatch.setenv("BLUEDIT_DATA", str(tmp_path / "data"))
    if "real" not in request.keywords:
        monkeypatch.setenv("BLUEDIT_CACHE", str(tmp_path / "cache"))
