"""Progress of long computations: a class that shows nothing, one that draws bars on standard error, and one that writes lines for a log."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from bluedit.terminal import visible

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress


@runtime_checkable
class Advance(Protocol):
    """To be called with the number of items that were just finished."""

    def __call__(self, count: int = 1) -> None: ...


class Progress:
    """Shows nothing. The interface through which every package reports progress."""

    @contextmanager
    def task(self, title: str, total: int, unit: str = "") -> Iterator[Advance]:  # noqa: ARG002
        """A task of `total` items for the duration of the `with`, whose value is called as they finish."""

        def advance(count: int = 1) -> None:
            pass

        yield advance


class BarProgress(Progress):
    """Draws a bar with the count, the time taken and the time left, on standard error; it disappears when finished. Tasks may nest."""

    def __init__(self) -> None:
        self._bars: RichProgress | None = None

    @contextmanager
    def task(self, title: str, total: int, unit: str = "") -> Iterator[Advance]:
        with self._display() as bars:
            bar = bars.add_task(visible(title), total=total, unit=unit)

            def advance(count: int = 1) -> None:
                bars.advance(bar, count)

            try:
                yield advance
            finally:
                bars.remove_task(bar)

    @contextmanager
    def _display(self) -> Iterator[RichProgress]:
        """The display, which the outermost task opens and those inside it share."""
        if self._bars is not None:
            yield self._bars
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        try:
            with RichProgress(*columns, console=Console(stderr=True), transient=True) as self._bars:
                yield self._bars
        finally:
            self._bars = None


@dataclass
class _Task:
    """A task that runs: how many of its items are done. A total of 0 is unknown."""

    title: str
    total: int
    unit: str
    done: int = 0

    def __str__(self) -> str:
        share = f"{self.done} of {self.total}" if self.total else f"{self.done}"
        return f"{visible(self.title)}: {share} {self.unit}".rstrip()


class LineProgress(Progress):
    """Writes a line on standard error every so often, for a log or a pipe: all tasks that run, the outermost first.

    Work that takes less than `seconds` writes nothing.
    """

    def __init__(self, seconds: float = 60.0) -> None:
        self._seconds = seconds
        self._tasks: list[_Task] = []
        self._begun = self._told = 0.0

    @contextmanager
    def task(self, title: str, total: int, unit: str = "") -> Iterator[Advance]:
        running = _Task(title, total, unit)
        if not self._tasks:
            self._begun = self._told = monotonic()
        self._tasks.append(running)

        def advance(count: int = 1) -> None:
            running.done += count
            self._tell()

        try:
            yield advance
        finally:
            self._tasks.remove(running)

    def _tell(self) -> None:
        now = monotonic()
        if now - self._told < self._seconds:
            return
        self._told = now
        minutes, seconds = divmod(round(now - self._begun), 60)
        with suppress(OSError, ValueError):  # nobody reads it any more
            sys.stderr.write(f"{minutes}:{seconds:02d}  {', '.join(map(str, self._tasks))}\n")
            sys.stderr.flush()


def as_progress(progress: bool | Progress) -> Progress:
    """Bars for True, nothing for False; a Progress is returned unchanged."""
    if isinstance(progress, Progress):
        return progress
    return BarProgress() if progress else Progress()


class Retold:
    """Reports each step once, even if work is interrupted and done again from its beginning."""

    def __init__(self, advance: Advance) -> None:
        self._advance, self._told = advance, 0

    def after(self, done: int) -> Advance:
        """What to call in work that begins after `done` steps."""
        reached = done

        def step(count: int = 1) -> None:
            nonlocal reached
            reached += count
            while self._told < reached:
                self._advance()
                self._told += 1

        return step
