"""The sub-commands of `bluedit explain`."""

from __future__ import annotations

import typer

explain = typer.Typer(
    name="explain",
    help="Show what an edit is made of, and why it succeeds or fails.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
