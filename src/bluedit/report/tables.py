"""Edits, patches and recipes as tables for a terminal, and as plain text."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from bluedit.evaluate.generate import Asked
from bluedit.facts import Fact
from bluedit.method.presets import BLUE_PAPER, DEFAULT
from bluedit.method.recipe import Recipe
from bluedit.report.methods import METRIC_HEADS, OPTION_HEADS, metric_rows, option_rows, preserves

if TYPE_CHECKING:
    from bluedit.editing.editor import Edit
    from bluedit.editing.patch import Patch

_SHOWN_FACTS = 30


def edit_table(report: Mapping[str, Any], *, shown: int = _SHOWN_FACTS) -> Table:
    """Fact by fact before and after, from a report as a patch's manifest holds it; failed facts come first when some are cut."""
    table = Table(
        title="What changed", title_justify="left", caption=_caption(report), caption_justify="left", pad_edge=False
    )
    table.padding = (0, 1, 0, 0)
    facts = report["facts"]
    columns = [column for column in _COLUMNS if any(column.cell(fact).plain not in ("–", "") for fact in facts)]
    for column in columns:
        table.add_column(column.title, overflow="fold")
    chosen = facts if len(facts) <= shown else sorted(facts, key=lambda f: f["says_after"])[:shown]
    for fact in chosen:
        table.add_row(*(column.cell(fact) for column in columns))
    return table


@dataclass(frozen=True)
class _Column:
    """A column of the edit table; it is left out when it would be empty."""

    title: str
    cell: Callable[[Mapping[str, Any]], Text]


def _says(fact: Mapping[str, Any]) -> Text:
    return Text("yes", "green") if fact["says_after"] else Text("no", "red")


def _old(fact: Mapping[str, Any]) -> Text:
    if fact["p_old_before"] is None:
        return Text("–")
    return Text(f"{_p(fact['p_old_before'])} → {_p(fact['p_old_after'])}")


_COLUMNS = (
    _Column("prompt", lambda f: Text(f["prompt"])),
    _Column("first word", lambda f: Text(f"{f['first_before']} → {f['first_after']}")),
    _Column("new answer", lambda f: Text(f["target"])),
    _Column("p(new)", lambda f: Text(f"{_p(f['p_new_before'])} → {_p(f['p_new_after'])}")),
    _Column("p(old)", _old),
    _Column("said", _says),
    _Column("para", lambda f: Text(_of(f["paraphrases_after"], f["paraphrases"]))),
    _Column("kept", lambda f: Text(_of(f["neighbours_kept"], f["neighbours"]))),
)


def _caption(report: Mapping[str, Any]) -> str:
    totals = {
        "facts said": (sum(f["says_after"] for f in report["facts"]), len(report["facts"])),
        "paraphrases": (
            sum(f["paraphrases_after"] for f in report["facts"]),
            sum(f["paraphrases"] for f in report["facts"]),
        ),
        "neighbours kept": (
            sum(f["neighbours_kept"] for f in report["facts"]),
            sum(f["neighbours"] for f in report["facts"]),
        ),
    }
    parts = [f"{name} {a} of {b}" for name, (a, b) in totals.items() if b]
    before, after = report["perplexity_before"], report["perplexity_after"]
    parts.append(f"perplexity of ordinary text {before:.2f} → {after:.2f} ({after / before - 1:+.1%})")
    hidden = len(report["facts"]) - _SHOWN_FACTS
    return "; ".join(parts) + (f"; {hidden} facts not shown" if hidden > 0 else "")


