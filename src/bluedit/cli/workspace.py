"""The commands of a workspace: `init`, and those that need `bluedit -C DIR`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bluedit.cli.common import (
    NOT_LEARNED,
    AllowMissed,
    Corpus,
    Device,
    Dtype,
    Model,
    Tokens,
    TrustRemoteCode,
    count,
)
from bluedit.cli.guarding import GuardRules, OnViolation, Protect, SkipFailed, guarding
from bluedit.cli.output import fail, print_tables, progress, say
from bluedit.errors import WorkspaceError

if TYPE_CHECKING:
    from bluedit.editing.workspace import Workspace

IN_WORKSPACE = ("edit", "ask", "show", "log", "undo", "redo", "verify", "find", "diff", "tag", "checkout", "heal")

Point = Annotated[str, typer.Argument(help="A name from 'tag', or the number of an event (0: the unedited model).")]
Report = Annotated[bool, typer.Option(help="Measure the model before and after.")]


def check_command(folder: Path | None, command: str | None, beside: Mapping[str, bool]) -> None:
    """Raises WorkspaceError if -C is given to a command that has no use for it, or one of the options `beside` it without it."""
    alone = [] if folder else [name for name, given in beside.items() if given]
    if alone:
        raise WorkspaceError(f"{alone[0]} is about a workspace; say which: bluedit -C DIR {alone[0]} ...")
    if folder and command and command not in IN_WORKSPACE:
        raise WorkspaceError(
            f"'bluedit {command}' does not work in a workspace; leave -C out. These do: {', '.join(IN_WORKSPACE)}"
        )


def workspace_of(context: typer.Context, refused: tuple[str, ...] = (), **options: Any) -> Workspace | None:
    """The workspace of -C; None without it.

    Args:
        refused: options of the command that the workspace decides.
        options: of `Workspace.open`.

    Raises:
        WorkspaceError: it is no workspace, or an option is given that it decides.
    """
    settings = context.find_root().obj or {}
    if not settings.get("folder"):
        return None
    for name in refused:
        source = context.get_parameter_source(name)
        if source and source.name == "COMMANDLINE":
            raise WorkspaceError(f"the workspace decides on --{name.replace('_', '-')}; leave it out, or leave -C out")
    from bluedit.editing.workspace import Workspace

    opening = {"break_lock": settings["break_lock"], "model": settings["base"], "progress": progress()}
    return Workspace.open(settings["folder"], **opening, **options)


def needed(context: typer.Context, **options: Any) -> Workspace:
    """The workspace of -C. Raises WorkspaceError if it is not given."""
    found = workspace_of(context, **options)
    if found is None:
        name = context.info_name
        raise WorkspaceError(
            f"'{name}' works in a workspace; say which: bluedit -C DIR {name} ('bluedit init DIR' makes one)"
        )
    return found


def init(
    folder: Annotated[Path, typer.Argument(help="New or empty folder for the workspace.")],
    model: Model = "smollm2",
    dtype: Dtype = None,
    device: Device = "auto",
    trust_remote_code: TrustRemoteCode = False,
    corpus: Corpus = "self",
    tokens: Tokens = None,
) -> None:
    """Make a workspace: a folder that keeps every edit of a model.

    The model itself is only read.
    """
    from bluedit.editing.workspace import Workspace

    options: dict[str, Any] = {"device": device, "trust_remote_code": trust_remote_code, "progress": progress()}
    made = Workspace.create(folder, model, dtype=dtype, corpus=corpus, tokens=tokens, **options)
    say(f"{folder} is a workspace for {made.base.model} ({made.base.dtype}). Write a fact into it:")
    say(f"  bluedit -C {shlex.quote(str(folder))} edit --fact 'The capital of {{France}} is => Rome'")


def log(
    context: typer.Context,
    health: Annotated[
        bool, typer.Option("--health", help="Ask the model whether it still says the facts; loads the model.")
    ] = False,
    events: Annotated[bool, typer.Option("--events", help="Every event instead of every entry.")] = False,
    device: Device = "auto",
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """List the edits of a workspace."""
    from bluedit.cli.workspace_tables import entry_table, event_table

    if events and health:
        raise WorkspaceError("--health asks about entries, and --events lists events; give one of them")
    found = needed(context, device=device, trust_remote_code=trust_remote_code)
    if events:
        print_tables(event_table(found.events))
    else:
        print_tables(entry_table(found.log(), found.tags, found.events, found.health() if health else None))


def undo(
    context: typer.Context,
    entry: Annotated[int | None, typer.Argument(help="Number of the entry. Default: the newest.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Solve later entries again without asking.")] = False,
    device: Device = "auto",
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Take back an edit.

    The newest one is taken back bit for bit. What stands on an older one is solved again.
    """
    found = needed(context, device=device, trust_remote_code=trust_remote_code)
    standing = found.standing
    later = standing[standing.index(entry) + 1 :] if entry in standing else []
    if later and not yes:
        what = f"{'Entry' if len(later) == 1 else 'Entries'} {', '.join(map(str, later))}"
        say(
            f"{what} will be solved again with the same recipes and seeds, as if entry {entry} had never been made. The weights that "
            "come of it are others than now, and whether their facts are said may change. 'redo' brings back what is there now, bit for bit."
        )
        typer.confirm("Go on?", abort=True)
    again = found.undo(entry)
    number = found.events[-1].about["entry"]
    say(f"Entry {number} is undone{', bit for bit' if not again else ''}. 'redo' brings it back.")
    for later, one in zip(found.standing[len(found.standing) - len(again) :], again, strict=True):
        missed = one.report.missed if one.report else ()
        say(
            f"Entry {later} was solved again: {count(len(one.facts), 'fact')}{f', {len(missed)} not said' if missed else ''}"
        )


