"""What the tests of fact files share: records as text, and the words of a refusal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bluedit.errors import FactError
from bluedit.facts import read_facts

Write = Callable[..., Path]


def refusal(path: Path | str, **options: Any) -> str:
    """The text of the FactError that reading must raise, with the path written as FILE."""
    with pytest.raises(FactError) as caught:
        read_facts(path, **options)
    return str(caught.value).replace(str(path), "FILE")


def lines(*records: object) -> str:
    return "".join(json.dumps(r) + "\n" for r in records)


def without(record: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {k: v for k, v in record.items() if k not in keys}
