"""A patch as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.text import Text

from bluedit.cli.common import count
from bluedit.editing.guard_text import guard_sentences, guard_summary
from bluedit.errors import MALFORMED, PatchError
from bluedit.evaluate.report_text import report_parts
from bluedit.evaluate.tables import NONE, SHOWN_FACTS, Column, Listing, Record, Records, edit_table, totals
from bluedit.facts.replacing import different
from bluedit.model.fingerprint import text_fingerprint

if TYPE_CHECKING:
    from bluedit.editing.patch import Patch
    from bluedit.writing.batch import Batch, Origin


def patch_tables(patch: Patch, *, details: bool = False) -> list[RenderableType]:
    """What a patch changes, how it was made and which model it is for.

    Args:
        details: also all that is known about each edit, the size of each weight's change, and the whole reports.

    Raises:
        PatchError: what the patch says about itself is not what any bluedit writes.
    """
    try:
        return _tables(patch, details)
    except MALFORMED as error:
        raise PatchError(
            f"the patch's description of its edits cannot be read ({type(error).__name__}: {error}); restore it from a copy"
        ) from error


def _tables(patch: Patch, details: bool) -> list[RenderableType]:
    edits = edits_of(patch)
    base = patch.base
    about = {
        "model": f"{base.model} ({base.dtype}, fingerprint {base.fingerprint})",
        "facts": str(len(different(patch.facts)))
        + (f", and {patch.stripped} that were taken out" if patch.stripped else ""),
        "layers": ", ".join(map(str, patch.layers)),
    }
    if details:
        named = f"{count(len(different(patch.facts)), 'fact')} in {count(len(patch.batches), 'batch')}"
        records = [_record(number, batches) for number, batches in enumerate(edits, 1)]
        reports = [
            part
            for origin in patch.origins
            if origin.report
            for part in (edit_table(origin.report, details=True), *report_parts(origin.report, details=True))
        ]
        return [
            _about(about | {"facts": named}),
            Records("", records),
            _change_table(patch),
            _fact_table(edits, None),
            *reports,
        ]
    parts: list[RenderableType] = [_about(about), _edit_table(edits)]
    if patch.facts:
        parts.append(_fact_table(edits, SHOWN_FACTS))
    if len(edits) == 1 and (report := edits[0][-1].origin.report):
        parts.append(Text("\n".join(totals(report))))
    if len(edits) == 1 and (guard := guard_sentences(edits[0])):
        parts.append(Text("\n".join(guard)))
    return parts


def edits_of(patch: Patch) -> list[list[Batch]]:
    """The batches of a patch by the edit that they come from."""
    found: dict[str, list[Batch]] = {}
    for batch in patch.batches:
        found.setdefault(text_fingerprint(batch.origin.settings, batch.origin.about), []).append(batch)
    return list(found.values())


def _about(rows: Mapping[str, str]) -> RenderableType:
    return Records("Patch", [Record("", rows)])


def _edit_table(edits: Sequence[Sequence[Batch]]) -> Listing:
    """One line an edit."""
    guarded = any(guard_summary(batches) for batches in edits)
    taught, known = [], set[tuple[str, str]]()
    for batches in edits:
        facts = [fact for batch in batches for fact in batch.facts]
        new = set(different(facts)) - known
        taught.append((len(new), len(facts) - len(new)))
        known |= new
    repeated = any(again for _, again in taught)
    columns = (
        Column("edit", True),
        Column("recipe"),
        Column("facts", True),
        *((Column("again", True),) if repeated else ()),
        Column("said", True),
        Column("perplexity", True),
        *((Column("guard"),) if guarded else ()),
        Column("made"),
    )
    rows = []
    for number, (batches, (new, again)) in enumerate(zip(edits, taught, strict=True), 1):
        origin = batches[-1].origin
        report = origin.report
        said = str(sum(fact["says_after"] for fact in report["facts"])) if report else NONE
        drift = f"{report['perplexity_after'] / report['perplexity_before'] - 1:+.1%}" if report else NONE
        made = str(origin.about.get("created") or NONE)[:10]
        guard = [guard_summary(batches) or NONE] if guarded else []
        rows.append(
            (str(number), origin.recipe, str(new), *((str(again),) if repeated else ()), said, drift, *guard, made)
        )
    return Listing(
        "Edits", columns, rows, ["again: facts that had been written before and were taught once more"] * repeated
    )


def _record(number: int, batches: Sequence[Batch]) -> Record:
    """All that is known about one edit."""
    origin = batches[-1].origin
    about = origin.about
    statistics, versions, ranks, modules, how = (
        about.get(name) or {} for name in ("statistics", "versions", "free_dimensions", "modules", "execution")
    )
    fields = {
        "recipe": origin.recipe,
        "paper": origin.paper,
        "tuning": origin.tuning or "none",
        "options": _pairs(origin.settings),
        "weights": ", ".join(f"{name}.weight" for name in modules.values()),
        "key statistics": f"{statistics.get('tokens')} tokens of {statistics.get('corpus_name')}" if statistics else "",
        "free dimensions": ", ".join(f"layer {layer}: {rank}" for layer, rank in ranks.items()) or "all",
        "prefixes": " / ".join(origin.prefixes) or "none",
        "made": f"{about.get('created') or 'unknown'}, in {about.get('seconds', '?')} s",
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "execution": _pairs(how),
        "guard": "\n".join(guard_sentences(batches)),
    }
    return Record(f"Edit {number}", {name: value for name, value in fields.items() if value})


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_value(value)}" for name, value in values.items() if value != "")


def _value(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _change_table(patch: Patch) -> Listing:
    """The size of every change."""
    columns = [Column(title, True) for title in ("batch", "layer", "rank", "norm of change", "reach")]
    rows = [
        (
            str(number),
            str(update.layer),
            str(update.R.shape[1]),
            f"{update.norm:.3g}",
            f"{update.mean_reach:.2f}" if len(update.reach) else NONE,
        )
        for number, batch in enumerate(patch.batches, 1)
        for update in batch.updates
    ]
    note = "reach: share of the residual that a write delivers at its own key"
    return Listing("Changed weights", columns, rows, [note])


def _fact_table(edits: Sequence[Sequence[Batch]], shown: int | None) -> Listing:
    """The facts, and whether the model said them after the last edit that wrote them."""
    columns = [Column("#", True), Column("prompt"), Column("new answer"), Column("old answer"), Column("said")]
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    number = 0
    for batches in edits:
        said = _said(batches[-1].origin)
        for fact in (fact for batch in batches for fact in batch.facts):
            number += 1  # as `explain edit --fact` counts
            key = fact.text, fact.target
            first = found.get(
                key, (str(number), *key, fact.old_target or NONE)
            )  # one that was taught again has one line
            found[key] = (*first[:4], said.get(key, NONE))
    rows = list(found.values())
    more = [f"{len(rows) - shown} more"] if shown and len(rows) > shown else []
    filled = [i for i in range(len(columns)) if i < 3 or any(row[i] != NONE for row in rows)]
    return Listing("Facts", [columns[i] for i in filled], [[row[i] for i in filled] for row in rows[:shown]], more)


def _said(origin: Origin) -> dict[tuple[str, str], str]:
    facts = origin.report["facts"] if origin.report else ()
    return {(fact["prompt"], fact["target"]): "yes" if fact["says_after"] else "no" for fact in facts}
