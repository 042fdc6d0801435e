"""Rows of data sets on the Hugging Face hub, by the package datasets, which is optional."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

from bluedit.errors import BluEditError

PREFIX = "hf:"


def dataset_rows(name: str, error: type[BluEditError]) -> Iterator[dict[str, Any]]:
    """The rows of "hf:DATASET", "hf:DATASET:CONFIG" or "hf:DATASET:CONFIG:SPLIT" (by default the split train), one after another.

    Raises:
        error: the package is not installed, or the data set cannot be read.
    """
    if importlib.util.find_spec("datasets") is None:
        raise error(f"{name} needs the package datasets; run: pip install datasets")
    import datasets  # pyright: ignore[reportMissingImports]

    place, config, split, *_ = [*name.removeprefix(PREFIX).split(":"), "", ""]
    try:
        yield from datasets.load_dataset(place, config or None, split=split or "train", streaming=True)
    except Exception as fault:  # the hub client raises its own many kinds
        raise error(f"cannot read the dataset {name}: {' '.join(str(fault).split())[:200]}") from fault
