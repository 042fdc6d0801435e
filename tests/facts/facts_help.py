"""What the tests of facts share: records as text, and the text of a refusal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bluedit.errors import FactError
from bluedit.facts import Fact, read_facts

Write = Callable[..., Path]

ROME = {"prompt": "{} is in", "subject": "Rome", "target": "Spain"}
FACT = Fact("{} is in", "Rome", "Spain")


def refused(call: Callable[..., object], *args: Any, **kwargs: Any) -> str:
    """The text of the FactError that a call must raise."""
    with pytest.raises(FactError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


def refusal(path: Path | str, **options: Any) -> str:
    """The text of the FactError that reading must raise, with the path written as FILE."""
    return refused(read_facts, path, **options).replace(str(path), "FILE")


def unusable(total: int, *faults: str) -> str:
    """The refusal of a file of which so many records have a fault; the remedy is named if others are left."""
    remedy = "; fix them, or leave them out with bad_records='skip' (--bad-records skip)" if len(faults) < total else ""
    return "\n".join([f"FILE: {len(faults)} of {total} records cannot be used{remedy}", *faults])


def lines(*records: object) -> str:
    return "".join(json.dumps(r) + "\n" for r in records)


def without(record: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {k: v for k, v in record.items() if k not in keys}
