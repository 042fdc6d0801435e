"""Methods and metrics as Markdown, from the rows themselves: docs/methods.md and docs/evaluation.md hold what is made here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bluedit.evaluate.metrics import METRICS, OF_A_MODEL
from bluedit.markdown import table
from bluedit.methods.presets import BLUE_PAPER, PRESETS
from bluedit.methods.recipe import Recipe, options

_SCHEDULES = {
    "spread": "all layers, one target",
    "boundary": "first and last layer, own targets",
    "single": "first layer",
}


def markdown() -> str:
    """The table of methods and the table of options."""
    rows = [_row(recipe) for name, recipe in PRESETS.items() if not name.endswith("-blue")]
    heads = ("name", "paper", "writes", "target", "preserves", "memory, filter, rounds", "when to use it")
    settable = [(f"`{path}`", f"`{default}`", meaning) for path, default, meaning in option_rows()]
    return (
        f"{table(heads, rows)}\n"
        f"Each of these but the `ft` rows also exists with `-blue` ([BLUE]({BLUE_PAPER})): the first and the last layer, each with a target of its own, "
        "everything else unchanged.\n\n"
        f"{table(OPTION_HEADS, settable)}"
    )


OPTION_HEADS = ("option", "default, before recipe and tuning", "meaning")


def option_rows() -> list[tuple[str, str, str]]:
    """(path, default, meaning with the values it may take) of every option."""
    return [(path, _shown(spec.default), _meaning(spec.metadata)) for path, spec in options()]


def _meaning(metadata: Mapping[str, Any]) -> str:
    choices = ", ".join(map(_shown, metadata.get("choices", ())))
    return metadata["help"] + (f" ({choices})" if choices else "")


def metric_rows() -> list[tuple[str, str, str, str, str]]:
    """(name, meaning, unit with an arrow to what is better, teacher-forced, source) of every metric."""
    arrow = {"higher": "↑", "lower": "↓", "": ""}
    return [
        (name, m.definition, f"{m.unit} {arrow[m.better]}", "yes" if m.teacher_forced else "no", m.source)
        for name, m in (METRICS | OF_A_MODEL).items()
    ]


METRIC_HEADS = ("metric", "meaning", "unit", "teacher-forced", "source")


def metric_markdown() -> str:
    """The table of metrics."""
    return table(METRIC_HEADS, [(f"`{name}`", *rest) for name, *rest in metric_rows()])


def preserves(recipe: Recipe) -> str:
    """What an update leaves alone, in a few words."""
    if recipe.update == "finetune":
        return "–"
    preserve = recipe.preserve
    what = {"all": "", "null": "the null space of C only; ", "neurons": "the strongest neurons only; "}[
        preserve.subspace
    ]
    gram = ("C, exactly met" if preserve.slack == 0 else "lambda C") if preserve.gram == "C" else "L2 I"
    return what + gram + (" + M" if recipe.memory else "")


def _row(recipe: Recipe) -> tuple[str, ...]:
    number = recipe.paper.rsplit("/", 1)[-1]
    writes = _SCHEDULES[recipe.schedule] + (", square-root shares" if recipe.share_power == 0.5 else "")
    return (
        f"`{recipe.name}`",
        f"[{number}]({recipe.paper})",
        writes,
        _target(recipe),
        preserves(recipe),
        _rest(recipe),
        f"{recipe.about}. {recipe.use[0].upper()}{recipe.use[1:]}",
    )


def _target(recipe: Recipe) -> str:
    objective = recipe.objective
    if recipe.update == "finetune":
        return "none: gradient descent on the weight"
    where = {"block": "block output", "mlp": "MLP output"}[objective.site]
    return (
        where
        + (" with attention output" if objective.attention else "")
        + (", on the unedited weights" if objective.weights == "unedited" else "")
    )


def _rest(recipe: Recipe) -> str:
    parts = ["remembers edited keys"] if recipe.memory else []
    parts += ["one fact after another"] if recipe.sequential else []
    parts += [f"filter `{recipe.filter.kind}`"] if recipe.filter.kind != "none" else []
    parts += [f"{recipe.rounds.count} rounds"] if recipe.rounds.count > 1 else []
    return ", ".join(parts) or "–"


def _shown(value: object) -> str:
    if value == ():
        return "by model"
    return str(value).lower() if isinstance(value, bool) else str(value)
