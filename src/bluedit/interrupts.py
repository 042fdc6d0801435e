"""Ctrl-C: it takes effect once, not in the middle of what belongs together, and not never."""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

EXIT_CODE = 130
_SAME_S = 1.0  # a second signal within this time belongs to the first one
_AGAIN_S = 0.02
_BEHIND_S = 10.0  # an error within this time after an interrupt comes of it
_last = [-math.inf]  # when the last interrupt came


class Told(SystemExit):
    """The end of a command that has said that it was interrupted, and what it did before."""

    def __init__(self) -> None:
        super().__init__(EXIT_CODE)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C inside the `with` takes effect at its end. For what takes no time and belongs together, such as a rename and the note that it was done."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda *signalled: came.append(signalled))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            before(*came[0])


def attend() -> None:
    """Let Ctrl-C end this process as a command should. Two things differ from Python's own way, which is kept where SIGINT is ignored:

    - Pressed twice, it is one interrupt, so that it does not interrupt what cleans up after the first.
    - Where an exception has no effect, as in `__del__` or while an object is collected, it comes again.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - _last[0] >= _SAME_S:
            _last[0] = now
            raise KeyboardInterrupt

    def again() -> None:
        _last[0] = -math.inf
        signal.raise_signal(signal.SIGINT)

    def lost(what: Any) -> None:
        if not issubclass(what.exc_type, KeyboardInterrupt):
            sys.__unraisablehook__(what)
            return
        timer = threading.Timer(_AGAIN_S, again)
        timer.daemon = True
        timer.start()

    signal.signal(signal.SIGINT, interrupt)
    sys.unraisablehook = lost


def was_interrupted(error: BaseException | None) -> bool:
    """Whether an interrupt is behind an error: some libraries turn it into one of theirs, for instance while they are imported."""
    if time.monotonic() - _last[0] < _BEHIND_S:  # or swallow it, and fail over what is missing then
        return True
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def ignore() -> None:
    """From now on, until the process ends, Ctrl-C does nothing."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
