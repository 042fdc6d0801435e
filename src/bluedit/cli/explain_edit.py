"""The commands `bluedit explain edit` and `bluedit explain conflicts`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bluedit.cli.common import (
    FACTS,
    METHOD,
    MODEL,
    RESULT,
    BadRecords,
    Corpus,
    Device,
    Dtype,
    Format,
    OtherWeights,
    PatchedModel,
    Tokens,
    TrustRemoteCode,
    check_place,
    count,
    load_editor,
    load_patched,
    read_source,
)
from bluedit.cli.output import print_tables, say, say_json
from bluedit.errors import ExplainError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from bluedit.explain.conflicts import Conflicts
    from bluedit.explain.edit import EditExplanation
    from bluedit.facts.fact import Fact

Json = Annotated[bool, typer.Option("--json", help="Print everything as JSON.", rich_help_panel=RESULT)]


def explain_edit(
    patch: Annotated[Path, typer.Argument(help="Folder of a patch or of a workspace.")],
    fact: Annotated[
        str,
        typer.Option(
            "--fact",
            "-f",
            metavar="ID",
            help="Which fact: its number in 'bluedit show', its id, or a part of its text.",
            rich_help_panel=FACTS,
        ),
    ],
    model: PatchedModel = None,
    dtype: Dtype = None,
    device: Device = "auto",
    trust_remote_code: TrustRemoteCode = False,
    force: OtherWeights = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER",
            help="Folder for a page with figures (edit.html) and all numbers (edit.json, and CSV).",
            rich_help_panel=RESULT,
        ),
    ] = None,
    plots: Annotated[
        str,
        typer.Option(
            metavar="FORMATS",
            help="With --out, also write every figure as files, e.g. png,svg,pdf. Needs matplotlib.",
            rich_help_panel=RESULT,
        ),
    ] = "",
    json: Json = False,
) -> None:
    """Show why an edited fact is said or not: what was written, what arrived, and what each text receives of it."""
    from rich.text import Text

    from bluedit.editing.patch import Patch
    from bluedit.explain.edit import explain_edit as explain
    from bluedit.explain.edit import find_fact, write_edit
    from bluedit.page.plots import formats_of

    formats = formats_of(plots)
    if formats and out is None:
        raise ExplainError("--plots writes figures into the folder of --out; give that, too")
    if out:
        check_place(out / "edit.html", ExplainError)
    loaded = Patch.load(patch)
    number = find_fact(loaded.facts, fact)
    editor = load_patched(loaded, model, dtype, device, trust_remote_code)
    found = explain(editor, number, loaded, force=force)
    page = write_edit(found, out, formats) if out else None
    if json:
        say_json(found.as_dict())
        return
    print_tables(Text(found.sentence), *edit_tables(found))
    if page:
        say(f"\nPage: {page}")


def edit_tables(found: EditExplanation) -> list[RenderableType]:
    """The numbers of an explanation that a terminal has room for, and in full what is said instead of the fact."""
    from bluedit.evaluate.tables import Column, Listing
    from bluedit.explain.edit import outcome, probability, shown

    columns = (
        Column("text"),
        Column("form"),
        *(Column(t, True) for t in ("received", "p(new)", "ahead")),
        Column("said"),
    )
    rows = [
        (
            " ".join(one.prompt.split()),
            one.form,
            shown(one.received),
            probability(one.target_after),
            shown(one.ahead, 1),
            outcome(one),
        )
        for one in found.asked
    ]
    notes = [
        "received: share of the residual that arrives at the text's key",
        "p(new): of the whole new answer, which is a sentence where one was taught",
        "ahead: by how many nats the old answer (a neighbour's own) leads",
    ]
    return [
        _writes(found),
        Listing("Texts", columns, rows, [*notes, *filter(None, [found.reading_note])]),
        *_instead(found),
        *_nearest(found),
    ]


def _writes(found: EditExplanation) -> RenderableType:
    from bluedit.evaluate.tables import NONE, Column, Listing
    from bluedit.explain.edit import shown

    several = len({w.position for w in found.written}) > 1
    heads = [Column("layer", True), *[Column("at")] * several]
    heads += [Column(title, True) for title in ("for layer", "share", "|r|", "reach", "part of the move")]
    rows = [
        (
            str(w.layer),
            *[w.position] * several,
            NONE if w.target is None else str(w.target),
            *map(shown, (w.share, w.residual, w.reach, w.part)),
        )
        for w in found.written
    ]
    notes = [
        f"of the residual at layer {a.layer}{f' ({a.position})' if several else ''} arrived: {shown(a.arrived)}, now {shown(a.now)}"
        for a in found.arrivals
    ]
    if several:
        notes.append("token after it: where a text starts with the subject it is written there, in up to three rounds")
    if found.filters is not None:
        notes.append(f"filters made {shown(found.filters)} of the move")
    if len(found.writings) > 1:
        listed = ", ".join(map(str, found.writings))
        notes.append(f"the fact was written in batches {listed}; this is the last of them")
    return Listing("Writes", heads, rows, notes)


def _instead(found: EditExplanation) -> list[RenderableType]:
    """What the model writes after the texts that are not answered as they should be."""
    from bluedit.evaluate.tables import Record, Records

    def line(text: str) -> str:
        return " ".join(text.split()) or "(nothing)"

    records = [
        Record(line(one.prompt), {"without": line(one.says_before), "with": line(one.says)})
        for one in found.asked
        if not one.good
    ]
    return [Records("What the model writes instead, without and with the edits", records)] if records else []


def _nearest(found: EditExplanation) -> list[RenderableType]:
    from bluedit.evaluate.tables import Column, Listing
    from bluedit.explain.edit import numbered, shown

    near = [one for one in found.others if one.interferes or one.match]
    heads = (Column("edit"), Column("when"), *(Column(t, True) for t in ("match", "adds", "takes")))
    rows = [
        (f"{numbered(o.number)}{o.prompt} => {o.target}", o.when, *map(shown, (o.match, o.adds, o.takes)))
        for o in near[:5]
    ]
    notes = [
        "adds: what its change adds at this fact's key; takes: what this fact's change adds at its key; in shares of the residual",
    ]
    return [Listing("Nearest edits", heads, rows, notes)] if near else []


IN_CONFLICT = 13  # exit code of `bluedit explain conflicts --strict` if anything was found
_SHOWN = 10  # findings of a kind


def explain_conflicts(
    sources: Annotated[
        list[str],
        typer.Argument(help="Files of facts (as --facts of 'bluedit edit') and folders of patches, in any number."),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="Compare keys in this model, and ask it with each patch. Default: only the texts are compared.",
            rich_help_panel=MODEL,
            show_default=False,
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            "-r",
            metavar="NAME",
            help="The recipe whose keys are compared. Default: that of the patch, or of 'bluedit edit'.",
            rich_help_panel=METHOD,
            show_default=False,
        ),
    ] = None,
    format: Format = None,
    bad_records: BadRecords = "refuse",
    dtype: Dtype = None,
    device: Device = "auto",
    trust_remote_code: TrustRemoteCode = False,
    force: OtherWeights = False,
    corpus: Corpus = "self",
    tokens: Tokens = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help=f"Exit with {IN_CONFLICT} if anything was found. Otherwise the exit code is 0.",
            rich_help_panel=RESULT,
        ),
    ] = False,
    details: Annotated[
        bool, typer.Option("--details", help="Show all findings, however many.", rich_help_panel=RESULT)
    ] = False,
    json: Json = False,
) -> None:
    """Show which facts stand in each other's way, before or after they are edited, and what to do about each."""
    from bluedit.explain.conflicts import Source, find_conflicts

    def read(name: str) -> list[Fact]:
        return read_source(name, format, None, 0, 0, bad_records)

    given = [Source.of(name, number, read) for number, name in enumerate(sources, 1)]
    editor = load_editor(model, dtype, device, trust_remote_code, corpus=corpus, tokens=tokens) if model else None
    found = find_conflicts(*given, editor=editor, recipe=recipe, force=force)
    if json:
        say_json(found.as_dict())
    else:
        print_tables(*conflict_tables(found, None if details else _SHOWN))
    if strict and found.found:
        sys.exit(IN_CONFLICT)


def conflict_tables(found: Conflicts, most: int | None) -> list[RenderableType]:
    """The findings by kind, each kind with what to do, and what was compared."""
    from rich.text import Text

    from bluedit.evaluate.tables import Record, Records
    from bluedit.explain.conflicts import ADVICE, KINDS

    parts: list[RenderableType] = []
    for kind in found.counts:
        own = [one for one in found.found if one.kind is kind]
        records = []
        for one in own[:most]:
            fields = {
                f"{place}.": f"{f.prompt} => {f.target} ({f.source}, fact {f.number})"
                for place, f in enumerate(one.facts, 1)
            }
            records.append(Record(f"{one.why[0].upper()}{one.why[1:]}", fields))
        more = [f"{len(own) - most} more: --details"] if most and len(own) > most else []
        parts.append(Records(f"{KINDS[kind]}: {len(own)}", records, [*more, f"What to do: {ADVICE[kind]}"]))
    if not found.found:
        parts.append(Text(f"Nothing stands in the way of {count(found.facts, 'fact')}."))
    return [*parts, Text("\n".join(f"Note: {note}." for note in found.notes))]