def _p(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if value >= 0.005 else f"{value:.0e}" if value > 0 else "0"


def _of(part: int, whole: int) -> str:
    return f"{part}/{whole}" if whole else "–"


def patch_tables(patch: Patch) -> list[RenderableType]:
    """What a patch changes and where it belongs."""
    info = patch.info
    about = Table(title="Patch", title_justify="left", show_header=False)
    about.add_column(style="bold")
    about.add_column(overflow="fold")
    statistics = info.get("statistics") or {}
    versions = info.get("versions") or {}
    ranks = info.get("free_dimensions") or {}
    rows = {
        "model": f"{info.get('model')} ({info.get('dtype')}, fingerprint {info.get('fingerprint')})",
        "recipe": f"{info.get('recipe')} – {info.get('paper')}",
        "facts": f"{len(patch.facts)} in {len(patch.batches)} batch{'es' if len(patch.batches) != 1 else ''}",
        "statistics": f"{statistics.get('tokens')} tokens of {statistics.get('corpus_name')}",
        "dimensions free to change": ", ".join(f"layer {layer}: {rank}" for layer, rank in ranks.items()) or "all",
        "filter": ", ".join(sorted({batch.filter.kind for batch in patch.batches})) or "none",
        "prefixes": " / ".join(info.get("prefixes") or ()) or "none",
        "made": f"{info.get('created')} with " + ", ".join(f"{k} {v}" for k, v in versions.items()),
    }
    for name, value in rows.items():
        about.add_row(name, Text(value))
    return [about, _layer_table(patch), _fact_table(patch)]


def _layer_table(patch: Patch) -> Table:
    table = Table(title="Updates", title_justify="left")
    for column in ("batch", "layer", "weight", "rank", "norm of change", "reach"):
        table.add_column(column, justify="left" if column == "weight" else "right")
    modules = patch.info.get("modules") or {}
    for number, batch in enumerate(patch.batches, 1):
        for update in batch.updates:
            name = modules.get(str(update.layer), "?")
            table.add_row(
                str(number),
                str(update.layer),
                f"{name}.weight",
                str(update.R.shape[1]),
                f"{update.norm:.3g}",
                f"{update.mean_reach:.2f}" if len(update.reach) else "–",
            )
    return table


def _fact_table(patch: Patch) -> Table:
    table = Table(title="Facts", title_justify="left")
    for column in ("#", "prompt", "new answer", "old answer"):
        table.add_column(column, overflow="fold")
    for number, fact in enumerate(patch.facts[:_SHOWN_FACTS], 1):
        table.add_row(str(number), Text(fact.text), Text(fact.target), Text(fact.old_target or "–"))
    if len(patch.facts) > _SHOWN_FACTS:
        table.caption = f"{len(patch.facts) - _SHOWN_FACTS} more in manifest.json"
    return table


def recipe_table(recipes: Iterable[Recipe]) -> Table:
    """The methods and their papers."""
    table = Table(
        title="Recipes",
        title_justify="left",
        caption=f"-blue: {BLUE_PAPER}. Default: {DEFAULT}",
        caption_justify="left",
    )
    for column in ("name", "writes", "preserves", "memory", "about", "paper"):
        table.add_column(column, overflow="fold")
    for recipe in recipes:
        table.add_row(
            recipe.name,
            recipe.schedule,
            preserves(recipe),
            "yes" if recipe.memory else "no",
            recipe.about,
            recipe.paper.removeprefix("https://"),
        )
    return table


def metric_table() -> Table:
    """The metrics of `bluedit benchmark`."""
    table = Table(title="Metrics", title_justify="left")
    for head in METRIC_HEADS:
        table.add_column(head, overflow="fold")
    for row in metric_rows():
        table.add_row(*row)
    return table


def ask_table(before: Sequence[Asked], after: Sequence[Asked] | None) -> Table:
    """Continuations and next tokens; side by side when there is an edited model."""
    table = Table(show_lines=True)
    table.add_column("prompt", overflow="fold")
    table.add_column("unedited" if after else "answer", overflow="fold")
    if after:
        table.add_column("with the patch", overflow="fold")
    for i, answer in enumerate(before):
        cells = [_asked(answer)] + ([_asked(after[i])] if after else [])
        table.add_row(Text(answer.prompt), *cells)
    return table


def _asked(answer: Asked) -> Text:
    text = Text(answer.text.strip() + "\n\n")
    for token, probability in answer.top:
        text.append(f"{probability:6.1%}  {token!r}\n", "dim")
    text.rstrip()
    return text


def summary_text(edit: Edit) -> str:
    """An edit's table and totals as plain text."""
    if edit.report is None:
        return f"{len(edit.facts)} facts written with {edit.recipe.name} into layers {', '.join(map(str, edit.recipe.written))}; not measured (report=False)"
    return as_text([edit_table(edit.report.as_dict())])


def as_text(parts: Sequence[RenderableType], width: int = 120) -> str:
    """Anything rich can draw, as plain text."""
    console = Console(file=io.StringIO(), width=width, no_color=True)
    for part in parts:
        console.print(part)
    return console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]


def option_table() -> Table:
    """What --set can change in a recipe, with defaults before tuning."""
    table = Table(title="Options of a recipe (--set option=value)", title_justify="left")
    for column in OPTION_HEADS:
        table.add_column(column, overflow="fold")
    for row in option_rows():
        table.add_row(*row)
    return table


def facts_table(facts: Sequence[Fact]) -> Table:
    """Facts with what they change."""
    table = Table(title=f"{len(facts)} facts", title_justify="left")
    for column in ("prompt", "subject", "new answer", "old answer", "paraphrases", "neighbours"):
        table.add_column(column, overflow="fold")
    for fact in facts:
        counts = (str(len(fact.paraphrases)), str(len(fact.neighbours)))
        table.add_row(Text(fact.text), Text(fact.subject), Text(fact.target), Text(fact.old_target or "–"), *counts)
    return table
