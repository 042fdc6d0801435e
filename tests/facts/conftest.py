"""Fixtures for the tests of fact files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from facts_help import Write


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write text, bytes, or a JSON value to a file in tmp_path."""

    def to(name: str, content: object) -> Path:
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_bytes((content if isinstance(content, str) else json.dumps(content)).encode())
        return path

    return to