def redo(context: typer.Context) -> None:
    """Bring back what the last undo took back, bit for bit."""
    found = needed(context)
    found.redo()
    say(f"Brought back. Standing entries: {_standing(found)}")


def tag(context: typer.Context, name: Annotated[str, typer.Argument(help="The name.")]) -> None:
    """Give the present state a name."""
    found = needed(context)
    found.tag(name)
    say(f"{name} is the state with entries {_standing(found)}")


def checkout(context: typer.Context, point: Point) -> None:
    """Go to a named point or an event. Nothing is lost."""
    found = needed(context)
    before = len(found.events)
    found.checkout(point)
    say(f"Standing entries: {_standing(found)}. Back to where you were: checkout {before}")


def find(context: typer.Context, subject: Annotated[str, typer.Argument(help="Name of a subject.")]) -> None:
    """List the edits that touch a subject."""
    from bluedit.cli.workspace_tables import entry_facts

    found = needed(context)
    print_tables(entry_facts(found.find(subject), subject))


def diff_points(
    context: typer.Context,
    first: Point,
    second: Annotated[str | None, typer.Argument(help="The other point. Default: the present state.")] = None,
) -> None:
    """Show how two points of a workspace differ."""
    from bluedit.cli.workspace_tables import diff_tables

    print_tables(*diff_tables(needed(context).diff(first, second)))


def verify_workspace(
    context: typer.Context,
    files: Annotated[bool, typer.Option("--files", help="Check the files only, without loading the model.")] = False,
    device: Device = "auto",
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Check that a workspace is as it was written, and say which entry is damaged."""
    found = needed(context, device=device, trust_remote_code=trust_remote_code)
    problems = found.verify(model=not files)
    for problem in problems:
        say(f"{'model' if problem.entry is None else f'entry {problem.entry}'}: {problem.what}")
    if problems:
        fail(f"{count(len(problems), 'problem')} found in {found.folder}", WorkspaceError.exit_code)
    say(f"{count(len(found.events), 'event')}, standing entries: {_standing(found)}. All is as it was written.")


def heal(
    context: typer.Context,
    report: Report = True,
    guard: GuardRules = None,
    protect: Protect = None,
    on_violation: OnViolation = "soften",
    skip_failed: SkipFailed = False,
    allow_missed: AllowMissed = False,
    device: Device = "auto",
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Write facts again that the model no longer says."""
    from bluedit.cli.edit_output import finish_all, print_edit, show_entry

    found = needed(context, device=device, trust_remote_code=trust_remote_code)
    done = found.heal(report=report, **guarding(guard, protect, on_violation, skip_failed=skip_failed))
    for one in done:
        print_edit(one, details=False)
    say(f"{count(sum(len(one.facts) for one in done), 'fact')} written again" if done else "All facts are still said.")
    made = [event.add[0].entry for event in found.events[-len(done) :]] if done else []
    finish_all([(one, show_entry(found, number)) for one, number in zip(done, made, strict=True)], allow_missed)
    if made and not report:
        _check_healed(found, made, allow_missed)


def _check_healed(workspace: Workspace, entries: list[int], allow_missed: bool) -> None:
    """Ask the model for the facts of new entries that no report is about. Exits with 10 if some are not said, unless that is allowed."""
    health = workspace.health()
    said = [one.said for number in entries for one in health[number]]
    if not all(said):
        message = f"{said.count(False)} of {count(len(said), 'fact')} written again {'is' if len(said) == 1 else 'are'} still not said"
        say(message) if allow_missed else fail(message, NOT_LEARNED)


def _standing(workspace: Workspace) -> str:
    return ", ".join(map(str, workspace.standing)) or "none"
