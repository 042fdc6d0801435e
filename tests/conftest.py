"""Shared fixtures. Run-time shape checks: the package is imported through jaxtyping's hook with beartype."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch
from jaxtyping import install_import_hook

sys.path.insert(0, str(Path(__file__).parent))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

ROOMS = ("maths", "model", "text", "forward", "statistics", "writing", "editing")
with install_import_hook([f"bluedit.{room}" for room in ROOMS], "beartype.beartype"):
    import bluedit  # noqa: F401


torch.set_num_threads(1)  # toy matrices are too small for two


@pytest.fixture(autouse=True)
def own_cache(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Toy tests keep nothing in the user's cache; tests of the real model share it, as a user does."""
    if "real" not in request.keywords:
        monkeypatch.setenv("BLUEDIT_CACHE", str(tmp_path / "cache"))
