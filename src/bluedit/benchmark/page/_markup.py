"""Names and values of metrics as HTML, used by all parts of the page."""

from __future__ import annotations

import html
from collections.abc import Mapping

from bluedit.evaluate.metrics import METRICS, NUMBER, OF_A_MODEL, SCORE, Metric

COLUMNS: Mapping[str, Metric] = {SCORE: OF_A_MODEL[SCORE], **METRICS, "perplexity": OF_A_MODEL["perplexity"]}


def head(name: str) -> str:
    """A column's head: the metric's name, and an arrow towards the better values."""
    metric = COLUMNS[name]
    return f'<span title="{html.escape(metric.definition)}">{label(name)}\N{NO-BREAK SPACE}{metric.arrow}</span>'


def label(name: str) -> str:
    """A metric's name as words."""
    return html.escape(name.replace("_", " "))


def shown(value: float, name: str) -> str:
    """A metric's value; empty where there is none. A large number without a unit is shortened."""
    if COLUMNS[name].unit is NUMBER and value >= 1000:
        return f"{value:,.0f}" if value < 1e7 else f"{value:.0e}"
    return COLUMNS[name].shown(value)
