"""What commands print: without control characters that are not theirs, and without failing where the output cannot be written."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

import typer

from bluedit.interrupts import Told, ignore
from bluedit.terminal import visible

if TYPE_CHECKING:
    from rich.console import RenderableType

    from bluedit.progress import Progress

_CONTROL = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_MOST = 4000  # characters of an error


class VisibleFormatter(logging.Formatter):
    """Formats log lines with control characters spelled out."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


def print_tables(*parts: RenderableType) -> None:
    """Print tables on standard output, as wide as the terminal, with an empty line between them."""
    from rich.console import Console
    from rich.segment import Segment, Segments

    console = Console(highlight=False)
    with _writing():  # rich writes the rest of its buffer, which is empty, when a capture ends
        with console.capture() as captured:
            for i, part in enumerate(parts):
                if i:
                    console.print()
                found = [Segment(visible(one.text), one.style, one.control) for one in console.render(part)]
                console.print(Segments(found), end="")
        typer.echo(captured.get(), nl=False)


def say(message: str) -> None:
    """Print a line literally: without markup, and without cutting long lines."""
    with _writing():
        typer.echo(visible(message))


def say_json(value: object) -> None:
    """Print JSON that every reader takes: control characters are escaped as JSON does it."""
    from bluedit.files import as_json

    say(_CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", as_json(value).decode()))


def bars() -> bool:
    """Whether to draw progress bars: only in a terminal."""
    return sys.stderr.isatty()


def progress() -> Progress:
    """Bars in a terminal; elsewhere a line every minute."""
    from bluedit.progress import BarProgress, LineProgress

    return BarProgress() if bars() else LineProgress()


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    """What was done stays done when standard output is full or closed: the reason goes to standard error, and the exit code does not change."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        typer.secho(f"bluedit: cannot write to standard output: {error.strerror or error}", fg="red", err=True)
        silence(sys.stdout.fileno())


def silence(descriptor: int) -> None:
    """Send what is still written to a file descriptor nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def interrupted(state: str) -> NoReturn:
    """Say that the command was interrupted, and how things stand, and exit."""
    ignore()
    typer.secho(f"bluedit: interrupted; {visible(state)}", fg="red", err=True)
    raise Told


def fail(message: str, code: int) -> NoReturn:
    """Print an error on standard error and exit."""
    typer.secho(f"bluedit: {_shortened(visible(message))}", fg="red", err=True)
    sys.exit(code)


def _shortened(message: str) -> str:
    """A message without the middle of a very long text that it quotes."""
    left_out = len(message) - _MOST
    if left_out <= 0:
        return message
    half = _MOST // 2
    return f"{message[:half]} [{left_out:,} characters] {message[-half:]}"
