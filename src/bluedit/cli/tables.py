"""Facts, answers, recipes and metrics as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from rich.text import Text

from bluedit.cli.common import count
from bluedit.cli.reference import METRIC_HEADS, option_rows, part_rows, preserves
from bluedit.evaluate.data import Asked
from bluedit.evaluate.metrics import METRICS, OF_A_MODEL
from bluedit.evaluate.tables import NONE, Column, Listing, Record, Records
from bluedit.facts import Companion, Fact
from bluedit.methods.presets import BLUE_PAPER, DEFAULT, PRESETS
from bluedit.methods.recipe import Recipe


def recipe_table(*, details: bool = False) -> Listing | Records:
    """The methods; in detail also what each writes and preserves, when to use it, and its paper."""
    default = f"Default: {DEFAULT}."
    if details:
        records = [Record(recipe.name, _recipe_fields(recipe)) for recipe in PRESETS.values()]
        return Records("Recipes", records, ["", f"-blue: {BLUE_PAPER}", default])
    rows = []
    for name, recipe in PRESETS.items():
        host = name.removesuffix("-blue")
        if host == name or host not in PRESETS:
            rows.append((name, f"{name}-blue" if f"{name}-blue" in PRESETS else NONE, recipe.about))
    notes = [
        "-blue: the same method on the first and the last layer only, each with its own target.",
        f"{default} Papers, and when to use which recipe: bluedit recipes --details",
    ]
    return Listing("Recipes", (Column("name"), Column("with BLUE"), Column("method")), rows, notes)


def _recipe_fields(recipe: Recipe) -> dict[str, str]:
    return {
        "method": recipe.about,
        "use": recipe.use,
        "layers": recipe.schedule.summary,
        "target": recipe.objective.summary if recipe.update.preserve else "none",
        "preserves": preserves(recipe),
        "memory": "yes" if recipe.memory else "no",
        "paper": recipe.paper,
    }


def part_table() -> Listing:
    """What a recipe can be composed of."""
    notes = ["'--set schedule=single' replaces a part. The options of parts: bluedit recipes --options"]
    return Listing("Parts of a recipe", (Column("part"), Column("what it does")), part_rows(), notes)


def option_table() -> Listing:
    """What --set can change in a recipe."""
    notes = [
        "Set an option with '--set option=value'. Recipes and the model's tuning may have other defaults.",
        "(schedule=spread) marks an option that exists only with that part. All parts: bluedit recipes --parts",
    ]
    return Listing(
        "Options of a recipe", (Column("option"), Column("default"), Column("meaning")), option_rows(), notes
    )


def metric_table(*, details: bool = False) -> Listing | Records:
    """The metrics of `bluedit benchmark`; in detail with units and sources."""
    metrics = METRICS | OF_A_MODEL
    if details:
        heads = METRIC_HEADS[1:]
        records = []
        for name, metric in metrics.items():
            forced = "yes" if metric.teacher_forced else "no"
            values = (metric.definition, f"{metric.unit} {metric.arrow}".strip(), forced, metric.source)
            records.append(Record(name, dict(zip(heads, values, strict=True))))
        return Records("Metrics", records)
    rows = [(name, metric.arrow, metric.definition) for name, metric in metrics.items()]
    notes = ["↑ higher is better, ↓ lower is better. Units and sources: bluedit metrics --details"]
    return Listing("Metrics", (Column("metric"), Column(""), Column("meaning")), rows, notes)


def ask_table(before: Sequence[Asked], after: Sequence[Asked] | None = None) -> Records:
    """Continuations and most probable next tokens, without and with a patch."""
    records = []
    for one, other in zip_longest(before, after or ()):
        fields = {"unedited" if after else "answer": _answer(one)}
        if other:
            fields["with the patch"] = _answer(other)
        records.append(Record(one.prompt, fields))
    return Records("", records)


def _answer(asked: Asked) -> Text:
    text = Text(f"{asked.text.strip()}\n")
    return text.append(", ".join(f"{token!r} {probability:.1%}" for token, probability in asked.top), "dim")


def facts_table(facts: Sequence[Fact], *, details: bool = False) -> Listing | Records:
    """Facts with what they change; in detail with everything that a record of them holds."""
    title = count(len(facts), "fact")
    if details:
        return Records(title, [Record(f"{fact.text} => {fact.target}", _fact_fields(fact)) for fact in facts])
    rows = [(fact.text, fact.target, fact.old_target or NONE) for fact in facts]
    return Listing(title, (Column("prompt"), Column("new answer"), Column("old answer")), rows)


def companions_table(companions: Sequence[Companion], facts: Sequence[Fact]) -> Listing:
    """What follows from facts, numbered."""
    rows = [
        (str(i), one.rule, one.fact.text, one.fact.target, f"{facts[one.of].text} => {facts[one.of].target}")
        for i, one in enumerate(companions, 1)
    ]
    heads = (Column("no."), Column("rule"), Column("prompt"), Column("answer"), Column("follows from"))
    return Listing(count(len(companions), "companion"), heads, rows)


def _fact_fields(fact: Fact) -> dict[str, str]:
    values = {
        "id": fact.id,
        "subject": fact.subject,
        "old answer": fact.old_target or "",
        "phrasings": "\n".join(fact.texts[1:]),
        "paraphrases": "\n".join(fact.paraphrases),
        "neighbours": "\n".join(f"{n.prompt} => {n.answer}" if n.answer else n.prompt for n in fact.neighbours),
        "probes": str(len(fact.probes) or ""),
        "references": str(len(fact.references) or ""),
    }
    return {name: value for name, value in values.items() if value}
