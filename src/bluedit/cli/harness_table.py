"""Results of lm-evaluation-harness as a table, before and after an edit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bluedit.evaluate.tables import NONE, Column, Listing

_ARROWS = {True: " ↑", False: " ↓"}


def harness_table(
    before: Mapping[str, Any], after: Mapping[str, Any] | None = None, *, details: bool = False
) -> Listing:
    """Every metric of every task, from results of `evaluate_tasks`; ± is lm-eval's standard error, the arrow says what is better.

    Args:
        details: also the numbers of items and of examples before each question.
    """
    counts = [Column("items", True), Column("shots", True)] if details else []
    scores = ("unedited", "with the patch", "change") if after else ("value",)
    rows = []
    for task in sorted(before["results"], key=lambda name: name not in before.get("groups", {})):
        found = before["results"][task]
        for metric, value, error in _metrics(found):
            cells = [_cell(value, error)]
            if after:
                later = after["results"][task]
                cells += [_cell(later[metric], later.get(_error_of(metric))), _change(value, later[metric])]
            items = before.get("n-samples", {}).get(task, {}).get("effective", "")
            shots = before.get("n-shot", {}).get(task, "")
            how = [str(items), str(shots)] if details else []
            rows.append([str(found.get("alias", task)), _title(metric, before, task), *how, *cells])
    columns = [Column("task"), Column("metric"), *counts, *(Column(score, True) for score in scores)]
    notes = ["↑ higher is better, ↓ lower is better; ± one standard error"]
    return Listing("lm-evaluation-harness", columns, rows, notes)


def _metrics(scores: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """(name, value, standard error) of one task; lm-eval's names are "metric,filter"."""
    for metric, value in scores.items():
        if "," in metric and "_stderr," not in metric:
            yield metric, value, scores.get(_error_of(metric))


def _error_of(metric: str) -> str:
    name, _, part = metric.partition(",")
    return f"{name}_stderr,{part}"


def _title(metric: str, results: Mapping[str, Any], task: str) -> str:
    name, _, part = metric.partition(",")
    arrow = _ARROWS.get(results.get("higher_is_better", {}).get(task, {}).get(name), "")
    return name + arrow + (f" ({part})" if part != "none" else "")


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _cell(value: Any, error: Any) -> str:
    if not _number(value):
        return str(value)
    return _short(value) + (f" ± {_short(error)}" if _number(error) else "")


def _change(before: Any, after: Any) -> str:
    return _short(after - before, "+") if _number(before) and _number(after) else NONE


def _short(value: float, sign: str = "") -> str:
    return format(value, f"{sign}.3f" if abs(value) < 1000 else f"{sign}.3g")
