"""What the parts of a run's page have in common: the metrics' names and values, and tables, as HTML."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from bluedit.evaluate.metrics import METRICS, OF_A_MODEL, Metric

COLUMNS: Mapping[str, Metric] = {"score": OF_A_MODEL["score"], **METRICS, "perplexity": OF_A_MODEL["perplexity"]}


def table(title: str, about: str, heads: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """A table under a heading; heads and cells are HTML, and the first column stays in sight."""
    top = "".join(f'<th scope="col">{head}</th>' for head in heads)
    body = "".join(f'<tr><th scope="row">{name}</th>{"".join(cells)}</tr>' for name, cells in rows)
    return (
        f"<h3>{title}</h3>{f'<p>{about}</p>' if about else ''}"
        f'<div class="wide" tabindex="0" role="group" aria-label="{title}">'
        f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def head(name: str) -> str:
    """A column's head: what the metric is called, and which way is better."""
    metric = COLUMNS[name]
    return f'<span title="{html.escape(metric.definition)}">{label(name)}\N{NO-BREAK SPACE}{metric.arrow}</span>'


def label(name: str) -> str:
    """A metric's name in words."""
    return html.escape(name.replace("_", " "))


def shown(value: float, name: str) -> str:
    """A metric's value; empty where there is none."""
    if name == "perplexity" and value >= 1000:
        return f"{value:,.0f}" if value < 1e7 else f"{value:.0e}"
    return COLUMNS[name].shown(value)


def signed(value: float, digits: int) -> str:
    """A difference."""
    return f"{round(value, digits) + 0.0:+,.{digits}f}".replace("-", "−")
