"""What `bluedit edit` prints: the report, where the result is, and what was not learned."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from bluedit.cli.common import NOT_LEARNED, count
from bluedit.cli.output import fail, print_tables, say

if TYPE_CHECKING:
    from bluedit.editing.edit import Edit
    from bluedit.editing.workspace import Workspace


def tell_patch(done: Edit, out: Path) -> list[str]:
    """Say where the patch is. Returns the command that shows it."""
    say(f"\nPatch written to {out}\nThe model itself is unchanged. Ask it with the patch:")
    say("  " + shlex.join(["bluedit", "ask", "--patch", str(out), done.facts[0].text]))
    return ["bluedit", "show", str(out), "--details"]


def tell_entry(workspace: Workspace) -> list[str]:
    """Say which entry was written and what it supersedes. Returns the command that shows it."""
    event = workspace.events[-1]
    number = event.add[0].entry
    say(f"\nEntry {number} of {workspace.folder}. Take it back: bluedit -C {shlex.quote(str(workspace.folder))} undo")
    for one in event.about.get("supersedes", ()):
        say(f"It supersedes entry {one['entry']}: {one['prompt']} => {one['was']}")
    return show_entry(workspace, number)


def show_entry(workspace: Workspace, number: int) -> list[str]:
    """The command that shows an entry."""
    return ["bluedit", "-C", str(workspace.folder), "show", str(number), "--details"]


def print_edit(done: Edit, details: bool) -> None:
    """The report, or why there is none."""
    from bluedit.evaluate.report_text import report_parts
    from bluedit.evaluate.tables import edit_table

    if done.report:
        report = done.report.as_dict()
        print_tables(edit_table(report, details=details), *report_parts(report, details=details))
    else:
        say(done.summary())
        return
    if done.notes:
        say("")
    for line in done.notes:
        say(line)


def finish(done: Edit, show: list[str], allow_missed: bool) -> None:
    """If facts were not learned or were left out, say so; exit with 10 unless that is allowed. The report says why and what to try."""
    finish_all([(done, show)], allow_missed)


def finish_all(made: Iterable[tuple[Edit, list[str]]], allow_missed: bool) -> None:
    """The same of several edits, each with the command that shows it."""
    message = "\n".join(filter(None, (_lacks(done, show) for done, show in made)))
    if message and allow_missed:
        say(message[0].upper() + message[1:])
    elif message:
        fail(message, NOT_LEARNED)


def _lacks(done: Edit, show: list[str]) -> str:
    """Which facts of an edit are not said or were left out; empty if none."""
    missed, gone = len(done.report.missed) if done.report else 0, len(done.left_out)
    parts = [(missed, "not learned")] * bool(missed) + [(gone, "left out")] * bool(gone)
    if not parts:
        return ""
    whole = len(done.facts) + gone
    told = " and ".join(
        f"{count(number, 'fact')} of {whole} {'was' if number == 1 else 'were'} {what}" for number, what in parts
    )
    message = f"{told}; why, and what to try: {shlex.join(show)}"
    if done.recipe.update.preserve and missed:
        options = done.recipe.settings()
        message += (
            f" (objective.clamp is {options['objective.clamp']:g} now, objective.steps {options['objective.steps']})"
        )
    return message
