"""Edits, patches and recipes as tables for a terminal, and as plain text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from bluedit.cli.reference import METRIC_HEADS, OPTION_HEADS, metric_rows, option_rows, preserves
from bluedit.evaluate.generate import Asked
from bluedit.facts import Fact
from bluedit.methods.presets import BLUE_PAPER, DEFAULT
from bluedit.methods.recipe import Recipe

if TYPE_CHECKING:
    from bluedit.editing.patch import Patch
    from bluedit.writing.batch import Origin

_SHOWN_FACTS = 30


def patch_tables(patch: Patch) -> list[RenderableType]:
    """What a patch changes and where it belongs."""
    about = Table(title="Patch", title_justify="left", show_header=False)
    about.add_column(style="bold")
    about.add_column(overflow="fold")
    rows = {
        "model": f"{patch.base.model} ({patch.base.dtype}, fingerprint {patch.base.fingerprint})",
        "facts": f"{len(patch.facts)} in {len(patch.batches)} batch{'es' if len(patch.batches) != 1 else ''}",
    }
    for number, origin in enumerate(patch.origins, 1):
        edit = f"edit {number}: " if len(patch.origins) > 1 else ""
        rows |= {edit + name: value for name, value in _origin_rows(origin).items()}
    for name, value in rows.items():
        about.add_row(name, Text(value))
    return [about, _layer_table(patch), _fact_table(patch)]


def _origin_rows(origin: Origin) -> dict[str, str]:
    """Where the batches of one edit come from."""
    about = origin.about
    statistics, versions, ranks = (about.get(name) or {} for name in ("statistics", "versions", "free_dimensions"))
    return {
        "recipe": f"{origin.recipe} – {origin.paper}",
        "tuning": origin.tuning or "none",
        "statistics": f"{statistics.get('tokens')} tokens of {statistics.get('corpus_name')}",
        "dimensions free to change": ", ".join(f"layer {layer}: {rank}" for layer, rank in ranks.items()) or "all",
        "filters": str(origin.settings.get("filters", "none")),
        "prefixes": " / ".join(origin.prefixes) or "none",
        "made": f"{about.get('created')} with " + ", ".join(f"{k} {v}" for k, v in versions.items()),
    }


def _layer_table(patch: Patch) -> Table:
    table = Table(title="Updates", title_justify="left")
    for column in ("batch", "layer", "weight", "rank", "norm of change", "reach"):
        table.add_column(column, justify="left" if column == "weight" else "right")
    for number, batch in enumerate(patch.batches, 1):
        modules = batch.origin.about.get("modules") or {}
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
            recipe.schedule.summary,
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
