"""Progress of long work: an interface that does nothing, and one that draws bars on standard error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress


@runtime_checkable
class Advance(Protocol):
    """Called with the number of items just finished."""

    def __call__(self, count: int = 1) -> None: ...


class Progress:
    """Reports nothing. The interface every room below the command line uses."""

    @contextmanager
    def task(self, title: str, total: int, unit: str = "") -> Iterator[Advance]:  # noqa: ARG002
        """A stretch of work of `total` items; the value given to `with` is called as they finish."""

        def advance(count: int = 1) -> None:
            pass

        yield advance


class BarProgress(Progress):
    """Draws a bar with the count, the time spent and the time left; on standard error, gone when finished. Tasks may nest."""

    def __init__(self) -> None:
        self._bars: RichProgress | None = None

    @contextmanager
    def task(self, title: str, total: int, unit: str = "") -> Iterator[Advance]:
        with self._display() as bars:
            bar = bars.add_task(title, total=total, unit=unit)

            def advance(count: int = 1) -> None:
                bars.advance(bar, count)

            try:
                yield advance
            finally:
                bars.remove_task(bar)

    @contextmanager
    def _display(self) -> Iterator[RichProgress]:
        """The outermost task opens the display, those within share it."""
        if self._bars is not None:
            yield self._bars
            return
        columns = (
            TextColumn("{task.description}"),
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


def as_progress(progress: bool | Progress) -> Progress:
    """True gives bars, False nothing; a Progress is used as it is."""
    if isinstance(progress, Progress):
        return progress
    return BarProgress() if progress else Progress()
