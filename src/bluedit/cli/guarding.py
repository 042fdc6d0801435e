"""The options of `bluedit edit` about what an edit may cost."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from bluedit.cli.common import read_source
from bluedit.editing.rules import Rule
from bluedit.editing.violations import Action

GUARD = "Guard"  # section of the help
_RULES = ", ".join(f"{kind}={cls().limit:g}" for kind, cls in Rule.choices.items())  # pyright: ignore[reportAttributeAccessIssue]

GuardRules = Annotated[
    list[str] | None,
    typer.Option(
        "--guard",
        metavar="RULE",
        help=f"Check this before a batch is kept: default, or a rule with or without its limit ({_RULES}). May be repeated.",
        rich_help_panel=GUARD,
        show_default=False,
    ),
]
Protect = Annotated[
    str | None,
    typer.Option(
        metavar="SOURCE",
        help="Facts whose answers must not change, as for --facts. Alone they mean --guard default.",
        rich_help_panel=GUARD,
        show_default=False,
    ),
]
OnViolation = Annotated[
    str,
    typer.Option(
        metavar="|".join(Action.choices),
        help="When a rule is broken: write less of the change, leave out the facts that do harm, refuse the edit, or keep it with a warning.",
        rich_help_panel=GUARD,
    ),
]
SkipFailed = Annotated[
    bool,
    typer.Option(
        "--skip-failed",
        help="Leave out facts that cannot be written (numbers that are not finite, dependent keys, targets that do not converge).",
        rich_help_panel=GUARD,
    ),
]


def guarding(guard: list[str] | None, protect: str | None, on_violation: str, *, skip_failed: bool) -> dict[str, Any]:
    """The arguments of `Editor.edit`, checked before a model is loaded.

    Raises:
        RecipeError: an unknown rule or action, or a limit out of range.
        FactError: protected facts that cannot be read.
    """
    from bluedit.editing.guard import Guarding

    facts = read_source(protect, None, None, 0, 0) if protect else []
    Guarding.of(guard, facts, on_violation, skip_failed=skip_failed)
    return {"guard": guard, "protect": facts, "on_violation": on_violation, "skip_failed": skip_failed}
