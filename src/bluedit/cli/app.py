"""The command line. Importing it loads no model library: each command imports what it needs when it runs."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from bluedit.cli.ask import ask, fetch
from bluedit.cli.benchmark import benchmark, report
from bluedit.cli.commands import Command, Group, in_workspace
from bluedit.cli.demo import demo
from bluedit.cli.edit import edit
from bluedit.cli.expand import expand
from bluedit.cli.explain import explain
from bluedit.cli.export import diff, export
from bluedit.cli.harness import harness
from bluedit.cli.listings import facts, metrics, recipes
from bluedit.cli.locate import locate
from bluedit.cli.output import VisibleFormatter, fail, silence
from bluedit.cli.patches import apply, show
from bluedit.cli.signing import sign, verify
from bluedit.cli.tune import tune
from bluedit.cli.workspace import (
    check_command,
    checkout,
    diff_points,
    find,
    heal,
    init,
    log,
    redo,
    tag,
    undo,
    verify_workspace,
)
from bluedit.errors import BluEditError

_COMMANDS = (
    *(edit, ask, show, apply, export, diff, sign, verify, facts, recipes),
    *(benchmark, report, metrics, harness, locate, tune, fetch, demo),
    *(init, log, undo, redo, find, tag, checkout, heal),
)
_IN_WORKSPACE = {"diff": diff_points, "verify": verify_workspace}  # with -C these names mean other commands


app = typer.Typer(
    name="bluedit",
    cls=Group,
    help="Change facts in the weights of a language model.\n\n'bluedit edit' teaches a model facts and saves the change as a patch, "
    "'bluedit ask' shows what the model says with the patch, and 'bluedit apply' writes the patch into a copy of the model.\n\n"
    "'bluedit init' makes a workspace, which keeps every edit of a model; 'bluedit -C DIR COMMAND' works in it.",
    epilog="'bluedit COMMAND --help' lists the options of a command.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for _command in _COMMANDS:
    app.command(cls=Command)(_command)
for _name, _command in _IN_WORKSPACE.items():
    app.command(in_workspace(_name), cls=Command, hidden=True)(_command)
app.command("facts expand", cls=Command, hidden=True)(expand)
app.add_typer(explain)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bluedit {version('bluedit')}")
        raise typer.Exit


@app.callback()
def setup(
    context: typer.Context,
    workspace: Annotated[Path | None, typer.Option("-C", metavar="DIR", help="Work in this workspace.")] = None,
    base: Annotated[
        str | None,
        typer.Option("--base", metavar="MODEL", help="Where the workspace's model is now, if it was moved."),
    ] = None,
    break_lock: Annotated[
        bool,
        typer.Option("--break-lock", help="Take over the workspace from a process that will never finish."),
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is being done.")] = False,
    threads: Annotated[int | None, typer.Option(metavar="N", help="Processor threads to use.", min=1)] = None,
    _version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Options of all commands."""
    log = logging.StreamHandler()
    log.setFormatter(VisibleFormatter())
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, handlers=[log])
    check_command(workspace, context.invoked_subcommand, {"--base": bool(base), "--break-lock": break_lock})
    context.obj = {"folder": workspace, "break_lock": break_lock, "base": base}
    if threads:
        import torch

        torch.set_num_threads(threads)


def main() -> None:
    """Run a command.

    Characters that standard output or standard error cannot encode are printed as question marks. If one of them is closed, nothing is printed.
    """
    nowhere = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(ValueError):  # a stream that was closed
                stream.reconfigure(errors="replace")
    try:
        app()
    except OSError as error:  # from --help or --version: commands have dealt with theirs
        silence(sys.stdout.fileno())
        fail(f"cannot write to standard output: {error.strerror or error}", BluEditError.exit_code)
