"""Methods and metrics as table rows and as Markdown, generated from the code. docs/methods.md and docs/evaluation.md contain the Markdown."""

from __future__ import annotations

from typing import Any

from bluedit.evaluate.metrics import METRICS, OF_A_MODEL
from bluedit.markdown import table
from bluedit.methods.parts import every_option, every_part
from bluedit.methods.presets import BLUE_PAPER, PRESETS
from bluedit.methods.recipe import Recipe
from bluedit.methods.schedules import Boundary

PART_HEADS = ("part", "what it does")
OPTION_HEADS = ("option", "default, before recipe and tuning", "meaning")
METRIC_HEADS = ("metric", "meaning", "unit", "teacher-forced", "source")


def markdown() -> str:
    """The tables of methods, parts and options."""
    hosts = [recipe for recipe in PRESETS.values() if not isinstance(recipe.schedule, Boundary)]
    heads = ("name", "paper", "layers", "target", "preserves", "memory, filters, rounds", "when to use it")
    parts = [(f"`{path}`", about) for path, about in part_rows()]
    options = [(f"`{path}`", f"`{default}`", meaning) for path, default, meaning in option_rows()]
    return (
        f"{table(heads, map(_row, hosts))}\n"
        f"All of these except `ft` and `ft-local` also exist with `-blue` ([BLUE]({BLUE_PAPER})): only the first and the last layer are written, "
        "each with its own target, and everything else is unchanged.\n\n"
        "A recipe is composed of these parts. `--set schedule=single` replaces one.\n\n"
        f"{table(PART_HEADS, parts)}\n"
        "Each part has its own options. Options of parts that a recipe does not have are refused.\n\n"
        f"{table(OPTION_HEADS, options)}"
    )


def part_rows() -> list[tuple[str, str]]:
    """(slot=kind, what it does) of every registered part."""
    return [(f"{slot}={kind}", part.about()) for slot, kind, part in every_part()]


def option_rows() -> list[tuple[str, str, str]]:
    """(path, default, meaning with the values it may take) of every option of every registered part."""
    return [(path, _shown(default), _of(owner) + what.meaning) for path, what, default, owner in every_option()]


def _of(owners: tuple[str, ...]) -> str:
    return f"({' or '.join(owners)}) " if owners else ""


def metric_rows() -> list[tuple[str, str, str, str, str]]:
    """(name, meaning, unit with an arrow to what is better, teacher-forced, source) of every metric."""
    return [
        (name, m.definition, f"{m.unit} {m.arrow}", "yes" if m.teacher_forced else "no", m.source)
        for name, m in (METRICS | OF_A_MODEL).items()
    ]


def metric_markdown() -> str:
    """The table of metrics."""
    return table(METRIC_HEADS, [(f"`{name}`", *rest) for name, *rest in metric_rows()])


def preserves(recipe: Recipe) -> str:
    """What an update leaves alone, in a few words."""
    return recipe.update.summary + (" + M" if recipe.memory else "")


def _row(recipe: Recipe) -> tuple[str, ...]:
    number = recipe.paper.rsplit("/", 1)[-1]
    return (
        f"`{recipe.name}`",
        f"[{number}]({recipe.paper})",
        recipe.schedule.summary,
        recipe.objective.summary if recipe.update.preserve else "none: gradient descent on the weight",
        preserves(recipe),
        _rest(recipe),
        f"{recipe.about}. {recipe.use[0].upper()}{recipe.use[1:]}",
    )


def _rest(recipe: Recipe) -> str:
    parts = ["remembers edited keys"] if recipe.memory else []
    parts += ["one fact after another"] if recipe.sequential else []
    parts += [f"filter `{f.kind}`" + (" with feedback" if f.feedback else "") for f in recipe.update.filters]
    rounds = recipe.settings().get("rounds.count", 1)
    parts += [f"{rounds} rounds"] if rounds > 1 else []
    parts += ["refined"] if recipe.update.refines else []
    return ", ".join(parts) or "–"


def _shown(value: Any) -> str:
    if value == ():
        return "by model"
    return str(value).lower() if isinstance(value, bool) else str(value)
