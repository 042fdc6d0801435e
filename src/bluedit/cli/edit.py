"""The command `edit`, which writes a patch or an entry of a workspace."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from bluedit.cli.common import (
    FACTS,
    METHOD,
    MODEL,
    RESULT,
    SOURCE,
    AllowMissed,
    BadRecords,
    Corpus,
    Device,
    Dtype,
    Format,
    Limit,
    PatchedModel,
    Precision,
    Seed,
    Skip,
    StatisticsDevice,
    Tokens,
    TokensPerStep,
    TrustRemoteCode,
    execution_of,
    gather,
    load_patched,
    settings_of,
)
from bluedit.cli.edit_output import finish, print_edit, tell_entry, tell_patch
from bluedit.cli.guarding import GuardRules, OnViolation, Protect, SkipFailed, guarding
from bluedit.cli.workspace import workspace_of
from bluedit.errors import FactError, PatchError
from bluedit.methods.presets import DEFAULT, preset

DECIDED = ("model", "dtype", "patch", "corpus", "tokens", "out", "force")  # in a workspace it decides on these


def edit(
    context: typer.Context,
    *,
    fact: Annotated[
        list[str] | None,
        typer.Option(
            "--fact",
            "-f",
            metavar="FACT",
            help="A fact such as 'The capital of {France} is => Rome', with the subject in braces. May be repeated.",
            rich_help_panel=FACTS,
        ),
    ] = None,
    phrasing: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="A further phrasing or question to teach, with {} for the subject, e.g. 'Who rules {}?', or with another name of it in braces, e.g. 'Who is the {Danish} king?'. Only with a single --fact. May be repeated.",
            rich_help_panel=FACTS,
        ),
    ] = None,
    facts: Annotated[str | None, typer.Option(metavar="SOURCE", help=SOURCE, rich_help_panel=FACTS)] = None,
    format: Format = None,
    bad_records: BadRecords = "refuse",
    limit: Limit = None,
    skip: Skip = 0,
    seed: Seed = 0,
    known: Annotated[
        str,
        typer.Option(
            metavar="refuse|skip|edit",
            help="What to do about facts that the model already says: refuse to edit, skip these facts, or edit them too.",
            rich_help_panel=FACTS,
        ),
    ] = "refuse",
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe",
            "-r",
            metavar="NAME",
            help="The editing method; 'bluedit recipes' lists them.",
            rich_help_panel=METHOD,
        ),
    ] = DEFAULT,
    set: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            "-s",
            metavar="OPTION=VALUE",
            help="Change an option of the recipe, e.g. layers=4,8 or preserve.lambda=500. 'bluedit recipes --options' lists them. May be repeated.",
            rich_help_panel=METHOD,
        ),
    ] = None,
    phrasings: Annotated[
        bool,
        typer.Option(
            help="Also teach phrasings, questions and, if the model has one, the chat form; or teach the prompt alone, as the papers do.",
            rich_help_panel=METHOD,
        ),
    ] = True,
    chat: Annotated[
        bool | None,
        typer.Option(
            help="Whether to teach the chat form as well. Default: as the recipe says.", rich_help_panel=METHOD
        ),
    ] = None,
    tuning: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="A tuning.toml of 'bluedit tune', or bundled for the numbers that come with bluedit. Default: what was kept for this model, if anything.",
            rich_help_panel=METHOD,
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(metavar="N", help="Number of facts written at once. Default: all.", rich_help_panel=METHOD),
    ] = None,
    guard: GuardRules = None,
    protect: Protect = None,
    on_violation: OnViolation = "soften",
    skip_failed: SkipFailed = False,
    model: PatchedModel = None,
    dtype: Dtype = None,
    device: Device = "auto",
    trust_remote_code: TrustRemoteCode = False,
    patch: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Edit on top of this earlier patch. The new patch contains it.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    corpus: Corpus = "self",
    tokens: Tokens = None,
    precision: Precision = "auto",
    tokens_per_step: TokensPerStep = 0,
    statistics_device: StatisticsDevice = "",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER",
            help="Folder for the patch; needed unless you work in a workspace (bluedit -C DIR edit).",
            rich_help_panel=RESULT,
            show_default=False,
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace the patch that is already in --out.", rich_help_panel=RESULT),
    ] = False,
    report: Annotated[
        bool, typer.Option(help="Measure the model before and after the edit.", rich_help_panel=RESULT)
    ] = True,
    details: Annotated[
        bool, typer.Option("--details", help="Show all measurements of each fact.", rich_help_panel=RESULT)
    ] = False,
    allow_missed: AllowMissed = False,
) -> None:
    """Change what a model says, and save the change as a patch.

    The model itself is not modified. In a workspace (bluedit -C DIR edit) the change becomes its newest entry.
    """
    settings = settings_of(set)
    execution = execution_of(precision, tokens_per_step, statistics_device)
    workspace = workspace_of(
        context, DECIDED, device=device, trust_remote_code=trust_remote_code, execution=execution, tuning=tuning
    )
    if workspace is None:
        out = _place(out, force=force)
    preset(recipe).override(settings)
    chosen = _with_phrasings(gather(fact, facts, format, limit, skip, seed, bad_records), phrasing)
    how: dict[str, Any] = {"batch_size": batch_size, "settings": settings, "known": known}
    how |= {"phrasings": phrasings, "chat": chat, "report": report}
    how |= guarding(guard, protect, on_violation, skip_failed=skip_failed)
    if workspace:
        done = workspace.edit(chosen, recipe, **how)
        print_edit(done, details)
        where = tell_entry(workspace)
    else:
        from bluedit.editing.patch import Patch

        assert out
        earlier = Patch.load(patch) if patch else None
        how_run = {"corpus": corpus, "tokens": tokens, "execution": execution, "tuning": tuning}
        editor = load_patched(earlier, model, dtype, device, trust_remote_code, **how_run)
        if earlier:
            editor.apply(earlier)
        done = editor.edit(chosen, recipe, **how)
        editor.patch.save(out, force=force)
        print_edit(done, details)
        where = tell_patch(done, out)
    finish(done, where, allow_missed)


def _place(out: Path | None, *, force: bool) -> Path:
    """--out, if a patch can be written there. Raises PatchError if not, or if there is none."""
    from bluedit.editing.patch import check_place

    if out is None:
        raise PatchError(
            "--out FOLDER says where the patch goes; it can only be left out in a workspace (bluedit -C DIR edit)"
        )
    check_place(out, force=force)
    return out


def _with_phrasings(facts: list[Any], phrasing: list[str] | None) -> list[Any]:
    """The one fact with the phrasings of --phrasing.

    Raises:
        FactError: there are several facts; a file says for each fact how it is phrased.
    """
    if not phrasing:
        return facts
    if len(facts) != 1:
        raise FactError(
            f"--phrasing is for a single --fact, and there are {len(facts)} facts; give phrasings in a file ('phrasings' in JSONL or CSV)"
        )
    (fact,) = facts
    return [replace(fact, phrasings=(*fact.phrasings, *phrasing))]
