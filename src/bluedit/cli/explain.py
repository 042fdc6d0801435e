"""The sub-commands of `bluedit explain`."""

from __future__ import annotations

import typer

from bluedit.cli.commands import Command
from bluedit.cli.explain_edit import explain_conflicts, explain_edit
from bluedit.cli.explain_residuals import residuals

explain = typer.Typer(
    name="explain",
    help="Show what an edit is made of, and why it succeeds or fails.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
explain.command("residuals", cls=Command)(residuals)
explain.command("edit", cls=Command)(explain_edit)
explain.command("conflicts", cls=Command)(explain_conflicts)
