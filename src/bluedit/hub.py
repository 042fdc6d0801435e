"""Data sets of the Hugging Face hub, read with the optional package datasets."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from inspect import signature
from typing import Any

from bluedit.errors import BluEditError

PREFIX = "hf:"


def dataset_rows(name: str, error: type[BluEditError]) -> Iterator[dict[str, Any]]:
    """The rows of "hf:DATASET", "hf:DATASET:CONFIG" or "hf:DATASET:CONFIG:SPLIT", one by one; the split is train unless named.

    Raises:
        error: the package is not installed, or the data set cannot be read.
    """
    if importlib.util.find_spec("datasets") is None:
        raise error(f"{name} needs the package datasets; run: pip install datasets")
    import datasets  # pyright: ignore[reportMissingImports]

    # older versions run the code of a data set, and ask on standard input whether they may
    asks = "trust_remote_code" in signature(datasets.load_dataset).parameters
    safe: dict[str, Any] = {"trust_remote_code": False} if asks else {}
    place, config, split, *_ = [*name.removeprefix(PREFIX).split(":"), "", ""]
    try:
        yield from datasets.load_dataset(place, config or None, split=split or "train", streaming=True, **safe)
    except Exception as fault:  # the hub client raises many kinds of its own
        raise error(f"cannot read the dataset {name}: {' '.join(str(fault).split())[:200]}") from fault
