"""Keeps lm-evaluation-harness from changing random generators and from printing progress bars and notices."""

from __future__ import annotations

import io
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

import numpy as np
import torch
from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED  # pyright: ignore[reportMissingImports]


@contextmanager
def without_notices() -> Iterator[None]:
    """Without notices of lm-eval (that a model is loaded already) and datasets (which its errors repeat), unless the user asked for
    verbose logging."""
    verbose = logging.getLogger().isEnabledFor(logging.INFO)
    levels = {} if verbose else {"lm_eval": logging.ERROR, "datasets": logging.CRITICAL}
    before = {name: logging.getLogger(name).level for name in levels}
    try:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def bars(shown: bool) -> Iterator[None]:
    """Drops progress bars that are not wanted: lm-eval and datasets draw them even if standard error is not a terminal. Logs are kept."""
    if shown:
        yield
        return
    with redirect_stderr(io.StringIO()):
        yield


@contextmanager
def seeded() -> Iterator[None]:
    """lm-eval's seeds for the global generators, which some tasks draw from. Afterwards the generators continue where they were."""
    own, own_numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            random.seed(DEFAULT_RANDOM_SEED)
            np.random.seed(DEFAULT_OTHER_SEED)
            torch.manual_seed(DEFAULT_OTHER_SEED)
            yield
    finally:
        random.setstate(own)
        np.random.set_state(own_numpy)
